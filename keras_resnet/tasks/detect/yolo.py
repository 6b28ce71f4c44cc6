"""YOLO: a text file for each image, and a YAML file with the names of the classes.

A line is a class and a box, `class centre-x centre-y width height`, or a class and a polygon, `class x y x y x y ...`,
all as shares of the sides of the image. The text file of images/train/1.jpg is labels/train/1.txt, and the text file of
1.jpg is 1.txt, where there is no folder images/.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_resnet.data.layout import SPLIT_NAMES, split_named, walk_images
from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ArgumentError, reason
from keras_resnet.image_files import is_hidden
from keras_resnet.optional import require
from keras_resnet.regular_files import open_regular, read_regular, read_text
from keras_resnet.tasks.detect.outlines import EXTRA
from keras_resnet.tasks.detect.stated import Annotations, Corners, Picture, Stated, box_around, numbers

YAML_SUFFIXES = (".yaml", ".yml")
LARGEST_YAML_BYTES = 1_000_000  # names of thousands of classes are far below it
IMAGES, LABELS = "images", "labels"
LISTS_OF_NAMES = ("classes.txt", "obj.names")  # a class in each line, as labelImg and CVAT write them
HEAD_BYTES = 1 << 12


@dataclass(frozen=True)
class _Set:
    """Where the parts of a set are."""

    root: Path
    images: Mapping[str | None, Sequence[Path]]  # split -> folders of images, or lists of image files
    names: Sequence[str] | None
    named_in: str


def is_yolo(path: Path) -> bool:
    """Path -> whether it is a folder with label files of YOLO, or a YAML file that names classes and images."""
    if path.is_file():
        content = _yaml(path) if path.suffix.lower() in YAML_SUFFIXES else None
        return isinstance(content, dict) and "names" in content and "train" in content
    return path.is_dir() and any(_has_labels(folder) for folder in _label_folders(path))


def read_yolo(path: Path) -> Annotations:
    """Folder or YAML file of YOLO -> its images and what the label files state about them.

    Raises:
        ArgumentError: The YAML file can't be read, names no classes, or names folders that are not there.
    """
    found, aside = _set_of(path), LeftAside()
    pictures, used = [], set()
    for split, places in found.images.items():
        for place in places:
            for image in _images_in(place, found.root, aside):
                label = label_file_of(image)
                used.add(label)
                text = _text_of(found.root / label)
                objects = [] if text is None else [*_objects(text, found.names)]
                pictures.append(Picture(image, split, None, objects, relative=True))
    for folder in _label_folders(found.root):
        for name in sorted(os.listdir(folder)):
            file = os.path.relpath(folder / name, found.root)
            if _is_label(name) and file not in used:
                aside.add("label file without an image", file)
    words = f", class names in {found.named_in}" if found.named_in else ", classes by their numbers"
    names = found.names if found.names is not None else _numbers_as_names(pictures)
    return Annotations(found.root, f"YOLO: label files{words}", pictures, names, aside)


def label_file_of(image: str) -> str:
    """Path of an image -> path of its label file: the last folder images/ becomes labels/, or both lie side by side."""
    folders = os.path.dirname(image).split("/")
    for place in reversed(range(len(folders))):
        if folders[place].lower() == IMAGES:
            folders[place] = LABELS
            break
    return os.path.join("/".join(folders), os.path.splitext(os.path.basename(image))[0] + ".txt")


def _set_of(path: Path) -> _Set:
    file = path if path.is_file() else _yaml_in(path)
    if file is None:
        return _Set(path, _image_folders(path), *_listed_names(path))
    content = _yaml(file)
    names = _names(file, content)
    root = file.parent
    stated = content.get("path")
    if isinstance(stated, str) and os.path.isdir(root / stated):
        root = root / stated
    images = {split: _stated_places(root, content, split) for split in SPLIT_NAMES}
    there: dict[str | None, list[Path]] = {split: places for split, places in images.items() if places}
    if "train" not in there:
        there = _image_folders(file.parent)
        root = file.parent
    if not there:
        raise ArgumentError(
            f"{file}: its `train` must name the folder of the training images, below {root}. "
            f"Received: {str(content.get('train'))[:200]}"
        )
    return _Set(root, there, names, file.name)


def _stated_places(root: Path, content: Mapping[str, Any], split: str) -> list[Path]:
    """YAML content -> places of a split that are there. Roboflow writes ../train/images for train/images."""
    stated: Any = next((content[name] for name in SPLIT_NAMES[split] if content.get(name)), [])
    places = []
    for place in stated if isinstance(stated, list) else [stated]:
        if isinstance(place, str):
            there = [each for each in (root / place, root / place.removeprefix("../")) if os.path.exists(each)]
            places += there[:1]
    return places


def _yaml_in(folder: Path) -> Path | None:
    """Folder -> the YAML file in it that names classes."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in YAML_SUFFIXES and file.is_file())
    files = [file for file in files if not is_hidden(file.name)]
    found = [file for file in files if isinstance(content := _yaml(file), dict) and "names" in content]
    if len(found) > 1:
        raise ArgumentError(
            f"{folder}: {' and '.join(file.name for file in found)} both name classes. Name the one that you mean: "
            f"{found[0]}"
        )
    return found[0] if found else None


