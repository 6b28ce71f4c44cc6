"""COCO files: boxes, polygons and run-length masks of the objects in images, for all images in one JSON file.

The form of the file is on https://cocodataset.org/#format-data. Ids of categories may have gaps. The order of the
categories is the order of their ids.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_resnet.data.annotations import COCO_FILE, read_json
from keras_resnet.data.layout import split_named
from keras_resnet.data.pairs import IMAGE_FOLDERS, MASK_FOLDERS
from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ArgumentError, reason
from keras_resnet.image_files import is_hidden
from keras_resnet.tasks.detect.outlines import box_of_runs, is_runs
from keras_resnet.tasks.detect.stated import Annotations, Corners, Picture, Stated, box_around, numbers, stated_size

ANNOTATIONS, INSTANCES = "annotations", "instances"  # usual folder of the files, and start of their names
SAMPLE = 100  # images by which the folder of all images is found
DEPTH = 2  # levels of folders that are searched for the images


def is_coco(path: Path) -> bool:
    """Path -> whether it is a COCO file with boxes or outlines, or a folder with such a file for a split."""
    return bool(_files(path))


def read_coco(path: Path) -> Annotations:
    """COCO file, or folder with one for each split -> its images and what it states about them.

    Raises:
        ArgumentError: An image or a category lacks its id or name, or the images can't be told from others.
    """
    files, aside = _files(path), LeftAside()
    root = path if path.is_dir() else path.parent.parent if path.parent.name.lower() == ANNOTATIONS else path.parent
    names: dict[str, None] = {}
    pictures: list[Picture] = []
    for split, file in files.items():
        content = read_json(file)
        categories = _categories(file, content)
        names |= dict.fromkeys(categories.values())
        pictures += _pictures(file, content, categories, root, split, path.is_dir(), aside)
    shown = ", ".join(os.path.relpath(file, root) for file in files.values())
    return Annotations(root, f"COCO: boxes of {shown}", pictures, (*names,), aside)


def _files(path: Path) -> dict[str, Path]:
    """Path -> COCO file of each split; nothing, if none of them has an object.

    A file that is named itself is of the split in its name, or of train.
    """
    if path.is_file():
        content = _content(path)
        return {} if content is None or not _has_objects(content) else {_split_in(path.name) or "train": path}
    if not path.is_dir():
        return {}
    found: dict[str, list[Path]] = {}
    for split, file in _candidates(path):
        found.setdefault(split, []).append(file)
    files, has_objects = {}, False
    for split, several in found.items():
        chosen = [file for file in several if file.name.startswith(INSTANCES)] or several
        contents = {file: content for file in chosen if (content := _content(file)) is not None}
        if len(contents) > 1:
            raise ArgumentError(
                f"{path}: {' and '.join(os.path.relpath(file, path) for file in contents)} can both be the COCO file "
                f"of {split}. Name the one that you mean, or move the other one away"
            )
        for file, content in contents.items():
            files[split] = file
            has_objects |= _has_objects(content)
    return files if has_objects else {}


def _candidates(folder: Path) -> Iterator[tuple[str, Path]]:
    """Folder -> JSON files whose name, or whose folder, is of a split."""
    for place in (folder, folder / ANNOTATIONS):
        if place.is_dir():
            for file in sorted(place.glob("*.json")):
                if (split := _split_in(file.name)) is not None and not is_hidden(file.name):
                    yield split, file
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        split = split_named(entry.name)
        if split is not None and (folder / entry.name / COCO_FILE).is_file():
            yield split, folder / entry.name / COCO_FILE


def _split_in(name: str) -> str | None:
    """Name of a file, such as instances_train2017.json -> the split in it."""
    return next((split for word in re.findall("[a-z]+", name.lower()) if (split := split_named(word))), None)


def _content(file: Path) -> Mapping[str, Any] | None:
    """Path -> content of the COCO file; None: it is none."""
    if file.suffix.lower() != ".json":
        return None
    try:
        content = read_json(file)
    except ArgumentError:
        return None
    lists = ("images", "annotations", "categories")
    is_one = isinstance(content, dict) and all(isinstance(content.get(name), list) for name in lists)
    return content if is_one else None


def _has_objects(content: Mapping[str, Any]) -> bool:
    return any(
        isinstance(entry, dict) and (entry.get("bbox") or entry.get("segmentation")) for entry in content["annotations"]
    )


def _categories(file: Path, content: Mapping[str, Any]) -> dict[Any, str]:
    try:
        named = sorted((int(entry["id"]), str(entry["name"])) for entry in content["categories"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(
            f"{file}: each category must have a whole number as id, and a name ({reason(error)}). Export the file again"
        ) from error
    return dict(named)


def _pictures(
    file: Path,
    content: Mapping[str, Any],
    categories: Mapping[Any, str],
    root: Path,
    split: str,
    has_splits: bool,
    aside: LeftAside,
) -> Iterator[Picture]:
    try:
        images = {entry["id"]: (str(entry["file_name"]).replace("\\", "/"), entry) for entry in content["images"]}
    except (KeyError, TypeError) as error:
        raise ArgumentError(
            f"{file}: each image must have an id and a file_name ({reason(error)}). Export the file again"
        ) from error
    folder = _image_folder(file, root, [name for name, _ in images.values()], split)
    objects: dict[Any, list[Stated]] = {key: [] for key in images}
    for number, entry in enumerate(content["annotations"], start=1):
        image = entry.get("image_id") if isinstance(entry, dict) else None
        if not isinstance(image, int | str) or image not in objects:
            aside.add("annotation of an image that the COCO file does not list", f"{file.name}, annotation {number}")
            continue
        objects[image].append(_stated(entry, f"annotation {number}", categories))
    for key, (name, entry) in images.items():
        size = stated_size(entry.get("height"), entry.get("width"))
        yield Picture(os.path.join(folder, name), split if has_splits else None, size, objects[key])


def _stated(entry: Mapping[str, Any], place: str, categories: Mapping[Any, str]) -> Stated:
    category = entry.get("category_id")
    name = categories.get(category) if type(category) is int else None
    outline = entry.get("segmentation") or None
    return Stated(place, name, _corners(entry.get("bbox"), outline), outline, bool(entry.get("iscrowd")))


def _corners(box: Any, outline: Any) -> Corners | None:
    """`[left, top, width, height]`, outline -> corners; without a box, the corners of the outline."""
    if isinstance(box, list) and len(box) == 4:
        found = numbers(box)
        return found and (found[0], found[1], found[0] + found[2], found[1] + found[3])
    if is_runs(outline):
        return box_of_runs(outline)
    if isinstance(outline, list) and all(isinstance(polygon, list) for polygon in outline):
        points = numbers(value for polygon in outline for value in polygon)
        return box_around(points) if points and len(points) % 2 == 0 else None
    return None


def _image_folder(file: Path, root: Path, names: list[str], split: str) -> str:
    """COCO file, names of its images -> the folder, below the root, that has the most of them.

    Raises:
        ArgumentError: Several folders have them, and neither the split nor a usual name tells which one is meant.
    """
    sample = names[:: max(1, len(names) // SAMPLE)]
    counts = {place: sum(os.path.isfile(root / place / name) for name in sample) for place in _folders(root)}
    best = [place for place, count in counts.items() if count == max(counts.values()) > 0]
    for is_meant in (
        lambda place: place == os.path.relpath(file.parent, root),
        lambda place: split in map(_split_in, place.split("/")),
        lambda place: place.rpartition("/")[2].lower() in IMAGE_FOLDERS,
    ):
        best = [place for place in best if is_meant(place)] or best
    if len(best) > 1:
        raise ArgumentError(
            f"{file}: its images are in several folders below {root}: {', '.join(best)}. Write the folder into the "
            "names of the images, or keep one of the folders"
        )
    return "" if not best or best[0] == "." else best[0]


def _folders(root: Path) -> Iterator[str]:
    """Root -> itself and the folders below it in which images may lie, relative to it."""
    yield "."
    pending = [("", 0)]
    while pending:
        place, depth = pending.pop()
        for entry in sorted(os.scandir(root / place), key=lambda entry: entry.name):
            if entry.is_dir() and not is_hidden(entry.name) and entry.name.lower() not in MASK_FOLDERS:
                yield (inner := os.path.join(place, entry.name))
                if depth + 1 < DEPTH:
                    pending.append((inner, depth + 1))
