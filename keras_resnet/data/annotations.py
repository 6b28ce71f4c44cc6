"""Annotation files of labelling tools -> tables of images with their classes, or with their masks.

Each is read by `csv` or `json`; docs/data.md lists the formats, and the libraries that were considered.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.data.layout import split_named
from keras_resnet.data.reading import Reading
from keras_resnet.data.tables import (
    CLASS_NAME,
    CLASS_NAMES,
    FILE,
    HEAD_BYTES,
    MASK_FILE,
    NAMES,
    SEPARATOR,
    SPLIT,
    Table,
    normal,
    read_head,
    read_table,
    with_choices,
)
from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ArgumentError, reason
from keras_resnet.image_files import has_image_suffix
from keras_resnet.regular_files import open_regular, read_regular

COCO_FILE, CLASSES_FILE = "_annotations.coco.json", "_classes.csv"  # names of Roboflow's files in each split
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
OPEN_IMAGES = ("ImageID", "LabelName", "Confidence")
CHOICES = b'{""choices""'  # in a CSV file of Label Studio, a cell with several classes
PIXEL_VALUE = "pixel_value"  # column of `_classes.csv` for masks
NO_CLASS = "image without a class"
DISAGREE = "image whose annotators disagree"
MASK_SUFFIX = "_mask.png"


def is_table(path: Path) -> bool:
    """Path -> whether it is a file of rows, or a folder whose splits hold one each."""
    return (path.is_file() and path.suffix.lower() != ".npz") or bool(path.is_dir() and _split_files(path))


def is_json(path: Path) -> bool:
    """Path -> whether it is a JSON file of annotations, or a folder whose splits hold one each."""
    if path.is_dir():
        return COCO_FILE in _split_files(path).values()
    return path.suffix.lower() == ".json" and path.is_file()


def table_head(path: Path, reading: Reading) -> Table | None:
    """Path -> its table, of a CSV file only the first row; None: it is no table."""
    if path.is_dir() or path.suffix.lower() == ".json":
        return open_table(path, reading) if is_table(path) else None
    if not is_table(path):
        return None
    with open_regular(path) as stream:
        several = CHOICES in stream.read(HEAD_BYTES)
    return open_table(path, reading) if several else read_head(path, reading)


def open_table(path: Path, reading: Reading) -> Table:
    """CSV file, JSON file of a labelling tool, or a folder of Roboflow -> its rows.

    Raises:
        ArgumentError: The file can't be read, is an archive, or holds nothing but boxes, polygons or masks of a tool.
    """
    if path.is_dir():
        return _of_splits(path, reading)
    if path.suffix.lower() == ".json":
        return _of_json(path, reading)
    if path.name.lower().endswith(ARCHIVES):
        raise ArgumentError(f"{path}: is an archive. Unpack it, and name the folder that it holds")
    table = read_table(path, reading)
    if {*OPEN_IMAGES} <= {*table.header}:
        raise ArgumentError(
            f"{path}: is a file of Open Images, with a row for each label. Write a CSV file with a row for each image: "
            f"the columns file and labels, such as cat{SEPARATOR}outdoors"
        )
    return table


# --- JSON ---------------------------------------------------------------------------------------------------------


def _of_json(file: Path, reading: Reading) -> Table:
    content = read_json(file)
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= {*content}:
        return _of_coco(file, content, reading)
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        return _of_tasks(file, content, reading) if "data" in content[0] else _of_objects(file, content, reading)
    tool = "a file of Labelme" if isinstance(content, dict) and "shapes" in content else "a JSON file of another kind"
    raise ArgumentError(
        f"{file}: must be a COCO file, or a JSON or JSON-MIN file of Label Studio. Received: {tool}. Export the labels "
        "in one of these formats, or as a CSV file with the columns file and label"
    )


def read_json(file: Path) -> Any:
    """JSON file -> its content, which is kept for the next call.

    Raises:
        ArgumentError: The file can't be read, or is no JSON.
    """
    try:
        status = file.stat()
        return _parsed(file, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{file}: not a JSON file: {reason(error)}") from error


@functools.lru_cache(maxsize=2)  # the tasks look at a file in turn, and so do the splits
def _parsed(file: Path, changed: int, size: int) -> Any:
    return json.loads(read_regular(file))


def _of_coco(file: Path, content: Mapping[str, Any], reading: Reading, folder: str = "") -> Table:
    """COCO -> the categories of each image; boxes and polygons are left out.

    Where no image has several categories, the table has one class for each, and images without one are left aside.
    """
    try:
        names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        files = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
        classes: dict[Any, dict[str, None]] = {key: {} for key in files}
        for entry in content["annotations"]:
            classes[entry["image_id"]][names[entry["category_id"]]] = None
    except (KeyError, TypeError) as error:
        raise ArgumentError(
            f"{file}: not a COCO file: an image, annotation or category lacks {reason(error)}, or refers to one that "
            "is not there. Export it again from the labelling tool"
        ) from error
    pairs = [(os.path.join(folder, files[key]), [*found]) for key, found in classes.items()]
    made = "categories of a COCO file, without its boxes and polygons"
    return _table(file, made, pairs, reading, keeps_empty=True)


def _of_tasks(file: Path, tasks: Sequence[Mapping[str, Any]], reading: Reading) -> Table:
    """JSON of Label Studio -> the choices for each image."""
    pairs, aside, others = [], LeftAside(), set()
    for task in tasks:
        try:
            image = _image_of(file, task["data"] if isinstance(task["data"], dict) else {})
            found, kinds = _choices_of(task)
        except (KeyError, TypeError, AttributeError) as error:
            raise ArgumentError(
                f"{file}: not a JSON file of Label Studio: a task lacks a key, or its annotations are no objects with "
                f"results and choices ({reason(error)}). Export it again from the labelling tool"
            ) from error
        others |= kinds
        if any(each != found[0] for each in found):
            aside.add(DISAGREE, image)
        else:
            pairs.append((image, found[0] if found else []))
    if not any(found for _, found in pairs) and others:
        raise ArgumentError(
            f"{file}: the classes of an image must be choices. Received from Label Studio: "
            f"{', '.join(sorted(others))}. "
            'For masks, export as "Brush labels to PNG", and put them beside the images: images/ and masks/'
        )
    return _table(file, "choices of a JSON file of Label Studio", pairs, reading, aside)


def _choices_of(task: Mapping[str, Any]) -> tuple[list[list[str]], set[str]]:
    """Task of Label Studio -> the choices of each annotation, sorted, and the kinds of results that are no choices."""
    found, kinds = [], set()
    for annotation in task.get("annotations") or task.get("completions") or []:
        results = [] if annotation.get("was_cancelled") else annotation.get("result", [])
        choices = [name for result in results for name in result.get("value", {}).get("choices", [])]
        kinds |= {str(result.get("type")) for result in results if "choices" not in result.get("value", {})}
        if not all(isinstance(name, str) for name in choices):
            raise TypeError("choices must be texts")
        if choices:
            found.append(sorted({*choices}))
    return found, kinds


def _image_of(file: Path, data: Mapping[str, Any]) -> str:
    """What a task shows -> the image."""
    named = [value for key, value in data.items() if normal(str(key)) in NAMES[FILE] and isinstance(value, str)]
    images = named or [value for value in data.values() if isinstance(value, str) and has_image_suffix(value)]
    if len(images) != 1:
        raise ArgumentError(
            f"{file}: the data of each task must name one image. Received: {json.dumps(data)[:200]}. Export as a CSV "
            "file, and choose its column: --image-column COLUMN"
        )
    return images[0]


def _of_objects(file: Path, objects: Sequence[Mapping[str, Any]], reading: Reading) -> Table:
    """JSON-MIN of Label Studio, or another list of objects -> a row for each, a column for each key with texts."""
    keys = list(dict.fromkeys(key for entry in objects for key in entry))
    kept = [key for key in keys if not any(isinstance(entry.get(key), list) for entry in objects)]
    if len(kept) < len(keys) and not any(normal(key) in (*NAMES[CLASS_NAME], *NAMES[CLASS_NAMES]) for key in kept):
        raise ArgumentError(
            f"{file}: no key has the classes of the images as texts. Received, with lists of regions or the like: "
            f"{', '.join(key for key in keys if key not in kept)}. Export choices, or write a CSV file with the "
            "columns file and label"
        )
    rows = [{key: _text(entry.get(key)) for key in kept} for entry in objects]
    aside = LeftAside()
    table = Table(*with_choices(file, tuple(kept), rows), reading)
    column = next((table.columns[meaning] for meaning in (CLASS_NAME, CLASS_NAMES) if meaning in table.columns), None)
    full = [row for row in table.rows if column is None or row[column]]
    if len(full) < len(table.rows) and FILE in table.columns:
        empty = next(row for row in table.rows if column is not None and not row[column])
        aside.add(NO_CLASS, empty[table.columns[FILE]], len(table.rows) - len(full))
    return Table(file, table.header, full, reading, "JSON file", aside=aside)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(
    file: Path,
    made: str,
    pairs: Sequence[tuple[str, Sequence[str]]],
    reading: Reading,
    aside: LeftAside | None = None,
    keeps_empty: bool = False,
) -> Table:
    """Images with their classes -> a table with one class for each, or with several where an image has several.

    Args:
        keeps_empty: Whether an image without a class is one that has none of several classes.
    """
    aside = aside or LeftAside()
    wrong = next((name for _, names in pairs for name in names if SEPARATOR in name or not name.strip()), None)
    if wrong is not None:
        raise ArgumentError(
            f"{file}: the name of a class must not be empty or contain {SEPARATOR}. Received: {wrong!r}"
        )
    several = any(len(names) > 1 for _, names in pairs)
    column = CLASS_NAMES if several else CLASS_NAME
    kept = [(image, names) for image, names in pairs if names or (several and keeps_empty)]
    if len(kept) < len(pairs):
        aside.add(NO_CLASS, next(image for image, names in pairs if not names), len(pairs) - len(kept))
    if not kept:
        raise ArgumentError(f"{file}: none of its {len(pairs):,} images has a class. Label them, and export again")
    rows = [{FILE: image, column: SEPARATOR.join(names)} for image, names in kept]
    return Table(file, (FILE, column), rows, reading, made=made, aside=aside)


# --- folders of Roboflow ------------------------------------------------------------------------------------------


def _split_files(folder: Path) -> dict[str, str]:
    """Folder -> annotation file of each of its splits, by the split's folder; empty if the training split has none."""
    found = {}
    for entry in os.scandir(folder):
        if entry.is_dir() and split_named(entry.name) is not None:
            for name in (COCO_FILE, CLASSES_FILE):
                if os.path.isfile(os.path.join(entry.path, name)):
                    found[entry.name] = name
    return found if any(split_named(name) == "train" for name in found) else {}


