"""Sources of images with a class each: folders, CSV files, archives, packed sets, tensorflow-datasets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_resnet.data.annotations import is_table, open_table
from keras_resnet.data.arrays import ArraySource, read_npz
from keras_resnet.data.base import Source
from keras_resnet.data.files import FileSource, inner_folders, list_folder, rows_of_split
from keras_resnet.data.foreign import check_known
from keras_resnet.data.labelled import class_indices, known_names, places_of
from keras_resnet.data.layout import folder_layout
from keras_resnet.data.reading import Reading
from keras_resnet.data.shards import DESCRIPTION, ShardSource, read_dataset_description, read_index
from keras_resnet.data.splits import chosen_of, classes_of, opened_part
from keras_resnet.data.tables import CLASS_NAME, FIRST_ROW, INDEX, NAMES, SEPARATOR, WNID, Table
from keras_resnet.data.taken import NOT_A_SPLIT, UNUSED_SPLIT, LeftAside, Taken
from keras_resnet.data.tfds import RecordSource, open_records
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.classify.target import LABEL

TFDS = "tfds:"


def open_labelled(text: str, split: str, class_names: Sequence[str] | None, reading: Reading) -> Source:
    """Data, one of `SPLITS`, names of the classes, choices of the user -> the images of that split.

    Raises:
        ArgumentError: No such data, or a class that `class_names` does not have.
        ImageError: A folder has no images.
    """
    path = Path(text)
    if text.startswith(TFDS):
        return _open_tfds(text, split, class_names, reading)
    if (path / DESCRIPTION).is_file():
        return _open_shards(path, split, class_names)
    if is_table(path):
        return _open_table(path, split, class_names, reading)
    if path.is_dir():
        return _open_folder(path, split, class_names, reading)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _open_npz(path, split, class_names, reading)
    raise ArgumentError(
        "data must be a folder of class folders, a folder with train/ and val/ of class folders, or with images/ and "
        "masks/, a CSV file, a folder of packed shards, an .npz archive, or tfds:NAME. "
        f"Received: {text}, which is no such file or folder"
    )


def _open_folder(folder: Path, split: str, class_names: Sequence[str] | None, reading: Reading) -> Source:
    check_known(folder)
    layout, aside = folder_layout(folder, reading), LeftAside()
    train, val = layout.splits.get("train"), layout.validation(reading)
    split = opened_part(split, has_validation=val is not None)
    files, names = list_folder(folder / (train or ""), aside)
    inner = inner_folders(files)
    classes, known = classes_of(class_names, names)
    own = class_names is None or tuple(class_names) == classes_of(None, names)[0]
    unknown = f"not in {train}/" if own else "unknown to the model"
    part = train
    if val is not None and split == "val":
        part, aside = val, LeftAside()
        files, names = list_folder(folder / val, aside)
    indices = class_indices(folder / (part or ""), names, known, unknown)
    if val is None:
        chosen = chosen_of(files, indices, split)
        files, indices = [files[index] for index in chosen], indices[chosen]
    for name, other in layout.splits.items():
        if name != "train" and other != val:
            aside.add(UNUSED_SPLIT, f"{other}/")
    for other in layout.others:
        aside.add(NOT_A_SPLIT, f"{other}/")
    prefix = f"{part}/" if part else ""
    files = [prefix + file for file in files]
    source = FileSource(
        "folder", folder, files, str(folder), split, classes, files, indices, held_out=val is None, target=LABEL
    )
    splits = [f"{name}/" for name in (train, val) if name]
    words = f"class folders in {' and '.join(splits)}" if splits else "class folders"
    source.taken = Taken(words, prefix or "the images", aside, inner)
    return source


def _open_table(file: Path, split: str, class_names: Sequence[str] | None, reading: Reading) -> Source:
    table, aside = open_table(file, reading), LeftAside()
    files = table.files()
    classes, indices, column = _classes_of_table(table, class_names)
    _check_repeated(table, files, indices)
    chosen, split, held_out = rows_of_split(table, files, indices, split, aside)
    files = [files[index] for index in chosen]
    source = FileSource(
        "csv",
        table.folder,
        files,
        str(file),
        split,
        classes,
        files,
        indices[chosen],
        held_out=held_out,
        target=LABEL,
    )
    source.taken = Taken(table.layout(column), "rows", aside)
    return source


def _check_repeated(table: Table, files: Sequence[str], indices: np.ndarray) -> None:
    """Raises `ArgumentError` if two rows give one image different classes."""
    if len({*files}) == len(files):
        return
    seen: dict[str, int] = {}
    for row, name in enumerate(files):
        before = seen.setdefault(name, row)
        if indices[before] != indices[row]:
            raise ArgumentError(
                f"{table.file}: rows {before + FIRST_ROW} and {row + FIRST_ROW} give the image {name} different "
                "classes. Correct one; or, if an image has several classes, give it one row with a column labels, such "
                f"as cat{SEPARATOR}outdoors"
            )


def _classes_of_table(table: Table, class_names: Sequence[str] | None) -> tuple[Sequence[str], np.ndarray, str]:
    """Table, names that the user wants -> names of the classes, class of each row int `[N]`, meaning of the column.

    An index is the place of a class, whatever it is called. Other columns hold names.

    Raises:
        ArgumentError: There is no such column, or a class that is not known.
    """
    columns, file = table.columns, table.file
    if INDEX in columns and not (table.reading.label_column and CLASS_NAME in columns):
        indices = places_of(file, table.cells(INDEX), None if class_names is None else len(class_names))
        labels = table.cells(CLASS_NAME, may_be_empty=True) if CLASS_NAME in columns else []
        return _names_of_places(file, indices, labels, class_names), indices, INDEX
    column = next((meaning for meaning in (WNID, CLASS_NAME) if meaning in columns), None)
    if column is None:
        raise ArgumentError(
            f"{file}: no column tells the classes. Its columns are {', '.join(table.header)}; known names are "
            f"{', '.join((*NAMES[INDEX], *NAMES[WNID], *NAMES[CLASS_NAME]))}. Choose one: --label-column COLUMN"
        )
    names = table.cells(column)
    classes, known = classes_of(class_names, names)
    return classes, class_indices(file, names, known), column


def _names_of_places(
    file: Path, indices: np.ndarray, labels: Sequence[str], class_names: Sequence[str] | None
) -> Sequence[str]:
    """Class of each row, its name where the table has one, names that the user wants -> names of the classes.

    Raises:
        ArgumentError: The table calls a class otherwise than the user, or by two names.
    """
    named: dict[int, str] = {}
    wanted = {*(class_names or ())}
    for row, (index, label) in enumerate(zip(indices.tolist(), labels, strict=False), start=FIRST_ROW):
        other = class_names[index] if class_names is not None else named.setdefault(index, label)
        if label and label != other and (class_names is None or label in wanted):
            raise ArgumentError(
                f"{file}: row {row} has index {index} and name {label!r}, but index {index} is {other!r}. Correct the "
                "row, or remove the column that is wrong"
            )
    if class_names is not None:
        return class_names
    return [named.get(index) or str(index) for index in range(int(indices.max()) + 1)]


def _open_npz(file: Path, split: str, class_names: Sequence[str] | None, reading: Reading) -> Source:
    images, indices, classes, own = read_npz(file, split, reading.validation_split)
    split = opened_part(split, has_validation=own)
    if class_names is not None and classes > len(class_names):
        raise ArgumentError(f"{file} has {classes} classes, but the model has {len(class_names)}")
    which = "train" if split == "train" or not own else "val"
    names = np.array([f"{which}/{index}" for index in range(len(indices))], dtype=object)
    if not own:
        chosen = chosen_of(names.tolist(), indices, split)
        images, indices, names = images[chosen], indices[chosen], names[chosen]
    classes_named = class_names if class_names is not None else [str(index) for index in range(classes)]
    return ArraySource(images, str(file), split, classes_named, names.tolist(), indices, held_out=not own, target=LABEL)


def _open_shards(folder: Path, split: str, class_names: Sequence[str] | None) -> Source:
    description = read_dataset_description(folder)
    classes = description["classes"]
    own_classes = classes if class_names is None else class_names
    split = opened_part(split, has_validation=True)
    shards, index, names = read_index(folder, split, description, LABEL)
    new = (
        class_indices(folder, classes, known_names(class_names)) if class_names is not None else np.arange(len(classes))
    )

    place = (index["shard"], index["offset"], index["length"])
    held_out = description["validation"] != "its own"
    indices = new[index["label"]]
    return ShardSource(shards, *place, str(folder), split, own_classes, names, indices, held_out=held_out, target=LABEL)


def _open_tfds(name: str, split: str, class_names: Sequence[str] | None, reading: Reading) -> Source:
    records, indices, names, own = open_records(name.removeprefix(TFDS), split, reading.validation_split)
    split = opened_part(split, has_validation=own)
    classes, known = classes_of(class_names, names) if class_names is not None else (tuple(names), {})
    new = class_indices(name, names, known) if class_names is not None else np.arange(len(names))
    which = "train" if split == "train" or not own else "val"
    keys = [f"{which}/{index}" for index in range(len(indices))]
    chosen = np.arange(len(indices)) if own else chosen_of(keys, indices, split)
    return RecordSource(
        records,
        chosen,
        name,
        split,
        classes,
        [keys[index] for index in chosen],
        new[indices[chosen]],
        held_out=not own,
        target=LABEL,
    )
