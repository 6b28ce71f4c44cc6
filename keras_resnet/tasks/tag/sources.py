"""Sources of images with any number of classes each: CSV files and packed sets."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_resnet.data.annotations import open_table, table_head
from keras_resnet.data.base import fingerprint_of
from keras_resnet.data.files import FileSource, rows_of_split
from keras_resnet.data.labelled import NAMES_LISTED
from keras_resnet.data.reading import Reading
from keras_resnet.data.shards import DESCRIPTION, open_pair, read_dataset_description, task_of_index
from keras_resnet.data.splits import classes_of, opened_part
from keras_resnet.data.tables import (
    CLASS_NAME,
    CLASS_NAMES,
    FILE,
    FIRST_ROW,
    INDEX,
    MASK_FILE,
    SEPARATOR,
    SPLIT,
    WNID,
    Table,
)
from keras_resnet.data.taken import LeftAside, Taken
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.tag.tagged import TaggedSource
from keras_resnet.tasks.tag.target import TAGS


def is_tag_layout(text: str, reading: Reading) -> bool:
    """Data as users name it -> whether its images have any number of classes each.

    A CSV file with one class or a mask for each image belongs to another task. Without a column of classes, the columns
    are the classes if the first image has a 0 or a 1 in one of them.
    """
    path = Path(text)
    if (path / DESCRIPTION).is_file():
        return task_of_index(read_dataset_description(path)) == TAGS.task
    table = table_head(path, reading)
    if table is None or FILE not in table.columns or {INDEX, WNID, CLASS_NAME, MASK_FILE} & {*table.columns}:
        return False
    if CLASS_NAMES in table.columns:
        return True
    cells = [table.rows[0][header].strip() for header in _class_columns(table)]
    return "0" in cells or "1" in cells


def open_tagged(text: str, split: str, class_names: Sequence[str] | None, reading: Reading) -> TaggedSource:
    """Data of that layout, one of `data.splits.SPLITS`, names of the classes -> the images of that split.

    Raises:
        ArgumentError: A class that `class_names` does not have, or a cell that is neither 0 nor 1; the message names
            file, row and value.
    """
    path = Path(text)
    is_packed = (path / DESCRIPTION).is_file()
    return _open_shards(path, split, class_names) if is_packed else _open_table(path, split, class_names, reading)


def _open_table(file: Path, split: str, class_names: Sequence[str] | None, reading: Reading) -> TaggedSource:
    table, aside = open_table(file, reading), LeftAside()
    files = table.files()
    _check_rows(file, files)
    if CLASS_NAMES in table.columns:
        classes, tags = _tags_of_names(file, table.cells(CLASS_NAMES, may_be_empty=True), class_names)
        words = table.layout(CLASS_NAMES)
    else:
        classes, tags = _tags_of_columns(table, class_names)
        words = f"{table.layout()} and a column of 0 and 1 for each class"
    chosen, split, held_out = rows_of_split(table, files, np.zeros(len(files), int), split, aside)
    files, tags = [files[index] for index in chosen], tags[chosen]
    images = FileSource(
        "csv", table.folder, files, str(file), split, classes, files, None, held_out=held_out, target=TAGS
    )
    source = TaggedSource(images, tags, fingerprint_of(files, tags))
    source.taken = Taken(words, "rows", aside)
    return source


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
        found = np.frombuffer(packed_tags.read(row), np.uint8)
        if len(found) != len(places) or found.max() > 1:
            raise ArgumentError(
                f"{folder}: the classes of {images.names[row]} must be {len(places)} bytes of 0 or 1; pack "
                "the set again"
            )
        tags[row, places] = found
    return TaggedSource(images, tags, TAGS.fingerprint(images.names, {"tags_offset": packed_tags.offset}, len(packed)))


def _class_columns(table: Table) -> list[str]:
    """-> headers of the columns that are classes: all except the columns of files and splits."""
    known = {table.columns.get(meaning) for meaning in (FILE, SPLIT)}
    return [header for header in table.header if header not in known]


def _check_rows(file: Path, files: Sequence[str]) -> None:
    """Raises `ArgumentError` if a row names the image of a row before it."""
    seen: dict[str, int] = {}
    for row, name in enumerate(files, start=FIRST_ROW):
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
    _check_separator(file, cells)
    names = [[name.strip() for name in cell.split(SEPARATOR)] if cell.strip() else [] for cell in cells]
    rows = [(f"row {row}", name) for row, found in enumerate(names, start=FIRST_ROW) for name in found]
    if class_names is None and not rows:
        raise ArgumentError(
            f"{file}: no image has a class. Write the classes of each image in its row, with {SEPARATOR} between them"
        )
    classes, known = classes_of(class_names, [name for _, name in rows if name])
    _check_known(file, rows, known)
    tags = np.zeros((len(cells), len(classes)), np.uint8)
    for row, found in enumerate(names):
        tags[row, [known[name] for name in found]] = 1
    return classes, tags


def _check_separator(file: Path, cells: Sequence[str]) -> None:
    """Raises `ArgumentError` if the names in the cells seem to have something else than `SEPARATOR` between them.

    They do if no cell has it, and the cells are made of fewer words than there are different cells.
    """
    different = {cell.strip() for cell in cells} - {""}
    words = {word for cell in different for word in re.split(r"[\s,;]+", cell)}
    example = next((cell for cell in sorted(different) if len(re.split(r"[\s,;]+", cell)) > 1), None)
    if example is not None and len(words) < len(different) and not any(SEPARATOR in cell for cell in cells):
        raise ArgumentError(
            f"{file}: the names of several classes must have {SEPARATOR} between them. Received, in cells of "
            f"{len(words)} words: {example}. Write {SEPARATOR} instead of spaces, commas or semicolons"
        )


def _tags_of_columns(table: Table, class_names: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Table with a 0 or a 1 for each class -> names of the classes, uint8 `[N, classes]`."""
    file, columns = table.file, _class_columns(table)
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
            f"{', '.join(absent[:NAMES_LISTED])}. Add them, with 0 where an image lacks the class"
        )
    values = [[row[name].strip() for name in classes] for row in table.rows]
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
    advice = "Rename these classes like the model's, or remove them"
    raise ArgumentError(f"{where}: names that are unknown to the model: {len(unknown)}", *lines, advice)
