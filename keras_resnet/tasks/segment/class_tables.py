"""Files that name the labels or colours of masks: `classes.csv`, and files of CVAT and Roboflow."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_resnet.data.annotations import CLASSES_FILE, PIXEL_VALUE
from keras_resnet.data.layout import split_named
from keras_resnet.data.reading import PLAIN
from keras_resnet.data.tables import normal, read_table
from keras_resnet.errors import ArgumentError
from keras_resnet.regular_files import read_text

CLASSES = "classes.csv"
VOID_NAME = "void"  # rows with this name in `classes.csv` are void labels
COLOURS = ("red", "green", "blue")
LABEL_MAP = "labelmap.txt"  # CVAT and Datumaro write it beside masks in the layout of Pascal VOC


@dataclass(frozen=True)
class ClassTable:
    """Content of `classes.csv` or a like file: a row for each label of the masks, in the order of the labels from 0."""

    names: Sequence[str]  # names of the labels, including `VOID_NAME`
    colours: np.ndarray | None  # int [n, 3]


def read_class_table(file: Path) -> ClassTable | None:
    """`classes.csv` -> its rows, or None where there is no such file.

    Raises:
        ArgumentError: The column `name` is missing, a colour is invalid, or a name or colour is empty or occurs twice.
    """
    if not file.is_file():
        return None
    try:
        stream = io.StringIO(read_text(file, "utf-8-sig"), newline="")
        rows = [{str(key).strip(): value for key, value in row.items()} for row in csv.DictReader(stream)]
        names = [row["name"].strip() for row in rows]
        colours = np.array([[int(row[each]) for each in COLOURS] for row in rows]) if COLOURS[0] in rows[0] else None
    except (UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ArgumentError(
            f"{file}: must have a row for each label, with the column name and, for masks of colours, the columns "
            f"{', '.join(COLOURS)}, each 0..255. Received: {type(error).__name__} {error}"
        ) from error
    return _checked(file, names, colours)


def class_table_of(folder: Path) -> ClassTable | None:
    """Folder of images and masks -> the names of its labels, or None where no file has them."""
    if (folder / CLASSES).is_file():
        return read_class_table(folder / CLASSES)
    if (folder / LABEL_MAP).is_file():
        return _read_label_map(folder / LABEL_MAP)
    for entry in os.scandir(folder):
        file = folder / entry.name / CLASSES_FILE
        if split_named(entry.name) == "train" and file.is_file():
            return _read_pixel_values(file)
    return None


def _read_label_map(file: Path) -> ClassTable:
    """`name:red,green,blue:parts:actions` in each line, as CVAT writes it -> its rows."""
    try:
        lines = [line for line in read_text(file, "utf-8-sig").splitlines() if line.strip() and line[0] != "#"]
        if not lines:
            raise ValueError("no line")
        cells = [line.split(":") for line in lines]
        colours = np.array([[int(value) for value in row[1].split(",")] for row in cells]).reshape(-1, len(COLOURS))
    except (ValueError, IndexError) as error:
        raise ArgumentError(
            f"{file}: each line must be a name and a colour, such as cat:128,0,0::. Received: {error}"
        ) from error
    return _checked(file, [row[0].strip() for row in cells], colours)


def _read_pixel_values(file: Path) -> ClassTable | None:
    """`Pixel Value, Class` in each row, as Roboflow writes it -> its rows; None: the file has other columns.

    Raises:
        ArgumentError: The values are not 0, 1, 2 and so on.
    """
    table = read_table(file, PLAIN)
    columns = {normal(header): header for header in table.header}
    if PIXEL_VALUE not in columns or "class" not in columns:
        return None
    named = {row[columns[PIXEL_VALUE]].strip(): row[columns["class"]].strip() for row in table.rows}
    wanted = [str(label) for label in range(len(table.rows))]
    if sorted(named) != sorted(wanted):
        raise ArgumentError(f"{file}: the pixel values must be 0, 1, 2 and so on. Received: {', '.join(named)}")
    return _checked(file, [named[label] for label in wanted], None)


def _checked(file: Path, names: Sequence[str], colours: np.ndarray | None) -> ClassTable:
    """Raises `ArgumentError` if a name or a colour is empty, occurs twice, or is out of range."""
    if colours is not None and (colours.min() < 0 or colours.max() > 255):
        raise ArgumentError(f"{file}: colours must lie in 0..255. Received: {colours.min()}..{colours.max()}")
    classes = [name for name in names if name != VOID_NAME]
    twice = sorted({name for name in classes if classes.count(name) > 1 or not name})
    if twice or (colours is not None and len(np.unique(colours, axis=0)) < len(colours)):
        raise ArgumentError(
            f"{file}: names and colours must not be empty or occur twice. Received: {twice or 'a repeated colour'}"
        )
    return ClassTable(names, colours)


def colours_of(table: ClassTable | None) -> tuple[np.ndarray, np.ndarray] | None:
    """-> ascending codes of the colours and the label of each, if there are colours."""
    if table is None or table.colours is None:
        return None
    codes = table.colours @ [1 << 16, 1 << 8, 1]
    order = np.argsort(codes)
    return codes[order], order
