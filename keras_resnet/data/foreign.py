"""Folders for other kinds of networks -> which tool they are of, and what of it is read."""

import os
from pathlib import Path

from keras_resnet.data.layout import split_named
from keras_resnet.errors import ArgumentError
from keras_resnet.image_files import has_image_suffix, is_hidden

_SORT = "For classification, sort the images into a folder for each class"
_MASKS = "for segmentation, export masks as PNG files"


def check_known(folder: Path) -> None:
    """Folder that is to hold class folders -> nothing, if it does not look like a folder of annotations.

    Raises:
        ArgumentError: It has the annotation files of a tool, for boxes or polygons.
    """
    entries = [entry for entry in os.scandir(folder) if not is_hidden(entry.name)]
    folders = {entry.name.lower(): entry.name for entry in entries if entry.is_dir()}
    files = {entry.name for entry in entries if entry.is_file()}
    labels = folders.get("labels")
    if labels is not None and (text := _first(folder / labels, ".txt")):
        raise ArgumentError(
            f"{folder}: has text files in {labels}/, such as {labels}/{text}, whose lines do not have the form of "
            f"YOLO: the index of a class, and at least four numbers. {_SORT}; {_MASKS}"
        )
    annotations = folders.get("annotations")
    if annotations is not None and (text := _first(folder / annotations, ".xml")):
        raise ArgumentError(
            f"{folder}: has XML files, such as {annotations}/{text}, which are not of Pascal VOC, and no masks in "
            f"SegmentationClass/. {_SORT}; {_MASKS}"
        )
    if annotations is not None and (text := _first(folder / annotations, ".json")):
        raise ArgumentError(
            f"{folder}: has the annotation file {annotations}/{text}. To take its categories as the classes of the "
            f"images, name that file: {folder / annotations / text}. Its boxes can't be read as COCO; {_MASKS}"
        )
    if "annotations.xml" in files:
        raise ArgumentError(
            f"{folder}: has annotations.xml of CVAT. Export again from CVAT: as ImageNet for classification, as "
            '"Segmentation mask" for segmentation'
        )
    if len(folders) == 0 or all(split_named(name) for name in folders):
        _check_labelme(folder, files)


def _check_labelme(folder: Path, files: set[str]) -> None:
    stems = {os.path.splitext(name)[0] for name in files if has_image_suffix(name)}
    beside = sorted(name for name in files if name.endswith(".json") and os.path.splitext(name)[0] in stems)
    if beside:
        raise ArgumentError(
            f"{folder}: has a JSON file beside an image, as Labelme writes it: {beside[0]}. Its polygons are not read. "
            "Convert them to masks by labelme's script labelme2voc.py, which writes JPEGImages/ and "
            "SegmentationClassPNG/; for classification, sort the images into a folder for each class"
        )


def _first(folder: Path, suffix: str) -> str:
    """Folder -> the first file with that suffix, in it or in a folder in it; or an empty text."""
    for parent, _, names in os.walk(folder):
        found = min((name for name in names if name.lower().endswith(suffix) and not is_hidden(name)), default="")
        if found:
            return os.path.relpath(os.path.join(parent, found), folder)
    return ""
