"""Sources of images with any number of classes each: CSV files and packed sets."""

import csv
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_resnet.data.base import fingerprint_of
from keras_resnet.data.files import FileSource, list_csv
from keras_resnet.data.labelled import CLASS_COLUMNS, FILE_COLUMNS, MASK_COLUMNS, NAMES_LISTED, read_rows
from keras_resnet.data.shards import DESCRIPTION, open_pair, read_dataset_description, task_of_index
from keras_resnet.data.splits import chosen_of, classes_of, opened_part
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.tag.tagged import TaggedSource
from keras_resnet.tasks.tag.target import TAGS

TAG_COLUMNS = ("classes", "tags", "labels")  # columns whose cells hold the names of an image's classes
SEPARATOR = "|"
SPLIT_COLUMN = "split"
FIRST_ROW = 2  # number of the first image's row, as editors count: the header is row 1


def is_tag_layout(text: str) -> bool:
    """Data as users name it -> whether its images have any number of classes each.

    A CSV file with one class or a mask for each image belongs to another task. Without a column of classes, the columns
    are the classes if the first image has a 0 or a 1 in one of them.
    """
    path = Path(text)
    if (path / DESCRIPTION).is_file():
        return task_of_index(read_dataset_description(path)) == TAGS.task
    if not path.is_file() or path.suffix.lower() == ".npz":
        return False
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        try:
            header, first = (next(csv.reader(stream), []) for _ in range(2))
        except csv.Error:
            return False
    if not {*header} & {*FILE_COLUMNS} or {*header} & {*CLASS_COLUMNS, *MASK_COLUMNS}:
        return False
    if {*header} & {*TAG_COLUMNS}:
        return True
    cells = [cell.strip() for name, cell in zip(header, first, strict=False) if _is_class(name)]
    return "0" in cells or "1" in cells


def open_tagged(text: str, split: str, class_names: Sequence[str] | None) -> TaggedSource:
    """Data with any number of classes each, one of `data.splits.SPLITS`, class names -> images of that split.

    Raises:
        ArgumentError: A class that `class_names` does not have, or a cell that is neither 0 nor 1; the message names
            file, row and value.
    """
    path = Path(text)
    return _open_shards(path, split, class_names) if path.is_dir() else _open_csv(path, split, class_names)


def _open_csv(file: Path, split: str, class_names: Sequence[str] | None) -> TaggedSource:
    rows, _, first = read_rows(file, (*TAG_COLUMNS, *_columns_of_classes(file)))
    files, cells, validates = list_csv(file, (first,))
    _check_rows(file, files, rows)
    if first in TAG_COLUMNS:
        classes, tags = _tags_of_names(file, cells, class_names)
    else:
        classes, tags = _tags_of_columns(file, rows, class_names)
    split = opened_part(split, has_validation=validates is not None)
    own = None if validates is None else np.flatnonzero(validates == (split == "val"))
    chosen = chosen_of(files, np.zeros(len(files), int), split) if own is None else own
    if not len(chosen):
        raise ArgumentError(f"{file}: no row has {split} in the column split")
    files, tags = [files[index] for index in chosen], tags[chosen]
    held_out = validates is None
    images = FileSource(
        "csv", file.parent, files, str(file), split, classes, files, None, held_out=held_out, target=TAGS
    )
    return TaggedSource(images, tags, fingerprint_of(files, tags))


def _open_shards(folder: Path, split: str, class_names: Sequence[str] | None) -> TaggedSource:
    description = read_dataset_description(folder)
    packed = description["classes"]
    classes, known = classes_of(class_names, packed) if class_names is not None else (tuple(packed), _places(packed))
    _check_known(folder, [("its classes", name) for name in packed], known)
    split = opened_part(split, has_validation=True)
    images, packed_tags = open_pair(folder, split, description, classes, TAGS)
    tags = np.zeros((images.count, len(classes)), np.uint8)
    places = [known[name] for name in packed]
    for row in range(images.count):
        tags[row, places] = np.frombuffer(packed_tags.read(row), np.uint8)
    return TaggedSource(images, tags, TAGS.fingerprint(images.names, {"tags_offset": packed_tags.offset}, len(packed)))


