"""Pascal VOC: an XML file for each image, and lists of names for the splits in `ImageSets/Main`."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from keras_resnet.data.layout import split_named, walk_images
from keras_resnet.data.pairs import NO_LIST, names_in
from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ArgumentError
from keras_resnet.image_files import is_hidden
from keras_resnet.plain_xml import read_xml
from keras_resnet.tasks.detect.stated import Annotations, Picture, Stated, numbers, stated_size

XML_FOLDER = "annotations"  # in any case
LISTS = ("ImageSets", "Main")
ROOT = "annotation"  # name of the first element
LOOKED_AT = 10  # files by which Pascal VOC is known
LARGEST_BYTES = 10_000_000  # size of one XML file
NO_XML = "image without an XML file"
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc(path: Path) -> bool:
    """Path -> whether it is a folder with XML files of Pascal VOC, or with splits of such folders."""
    files = (file for _, place in _places(path) for file in _xml_files(place))
    for file in itertools.islice(files, LOOKED_AT):
        with contextlib.suppress(ArgumentError):  # a damaged file is refused when all are read
            return read_annotation(file).tag == ROOT
    return False


def read_voc(path: Path) -> Annotations:
    """Folder of Pascal VOC -> its images and what the XML files state about them.

    Raises:
        ArgumentError: A file is no XML, has a document type, or is no annotation of an image.
    """
    aside = LeftAside()
    images = _images_by_stem(path, aside)
    lists = _lists(path)
    listed = {name: split for split, names in lists.items() for name in sorted(names)}
    pictures, found = [], set()
    for folder_split, place in _places(path):
        for file in _xml_files(place):
            # In a split's folder, images of two splits may share a name.
            image = images.get((folder_split, file.stem))
            found.add((folder_split, file.stem))
            if lists and file.stem not in listed:
                aside.add(NO_LIST, os.path.relpath(file, path))
            elif image is None:
                aside.add("XML file without its image", os.path.relpath(file, path))
            else:
                pictures.append(_picture(file, image, listed.get(file.stem) if lists else folder_split))
    for key in sorted({*images} - found, key=str):
        aside.add(NO_XML, images[key])
    for name in sorted({*listed} - {stem for _, stem in found}):
        aside.add(f"name in {'/'.join(LISTS)} without an XML file", name)
    where = f" and lists in {'/'.join(LISTS)}/" if lists else ""
    return Annotations(path, f"Pascal VOC: boxes of XML files{where}", pictures, None, aside)


def read_annotation(file: Path) -> Element:
    """XML file -> its first element.

    Raises:
        ArgumentError: It is no XML, or has a document type.
    """
    try:
        return read_xml(file, LARGEST_BYTES)
    except OSError as error:
        raise ArgumentError(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise ArgumentError(f"{file}: {error}") from error


def _places(path: Path) -> Iterator[tuple[str | None, Path]]:
    """Path -> folders of XML files, with their split where they are in the folder of one."""
    if not path.is_dir():
        return
    entries = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not is_hidden(entry.name))
    splits = [(split, path / name) for name in entries if (split := split_named(name)) is not None]
    for split, folder in [(None, path), *splits]:
        yield split, folder
        for entry in os.scandir(folder):
            if entry.is_dir() and entry.name.lower() == XML_FOLDER:
                yield split, folder / entry.name


def _xml_files(place: Path) -> Iterator[Path]:
    names = (name for name in os.listdir(place) if name.lower().endswith(".xml") and not is_hidden(name))
    # A file of this name holds the annotations of all images, as CVAT writes them.
    return (place / name for name in sorted(names) if name.lower() != "annotations.xml")


def _images_by_stem(path: Path, aside: LeftAside) -> dict[tuple[str | None, str], str]:
    """Folder -> image files, relative to it, by split and name; images of masks and the like are not searched."""
    images: dict[tuple[str | None, str], str] = {}
    for file in sorted(walk_images(path, ".", LeftAside())):
        file = file.removeprefix("./")
        folders, name = file.split("/")[:-1], os.path.basename(file)
        if any(folder.lower().startswith("segmentation") for folder in folders):
            continue
        key = (split_named(folders[0]) if folders else None, os.path.splitext(name)[0])
        if key in images:
            aside.add("image that has the name of another one", file)
        else:
            images[key] = file
    return images


def _lists(path: Path) -> dict[str, frozenset[str]]:
    """Folder -> names of the images of each split, if it has lists."""
    lists = {split: path.joinpath(*LISTS, f"{split}.txt") for split in ("train", "val", "test")}
    found = {split: file for split, file in lists.items() if file.is_file()}
    return {split: names_in(file) for split, file in found.items()}


def _picture(file: Path, image: str, split: str | None) -> Picture:
    root = read_annotation(file)
    if root.tag != ROOT:
        raise ArgumentError(
            f"{file}: its first element must be <annotation>, as Pascal VOC has it. Received: <{root.tag[:80]}>"
        )
    objects = [
        Stated(
            f"box {number}",
            (entry.findtext("name") or "").strip() or None,
            numbers(entry.findtext(f"bndbox/{corner}") for corner in CORNERS),
            ignored=(entry.findtext("difficult") or "").strip() == "1",
        )
        for number, entry in enumerate(root.iterfind("object"), start=1)
    ]
    return Picture(image, split, stated_size(root.findtext("size/height"), root.findtext("size/width")), objects)
