"""How much each class counts in training."""

from typing import Any

import numpy as np


def class_weights(kind: Any, class_counts: np.ndarray) -> list[float] | None:
    """A recipe's `class_weights`, images (or pixels) of each class -> its weight, 1 on average over all of them.

    None where all count alike.
    """
    if kind == "none":
        return None
    present = np.maximum(class_counts, 1)
    return [float(weight) for weight in class_counts.sum() / (np.count_nonzero(class_counts) * present)]