def _columns_of_classes(file: Path) -> list[str]:
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        return [name for name in next(csv.reader(stream), []) if _is_class(name)]


def _is_class(column: str) -> bool:
    return column not in (*FILE_COLUMNS, SPLIT_COLUMN)


def _check_rows(file: Path, files: Sequence[str], rows: Sequence[Mapping]) -> None:
    """Raises `ArgumentError` if a row has more cells than the header, or names the image of an earlier row."""
    seen: dict[str, int] = {}
    for row, (name, cells) in enumerate(zip(files, rows, strict=True), start=FIRST_ROW):
        if None in cells:
            raise ArgumentError(f"{file}: row {row} has more cells than the header: {cells[None]}")
        if name in seen:
            raise ArgumentError(
                f"{file}: row {row} repeats the image of row {seen[name]}, {name}; give each image one row with all "
                "its classes"
            )
        seen[name] = row


def _tags_of_names(
    file: Path, cells: Sequence[str], class_names: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Cells with names -> names of the classes, uint8 `[N, classes]`."""
    names = [[name.strip() for name in cell.split(SEPARATOR)] if cell.strip() else [] for cell in cells]
    rows = [(f"row {row}", name) for row, found in enumerate(names, start=FIRST_ROW) for name in found]
    if class_names is None and not rows:
        raise ArgumentError(f"{file}: no image has a class")
    classes, known = classes_of(class_names, [name for _, name in rows if name])
    _check_known(file, rows, known)
    tags = np.zeros((len(cells), len(classes)), np.uint8)
    for row, found in enumerate(names):
        tags[row, [known[name] for name in found]] = 1
    return classes, tags


def _tags_of_columns(
    file: Path, rows: Sequence[Mapping[str, str]], class_names: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Rows with a 0 or a 1 for each class -> names of the classes, uint8 `[N, classes]`."""
    columns = [name for name in rows[0] if _is_class(name)]
    wrong = [name for name in columns if SEPARATOR in name or not name.strip()]
    if wrong:
        raise ArgumentError(
            f"{file}: the name of a class must not be empty or contain {SEPARATOR}. "
            f"Received: {', '.join(map(repr, wrong))}"
        )
    classes = tuple(columns if class_names is None else class_names)
    known = _places(classes)
    _check_known(file, [("row 1", name) for name in columns], known)
    absent = [name for name in classes if name not in columns]
    if absent:
        raise ArgumentError(
            f"{file}: columns are missing for {len(absent)} of the model's {len(classes)} classes: "
            f"{', '.join(absent[:NAMES_LISTED])}"
        )
    values = [[row[name].strip() for name in classes] for row in rows]
    for row, cells in enumerate(values, start=FIRST_ROW):
        for name, cell in zip(classes, cells, strict=True):
            if cell not in ("0", "1"):
                raise ArgumentError(f"{file}: row {row}, column {name}: must be 0 or 1. Received: {cell!r}")
    return classes, np.array(values).astype(np.uint8)


def _places(classes: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(classes)}


def _check_known(where: Path, found: Sequence[tuple[str, str]], known: Mapping[str, int]) -> None:
    """Raises `ArgumentError` unless the classes, each with the place where it was found, are known."""
    unknown = [(place, name) for place, name in found if name not in known]
    if not unknown:
        return
    lines = []
    for place, name in unknown[:NAMES_LISTED]:
        nearest = difflib.get_close_matches(name, known, n=1)
        lines.append(f"  {place}: {name!r}" + (f" (did you mean {nearest[0]}?)" if nearest else ""))
    raise ArgumentError("\n".join([f"{where}: {len(unknown)} names are unknown to the model:", *lines]))
