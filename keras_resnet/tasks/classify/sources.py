"""Sources of images with a class each: folders, CSV files, archives, packed sets, tensorflow-datasets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_resnet.data.arrays import ArraySource, read_npz
from keras_resnet.data.base import Source
from keras_resnet.data.files import FileSource, list_csv, list_folder, split_folders
from keras_resnet.data.labelled import class_indices, known_names
from keras_resnet.data.shards import DESCRIPTION, ShardSource, read_dataset_description, read_index
from keras_resnet.data.splits import chosen_of, classes_of, opened_part
from keras_resnet.data.tfds import RecordSource, open_records
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.classify.target import LABEL

TFDS = "tfds:"


def open_labelled(text: str, split: str, class_names: Sequence[str] | None) -> Source:
    """Data, one of `SPLITS`, class names -> images of that split.

    Raises:
        ArgumentError: No such data, or a class that `class_names` does not have.
        ImageError: A folder has no images.
    """
    path = Path(text)
    if text.startswith(TFDS):
        return _open_tfds(text, split, class_names)
    if (path / DESCRIPTION).is_file():
        return _open_shards(path, split, class_names)
    if path.is_dir():
        return _open_folder(path, split, class_names)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _open_npz(path, split, class_names)
    if path.is_file():
        return _open_csv(path, split, class_names)
    raise ArgumentError(
        "data must be a folder of class folders, a folder with train/ and val/ of class folders, or with images/ and "
        "masks/, a CSV file, a folder of packed shards, an .npz archive, or tfds:NAME. "
        f"Received: {text}, which is no such file or folder"
    )


def _open_folder(folder: Path, split: str, class_names: Sequence[str] | None) -> Source:
    train, val = split_folders(folder)
    split = opened_part(split, has_validation=val is not None)
    files, names = list_folder(train or folder)
    classes, known = classes_of(class_names, names)
    held_out = val is None
    prefix = ""
    if train is not None:
        prefix = f"{(val if split == 'val' and val is not None else train).name}/"
    if val is not None and split == "val":
        files, names = list_folder(val)
    indices = class_indices(folder, names, known)
    if held_out:
        chosen = chosen_of(files, indices, split)
        files, indices = [files[index] for index in chosen], indices[chosen]
    files = [prefix + file for file in files]
    return FileSource(
        "folder", folder, files, str(folder), split, classes, files, indices, held_out=held_out, target=LABEL
    )


def _open_csv(file: Path, split: str, class_names: Sequence[str] | None) -> Source:
    files, names, validates = list_csv(file)
    classes, known = classes_of(class_names, names)
    indices = class_indices(file, names, known)
    split = opened_part(split, has_validation=validates is not None)
    own = None if validates is None else np.flatnonzero(validates == (split == "val"))
    chosen = chosen_of(files, indices, split) if own is None else own
    if not len(chosen):
        raise ArgumentError(f"{file}: no row has {split} in the column split")
    files = [files[index] for index in chosen]
    return FileSource(
        "csv",
        file.parent,
        files,
        str(file),
        split,
        classes,
        files,
        indices[chosen],
        held_out=validates is None,
        target=LABEL,
    )


def _open_npz(file: Path, split: str, class_names: Sequence[str] | None) -> Source:
    images, indices, classes, own = read_npz(file, split)
    split = opened_part(split, has_validation=own)
    if class_names is not None and classes > len(class_names):
        raise ArgumentError(f"{file}: it has {classes} classes, but the model has {len(class_names)}")
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
    shards, index, names = read_index(folder, split, description, LABEL.columns)
    new = (
        class_indices(folder, classes, known_names(class_names, classes))
        if class_names is not None
        else np.arange(len(classes))
    )

    place = (index["shard"], index["offset"], index["length"])
    held_out = description["validation"] != "its own"
    indices = new[index["label"]]
    return ShardSource(shards, *place, str(folder), split, own_classes, names, indices, held_out=held_out, target=LABEL)


def _open_tfds(name: str, split: str, class_names: Sequence[str] | None) -> Source:
    records, indices, names, own = open_records(name.removeprefix(TFDS), split)
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