def _yaml(file: Path) -> Any:
    """YAML file -> its content: texts, numbers, lists and mappings, never objects.

    Raises:
        ArgumentError: It can't be read, or has aliases, by which a few lines can fill the memory.
        MissingDependencyError: PyYAML is not installed.
    """
    yaml = require("yaml", EXTRA)
    try:
        text = read_regular(file, LARGEST_YAML_BYTES).decode("utf-8-sig")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ArgumentError(f"{file}: must have no aliases (*name). Write the values out")
        return yaml.safe_load(text)
    except OSError as error:
        raise ArgumentError(f"{file}: {error.strerror or error}") from error
    except ArgumentError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise ArgumentError(f"{file}: not a YAML file of texts, numbers and lists: {reason(error)}") from error


def _names(file: Path, content: Any) -> list[str]:
    """Content of a YAML file -> names of the classes, from a list, or from a mapping of numbers."""
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        wanted = [*range(len(names))]
        if sorted(names, key=str) == sorted(wanted, key=str):
            names = [names[number] for number in wanted]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int | float) for name in names):
        raise ArgumentError(
            f"{file}: `names` must be a list of names, or a mapping of 0, 1, 2 and so on to names. "
            f"Received: {str(names)[:200]}"
        )
    texts = [str(name) for name in names]
    if len({*texts}) < len(texts):
        raise ArgumentError(f"{file}: `names` must have no name twice. Received: {', '.join(texts)[:200]}")
    return texts


def _listed_names(root: Path) -> tuple[list[str] | None, str]:
    """Root -> names of the classes in a text file, if there is one, and the name of that file."""
    for place in (root, root / LABELS):
        for name in LISTS_OF_NAMES:
            if (place / name).is_file():
                lines = [line.strip() for line in read_text(place / name, errors="replace").splitlines()]
                return [line for line in lines if line], name
    return None, ""


def _numbers_as_names(pictures: Sequence[Picture]) -> list[str]:
    found = {each.class_name for picture in pictures for each in picture.objects if each.class_name is not None}
    return sorted(found, key=int)


def _image_folders(root: Path) -> dict[str | None, list[Path]]:
    """Root -> folders of images of each split: images/train, or train/images, or train; None: there are no splits."""
    for parent in (root / IMAGES, root):
        if not parent.is_dir():
            continue
        splits: dict[str | None, list[Path]] = {
            split: [parent / name / IMAGES if (parent / name / IMAGES).is_dir() else parent / name]
            for name in sorted(os.listdir(parent))
            if (split := split_named(name)) is not None and (parent / name).is_dir()
        }
        if "train" in splits:
            return splits
    return {None: [root / IMAGES if (root / IMAGES).is_dir() else root]}


def _images_in(place: Path, root: Path, aside: LeftAside) -> Iterator[str]:
    """Folder of images, or a text file that lists them -> the images, relative to the root where they are below it."""
    if place.is_file():
        for line in read_text(place, errors="surrogateescape").splitlines():
            if line.strip():
                yield os.path.relpath(place.parent / line.strip().removeprefix("./"), root)
        return
    for file in sorted(walk_images(place, ".", aside, lambda path: not _is_label(path))):
        yield os.path.relpath(os.path.normpath(place / file), root)


def _label_folders(root: Path) -> Iterator[Path]:
    """Root -> folders in which label files may be."""
    folders = {LABELS, *(name for name in os.listdir(root) if split_named(name) is not None)}
    yield root
    for name in sorted(folders):
        for place in (root / name, root / name / LABELS):
            if place.is_dir():
                yield place
        if name == LABELS and (root / LABELS).is_dir():
            inner = sorted(each for each in os.listdir(root / LABELS) if split_named(each) is not None)
            yield from (root / LABELS / each for each in inner if (root / LABELS / each).is_dir())


def _is_label(name: str) -> bool:
    base = os.path.basename(name)
    return base.endswith(".txt") and base not in LISTS_OF_NAMES and not is_hidden(base)


def _has_labels(folder: Path) -> bool:
    """Whether the first label file with a line, in the order of names, has the form of YOLO."""
    for name in sorted(filter(_is_label, os.listdir(folder))):
        try:
            with open_regular(folder / name) as stream:
                lines = stream.read(HEAD_BYTES).decode("utf-8", "replace").split("\n")
        except OSError:
            continue
        cells = lines[0].split()
        if cells:
            values = numbers(cells)
            return values is not None and len(values) >= 5 and cells[0].isdecimal()
    return False


def _text_of(file: Path) -> str | None:
    """Label file -> its text; None: there is none, so that the image has no objects."""
    try:
        return read_text(file, errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArgumentError(f"{file}: {error.strerror or error}") from error


def _objects(text: str, names: Sequence[str] | None) -> Iterator[Stated]:
    for number, line in enumerate(text.splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        values = numbers(cells[1:])
        corners: Corners | None = None
        outline = None
        if values is not None and len(values) == 4:
            x, y, width, height = values
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        elif values is not None and len(values) >= 6 and len(values) % 2 == 0:
            corners, outline = box_around(values), [[*values]]
        yield Stated(f"line {number}", _name_of(cells[0], names), corners, outline)


def _name_of(cell: str, names: Sequence[str] | None) -> str | None:
    """Number of a class as a text, their names -> its name; without names, the number."""
    if not cell.isdecimal() or not cell.isascii() or len(cell) > 6:
        return None
    if names is None:
        return str(int(cell))
    return names[int(cell)] if int(cell) < len(names) else None
