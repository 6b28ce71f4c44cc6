"""Names of classes -> their indices."""

import difflib
import os
from collections.abc import Mapping, Sequence

import numpy as np

from keras_resnet.errors import ArgumentError
from keras_resnet.labels import imagenet_labels

NAMES_LISTED = 10  # names in an error message
LONGEST_INDEX = 6  # digits; a table with a class for each number below it still fits into memory


def listed_file(name: str) -> str:
    """File of an image, or name of an image without a file -> text for a CSV file that may lie in any folder."""
    return os.path.abspath(name) if os.path.isfile(name) else name


def class_indices(
    source: str | os.PathLike[str], names: Sequence[str], known: Mapping[str, int], where: str = "unknown to the model"
) -> np.ndarray:
    """Where they come from, names of classes, the known names, what others are -> their indices int `[N]`.

    Raises:
        ArgumentError: Some names are unknown; the message suggests the nearest known name.
    """
    unknown = sorted({*names} - {*known})
    if unknown:
        lines = []
        for name in unknown[:NAMES_LISTED]:
            nearest = difflib.get_close_matches(name, known, n=1)
            lines.append(f"  {name}" + (f" (did you mean {nearest[0]}?)" if nearest else ""))
        advice = "Give them names of known classes, train on these classes, too, or remove their images"
        raise ArgumentError(f"{source}: classes that are {where}: {len(unknown)}", *lines, advice)
    return np.array([known[name] for name in names], dtype="int64")


def known_names(class_names: Sequence[str]) -> dict[str, int]:
    """Names of the classes -> every name that one of them has, with its index.

    A class has its name, its wnid where the classes are ImageNet's, and its number where no class has a number as name.
    """
    known = {}
    if not any(name.isdecimal() for name in class_names):
        known = {str(index): index for index in range(len(class_names))}
    pairs = imagenet_labels()
    if list(class_names) == [name for _, name in pairs]:
        known |= {wnid: index for index, (wnid, _) in enumerate(pairs)}
    return known | {name: index for index, name in enumerate(class_names)}


def places_of(source: str | os.PathLike[str], cells: Sequence[str], classes: int | None) -> np.ndarray:
    """Where they come from, indices of classes as texts, number of classes if it is known -> int `[N]`.

    Raises:
        ArgumentError: A text is no whole number, or one is not below the number of classes.
    """
    wrong = [cell for cell in cells if not (cell.isdecimal() and len(cell) <= LONGEST_INDEX)]
    if wrong:
        raise ArgumentError(
            f"{source}: the index of a class must be a whole number from 0, of at most {LONGEST_INDEX} digits. "
            f"Received: {wrong[0][:80]}"
        )
    indices = np.array([int(cell) for cell in cells], dtype="int64")
    if classes is not None and len(indices) and indices.max() >= classes:
        raise ArgumentError(
            f"{source}: the index of a class must be at most {classes - 1}, since the model has {classes} classes. "
            f"Received: {indices.max()}"
        )
    return indices
