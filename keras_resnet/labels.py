"""Class probabilities -> names; ImageNet's 1000 names ship with the package."""

import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

VOID = 255  # label of pixels without a class, which losses and figures ignore


@functools.cache
def imagenet_labels() -> tuple[tuple[str, str], ...]:
    """-> 1000 pairs (WordNet identifier, name) in the order of the outputs, named as in keras.applications.

    Two names occur twice ("crane", "maillot"); the identifiers are unique.
    """
    lines = (resources.files("keras_resnet") / "imagenet_classes.tsv").read_text("utf-8").splitlines()
    return tuple((wnid, name) for wnid, name in (line.split("\t") for line in lines))


def decode_predictions(
    probabilities: Any, top: int = 5, class_names: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """`[N, classes]` -> for each of N images, the `top` most probable (wnid, name, probability), best first.

    Args:
        probabilities: Array or tensor `[N, classes]`.
        top: Number of classes to name. If probabilities are equal, the lower class index comes first.
        class_names: The name of each class. Default: ImageNet's 1000. Other names have no WordNet identifier, and the
            first element is then the class index as a string.

    Raises:
        ValueError: The shape is not `[N, classes]`, a value is not finite, `top` is out of 1..classes, or there are
            not as many names as classes.
    """
    best = top_indices(probabilities, top, argument="top")
    values = np.asarray(probabilities)
    if class_names is None:
        names: Sequence[tuple[str, str]] = imagenet_labels()
    else:
        names = [(str(index), name) for index, name in enumerate(class_names)]
    if len(names) != values.shape[1]:
        raise ValueError(
            f"`class_names` must hold one name for each of the {values.shape[1]} classes (default: ImageNet's 1000). "
            f"Received: {len(names)} names"
        )
    return [[(*names[i], float(row[i])) for i in indices] for row, indices in zip(values, best, strict=True)]


def top_indices(probabilities: Any, k: int, argument: str = "k") -> np.ndarray:
    """`[N, classes]` -> int `[N, k]`: the k largest of each row, best first. Of equal values, the lower index is first.

    `argument` is the name of `k` in error messages.

    Raises:
        ValueError: The shape is not `[N, classes]`, a value is not finite, or `k` is out of 1..classes.
    """
    values = np.asarray(probabilities).astype(np.float64)  # negating the outputs of an int8 network would overflow
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"`probabilities` must be an array [N, classes]. Received: shape {list(values.shape)}")
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise ValueError(
            f"`probabilities` must be finite. Received: NaN or infinity in {len(rows)} of {len(values)} rows, "
            f"first in row {rows[0]}"
        )
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= values.shape[1]:
        raise ValueError(
            f"`{argument}` must be an integer in 1..{values.shape[1]} (the number of classes). "
            f"Received: {argument}={k!r}"
        )
    return np.argsort(-values, axis=1, kind="stable")[:, :k]
