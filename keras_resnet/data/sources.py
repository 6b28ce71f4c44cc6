"""What the user names as data -> its images, with their classes or masks."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np

from keras_resnet.data.arrays import ArraySource, read_npz
from keras_resnet.data.base import Source
from keras_resnet.data.files import (
    FileSource,
    check_pairs,
    has_masks,
    list_csv,
    list_folder,
    list_masked,
    mask_folders,
    split_folders,
)
from keras_resnet.data.labelled import MASK_COLUMNS, class_indices, known_names
from keras_resnet.data.legend import CLASSES, Legend, make_legend, packed_legend, read_class_table
from keras_resnet.data.masked import MaskedSource
from keras_resnet.data.shards import DESCRIPTION, ShardSource, read_description, read_index, task_of
from keras_resnet.data.tfds import RecordSource, open_records
from keras_resnet.errors import ArgumentError

TFDS = "tfds:"

Split = Literal["train", "val"]
ALL = "all"
SPLITS = ("train", "val", ALL)


def open_source(
    data: str | os.PathLike[str],
    split: Split,
    labels: Sequence[str] | None = None,
    void_labels: Sequence[int] = (),
) -> Source:
    """Data, "train" or "val", names of the classes -> the images of that split, with their classes or masks.

    Data without a validation split of its own gives a tenth of each class to it, which train goes without: the images
    whose names have the smallest hashes, so that a new image moves no more than one other.

    Args:
        data: A folder of class folders; a folder with `train/` and `val/` (or `validation/`, `test/`) of class folders;
            a CSV file with a column `file` or `path`, one of `index`, `wnid`, `label`, `name` and `class`, and maybe
            `split`; a folder that `keras-resnet data pack` wrote; an .npz archive with the arrays x_train, y_train and
            maybe x_val, y_val (or x_test, y_test); or `tfds:NAME`, a data set of tensorflow-datasets. With masks: a
            folder with `train/images/` and `train/masks/`, or `images/train/` and `masks/train/` (and `val`, as above),
            or `images/` and `masks/`; or a CSV file with the columns `file` or `path`, `mask`, and maybe `split`.
        labels: None: the names of the classes found, sorted; numbers by their value. Of masks: those that `classes.csv`
            has, or "class 0" and so on.
        void_labels: Labels of the masks, besides 255, whose pixels are of no class.

    Raises:
        ArgumentError: No such data, or a class that `labels` does not have, or images and masks that are no pairs.
        ImageError: A folder has no images.
    """
    if split not in ("train", "val"):
        raise ArgumentError(f"`split` must be 'train' or 'val'. Received: split={split!r}")
    source = _open(data, split, labels, void_labels)
    if void_labels and (not isinstance(source, MaskedSource) or source.kind == "shards"):
        raise ArgumentError(
            f"`void_labels` are for folders and CSV files with masks; packed masks have void already. "
            f"Received: void_labels={[*void_labels]} for {data}"
        )
    return source


def open_split(
    data: str | os.PathLike[str], split: str, labels: Sequence[str] | None = None, void_labels: Sequence[int] = ()
) -> list[Source]:
    """As `open_source`, for any of `SPLITS` -> the sources whose images are those of that split.

    All images of data without validation images of its own are one source, in the order of the data.
    """
    if split not in SPLITS:
        raise ArgumentError(f"`split` must be one of {', '.join(SPLITS)}. Received: split={split!r}")
    if split in ("train", "val"):
        return [open_source(data, cast(Split, split), labels, void_labels)]
    source = _open(data, ALL, labels, void_labels)
    if source.held_out:
        return [source]
    return [open_source(data, part, labels, void_labels) for part in ("train", "val")]


def _open(data: str | os.PathLike[str], split: str, labels: Sequence[str] | None, void_labels: Sequence[int]) -> Source:
    text = os.fspath(data)
    path = Path(text)
    if text.startswith(TFDS):
        return _open_tfds(text, split, labels)
    if (path / DESCRIPTION).is_file():
        return _open_shards(path, split, labels)
    if path.is_dir() and mask_folders(path):
        return _open_masked_folder(path, split, labels, void_labels)
    if path.is_dir():
        return _open_folder(path, split, labels)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _open_npz(path, split, labels)
    if path.is_file() and has_masks(path):
        return _open_masked_csv(path, split, labels, void_labels)
    if path.is_file():
        return _open_csv(path, split, labels)
    raise ArgumentError(
        "data is a folder of class folders, a folder with train/ and val/ of class folders, or of images/ and masks/, "
        "a CSV file, a folder of packed shards, an .npz archive, or tfds:NAME. "
        f"Received: {text}, which is no such file or folder"
    )


def _open_folder(folder: Path, split: str, labels: Sequence[str] | None) -> Source:
    train, val = split_folders(folder)
    files, names = list_folder(train or folder)
    classes, known = _classes(labels, names)
    held_out = val is None
    prefix = ""
    if train is not None:
        prefix = f"{(val if split == 'val' and val is not None else train).name}/"
    if val is not None and split == "val":
        files, names = list_folder(val)
    indices = class_indices(folder, names, known)
    if held_out:
        chosen = _chosen(files, indices, split)
        files, indices = [files[index] for index in chosen], indices[chosen]
    files = [prefix + file for file in files]
    return FileSource("folder", folder, files, str(folder), split, classes, files, indices, held_out=held_out)


def _open_csv(file: Path, split: str, labels: Sequence[str] | None) -> Source:
    files, names, validates = list_csv(file)
    classes, known = _classes(labels, names)
    indices = class_indices(file, names, known)
    own = None if validates is None else np.flatnonzero(validates == (split == "val"))
    chosen = _chosen(files, indices, split) if own is None else own
    if not len(chosen):
        raise ArgumentError(f"{file}: no row of its column split is for {split}")
    files = [files[index] for index in chosen]
    return FileSource(
        "csv", file.parent, files, str(file), split, classes, files, indices[chosen], held_out=validates is None
    )


def _open_masked_folder(folder: Path, split: str, labels: Sequence[str] | None, void_labels: Sequence[int]) -> Source:
    train, val = mask_folders(folder) or (("", ""), None)
    names_of = val if split == "val" and val is not None else train
    files, masks = list_masked(folder, *names_of)
    masks = [f"{names_of[1]}/{mask}" for mask in check_pairs(folder / names_of[0], files, masks)]
    files = [f"{names_of[0]}/{file}" for file in files]
    trained = masks if names_of == train else [f"{train[1]}/{mask}" for mask in list_masked(folder, *train)[1]]
    classes, legend = _legend(folder, folder, trained, labels, void_labels)
    if val is None:
        chosen = _chosen(files, np.zeros(len(files), int), split)
        files, masks = [files[index] for index in chosen], [masks[index] for index in chosen]
    images, shown = (
        FileSource("folder", folder, each, str(folder), split, classes, each, None, held_out=val is None)
        for each in (files, masks)
    )
    return MaskedSource(images, shown, legend)


def _open_masked_csv(file: Path, split: str, labels: Sequence[str] | None, void_labels: Sequence[int]) -> Source:
    files, masks, validates = list_csv(file, MASK_COLUMNS)
    own = None if validates is None else np.flatnonzero(validates == (split == "val"))
    chosen = _chosen(files, np.zeros(len(files), int), split) if own is None else own
    if not len(chosen):
        raise ArgumentError(f"{file}: no row of its column split is for {split}")
    classes, legend = _legend(file, file.parent, masks, labels, void_labels)
    images, shown = (
        FileSource("csv", file.parent, each, str(file), split, classes, each, None, held_out=validates is None)
        for each in ([files[index] for index in chosen], [masks[index] for index in chosen])
    )
    return MaskedSource(images, shown, legend)


def _legend(
    data: Path, root: Path, masks: Sequence[str], labels: Sequence[str] | None, void_labels: Sequence[int]
) -> tuple[Sequence[str], Legend]:
    """Masks that are searched for classes where neither `labels` nor a table names them -> the classes, legend."""
    searched = FileSource("", root, masks, str(data), "", (), masks, None)
    return make_legend(searched, read_class_table(root / CLASSES), labels, void_labels)


def _open_npz(file: Path, split: str, labels: Sequence[str] | None) -> Source:
    images, indices, classes, own = read_npz(file, split)
    if labels is not None and classes > len(labels):
        raise ArgumentError(f"{file}: it has {classes} classes, the model {len(labels)}")
    which = "train" if split == "train" or not own else "val"
    names = np.array([f"{which}/{index}" for index in range(len(indices))], dtype=object)
    if not own:
        chosen = _chosen(names.tolist(), indices, split)
        images, indices, names = images[chosen], indices[chosen], names[chosen]
    classes_named = labels if labels is not None else [str(index) for index in range(classes)]
    return ArraySource(images, str(file), split, classes_named, names.tolist(), indices, held_out=not own)


def _open_shards(folder: Path, split: str, labels: Sequence[str] | None) -> Source:
    description = read_description(folder)
    classes = description["classes"]
    own_classes = classes if labels is None else labels
    shards, index, names = read_index(folder, "val" if split == "val" else "train", description)
    new = (
        class_indices(folder, classes, known_names(labels, classes)) if labels is not None else np.arange(len(classes))
    )

    def within(what: str, labels: np.ndarray | None) -> ShardSource:
        place = (index["shard"], index[f"{what}offset"], index[f"{what}length"])
        held_out = description["validation"] != "its own"
        return ShardSource(shards, *place, str(folder), split, own_classes, names, labels, held_out=held_out)

    if task_of(description) == MaskedSource.target.task:
        return MaskedSource(within("", None), within("mask_", None), packed_legend(new))
    return within("", new[index["label"]])


def _open_tfds(name: str, split: str, labels: Sequence[str] | None) -> Source:
    records, indices, names, own = open_records(name.removeprefix(TFDS), split)
    classes, known = _classes(labels, names) if labels is not None else (tuple(names), {})
    new = class_indices(name, names, known) if labels is not None else np.arange(len(names))
    which = "train" if split == "train" or not own else "val"
    keys = [f"{which}/{index}" for index in range(len(indices))]
    chosen = np.arange(len(indices)) if own else _chosen(keys, indices, split)
    return RecordSource(
        records,
        chosen,
        name,
        split,
        classes,
        [keys[index] for index in chosen],
        new[indices[chosen]],
        held_out=not own,
    )


def _classes(labels: Sequence[str] | None, names: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names that the user wants, names found -> names of the classes in order, every name that one of them has."""
    if labels is not None:
        return tuple(labels), known_names(labels, names)
    found = {*names}
    classes = tuple(sorted(found, key=int) if all(name.isdecimal() for name in found) else sorted(found))
    return classes, {name: index for index, name in enumerate(classes)}


def _chosen(names: Sequence[str], labels: np.ndarray, split: str) -> np.ndarray:
    """Names and classes of all images -> indices of those that are of the split, where there is no split but this."""
    if split == ALL:
        return np.arange(len(names))
    validates = held_out(names, labels)
    if not validates.any():
        raise ArgumentError(
            "there is no validation split, and no class has the two images that it takes to hold one out; give val/"
        )
    return np.flatnonzero(validates if split == "val" else ~validates)


def held_out(names: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Names `[N]`, classes `[N]` -> bool `[N]`: the tenth of each class, and one at least of two, that validates."""
    digests = b"".join(
        hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest() for name in names
    )
    by_class = np.lexsort((np.frombuffer(digests, "<u8"), labels))
    counts = np.bincount(labels)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    shares = np.where(counts >= 2, np.maximum((counts + 5) // 10, 1), 0)
    validates = np.zeros(len(labels), bool)
    validates[by_class] = np.arange(len(labels)) - firsts < np.repeat(shares, counts)
    return validates
