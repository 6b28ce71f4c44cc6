"""Weights of the classes in training."""

from typing import Any

import numpy as np


def class_weights(kind: Any, class_counts: np.ndarray) -> list[float] | None:
    """A recipe's `class_weights`, images (or pixels) of each class -> weight of each class; its mean over images is 1.

    The result is None if the recipe asks for no weights.
    """
    if kind == "none":
        return None
    present = np.maximum(class_counts, 1)
    return [float(weight) for weight in class_counts.sum() / (np.count_nonzero(class_counts) * present)]
