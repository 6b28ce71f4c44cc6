"""Folder of class folders, or CSV file -> image files and their classes."""

import csv
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_resnet.errors import ArgumentError, ImageError, reason
from keras_resnet.labels import imagenet_labels
from keras_resnet.preprocessing import list_images

FILE_COLUMNS = ("file", "path")
CLASS_COLUMNS = ("index", "wnid", "label", "name", "class")
MASK_COLUMNS = ("mask",)
NAMES_LISTED = 10  # largest number of names in an error message


def labelled_images(
    source: str | os.PathLike[str], class_names: Sequence[str] | None = None
) -> tuple[list[Path], np.ndarray]:
    """Folder of class folders, or CSV file -> paths, classes int `[N]`.

    A class is given by one of `class_names`, by its index, or, with ImageNet's 1000 names, by its wnid. Without names,
    the sorted folder names are the classes. The CSV has a column `file` or `path`, relative to the CSV's own folder,
    and one of `index`, `wnid`, `label`, `name` and `class`.

    Raises:
        ArgumentError: There is no such folder or file, or a class is not known.
        ImageError: A file of the CSV does not exist, or a folder has no images.
    """
    path = Path(source)
    if path.is_dir():
        names, paths = _folder(path)
    elif path.is_file():
        names, paths = _csv(path)
    else:
        raise ArgumentError(f"labelled images must be a folder of class folders or a CSV file. Received: {source}")
    return paths, class_indices(source, names, known_names(class_names, names))


def listed_file(name: str) -> str:
    """File of an image, or name of an image without a file -> text for a CSV file that may lie in any folder."""
    return os.path.abspath(name) if os.path.isfile(name) else name


def class_indices(source: str | os.PathLike[str], names: Sequence[str], known: Mapping[str, int]) -> np.ndarray:
    """Origin of the names, class names found, known class names -> their indices int `[N]`.

    Raises:
        ArgumentError: Some names are unknown; the message suggests the nearest known name.
    """
    unknown = sorted({*names} - {*known})
    if unknown:
        lines = []
        for name in unknown[:NAMES_LISTED]:
            nearest = difflib.get_close_matches(name, known, n=1)
            lines.append(f"  {name}" + (f" (did you mean {nearest[0]}?)" if nearest else ""))
        raise ArgumentError("\n".join([f"{source}: {len(unknown)} classes are unknown to the model:", *lines]))
    return np.array([known[name] for name in names], dtype="int64")


def known_names(class_names: Sequence[str] | None, names: Sequence[str]) -> dict[str, int]:
    """-> index of each name that a class may have."""
    if class_names is None:
        if all(name.isdigit() for name in names):
            return {name: int(name) for name in names}
        return {name: index for index, name in enumerate(sorted(set(names)))}
    known = {str(index): index for index in range(len(class_names))}
    pairs = imagenet_labels()
    if list(class_names) == [name for _, name in pairs]:
        known |= {wnid: index for index, (wnid, _) in enumerate(pairs)}
    return known | {name: index for index, name in enumerate(class_names)}


def _folder(folder: Path) -> tuple[list[str], list[Path]]:
    paths = [path for path in list_images([folder]) if path.parent != folder]
    if not paths:
        raise ImageError(f"{folder}: its images must lie in a folder for each class")
    return [path.relative_to(folder).parts[0] for path in paths], paths


def _csv(file: Path) -> tuple[list[str], list[Path]]:
    rows, file_column, class_column = read_rows(file)
    paths = [file.parent / row[file_column] for row in rows]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise ImageError(
            "\n  ".join([f"{file}: {len(missing)} of {len(paths)} files do not exist:", *missing[:NAMES_LISTED]])
        )
    return [row[class_column] for row in rows], paths


def read_rows(file: Path, columns_wanted: Sequence[str] = CLASS_COLUMNS) -> tuple[list[dict[str, str]], str, str]:
    """CSV file of images, accepted names of a column -> rows, name of the file column, first accepted column found.

    Raises:
        ArgumentError: The file has no rows, or lacks a column.
    """
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArgumentError(f"{file}: not a CSV file: {reason(error)}") from error
    columns = list(rows[0]) if rows else []
    file_column = next((name for name in FILE_COLUMNS if name in columns), None)
    wanted_column = next((name for name in columns_wanted if name in columns), None)
    if file_column is None or wanted_column is None:
        raise ArgumentError(
            f"{file}: a CSV file of labelled images must have rows, a column out of {', '.join(FILE_COLUMNS)} and "
            f"one out of {', '.join(columns_wanted)}. Received: {', '.join(columns) or 'no rows'}"
        )
    return rows, file_column, wanted_column