def _of_splits(folder: Path, reading: Reading) -> Table:
    """Folder of Roboflow -> a table of all splits."""
    tables = []
    for part, name in sorted(_split_files(folder).items()):
        file = folder / part / name
        if name == COCO_FILE:
            table = _of_coco(file, read_json(file), reading, part)
        else:
            table = read_table(file, reading)
            masks = PIXEL_VALUE in map(normal, table.header)
            table = _of_masks(folder, part, reading) if masks else _below(table, part)
        tables.append((split_named(part), table))
    headers = {table.header: table for _, table in tables}
    if len(headers) > 1 and {CLASS_NAME, CLASS_NAMES} >= {header[1] for header in headers}:  # one split has more
        tables = [(split, _with_several(table)) for split, table in tables]
        headers = {table.header: table for _, table in tables}
    if len(headers) > 1:
        shown = "; ".join(", ".join(header) for header in headers)
        raise ArgumentError(f"{folder}: the files of its splits must have the same columns. Received: {shown}")
    [(header, first)] = headers.items()
    aside = LeftAside()
    for _, table in tables:
        aside.join(table.aside)
    rows = [{**row, SPLIT: str(split)} for split, table in tables for row in table.rows]
    made = f"Roboflow folder: {first.made}" if first.made else ""
    return Table(folder, (*header, SPLIT), rows, reading, "Roboflow folder", made, aside)


def _with_several(table: Table) -> Table:
    rows = [{FILE: row[FILE], CLASS_NAMES: row[table.header[1]]} for row in table.rows]
    return Table(table.file, (FILE, CLASS_NAMES), rows, table.reading, table.kind, table.made, table.aside)


def _below(table: Table, part: str) -> Table:
    """Table of a split, its folder -> the table with paths from the folder above."""
    table.files()  # refuses a table without files
    column = table.columns[FILE]
    rows = [{**row, column: os.path.join(part, row[column])} for row in table.rows]
    return Table(table.file, table.header, rows, table.reading, table.kind, table.made, table.aside)


def _of_masks(folder: Path, part: str, reading: Reading) -> Table:
    """Folder of a split, where each image has its mask beside it -> images and masks."""
    names = sorted(name for name in os.listdir(folder / part) if has_image_suffix(name))
    rows = [
        {FILE: f"{part}/{name}", MASK_FILE: f"{part}/{os.path.splitext(name)[0]}{MASK_SUFFIX}"}
        for name in names
        if not name.endswith(MASK_SUFFIX)
    ]
    return Table(folder / part / CLASSES_FILE, (FILE, MASK_FILE), rows, reading, made="masks beside the images")
