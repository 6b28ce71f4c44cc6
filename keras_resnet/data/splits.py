"""The split of a set into training and validation images, and the order of its classes."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from keras_resnet.data.labelled import known_names
from keras_resnet.errors import ArgumentError

Split = Literal["train", "val"]
ALL = "all"
SPLITS = ("train", "val", ALL)


def classes_of(class_names: Sequence[str] | None, names: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names that the user gives, names found -> class names in order, index of every accepted name."""
    if class_names is not None:
        return tuple(class_names), known_names(class_names)
    found = {*names}
    classes = tuple(sorted(found, key=int) if all(name.isdecimal() for name in found) else sorted(found))
    return classes, {name: index for index, name in enumerate(classes)}


def opened_part(split: str, has_validation: bool) -> str:
    """One of `SPLITS`, whether the data has validation images of its own -> part of the data to open.

    For "all", data with its own validation images opens its training part.
    """
    return "train" if split == ALL and has_validation else split


def chosen_of(names: Sequence[str], labels: np.ndarray, split: str) -> np.ndarray:
    """Names and classes of all images, split -> indices of the split's images, for data without a validation split."""
    if split == ALL:
        return np.arange(len(names))
    validates = held_out(names, labels)
    if not validates.any():
        raise ArgumentError(
            "there are no validation images, and no class has two images, so that one could be held out. Add images, "
            "or a folder val/, or rows with val in a column split"
        )
    return np.flatnonzero(validates if split == "val" else ~validates)


def held_out(names: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Names `[N]`, classes `[N]` -> bool `[N]`: validation images, a tenth of each class with two images or more."""
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
