"""Class probabilities -> figures in percent, of a model or of an artifact."""

from typing import Any

import numpy as np

from keras_resnet.labels import top_indices


def topk_accuracy_percent(probabilities: Any, labels: Any, k: int = 1) -> float:
    """`[N, classes]`, integer `[N]` -> percentage of rows whose label is among the k most probable classes.

    Raises:
        ValueError: Shapes that don't belong together, a value that is not finite, a label that is no class, or `k` out
            of 1..classes.
    """
    best = top_indices(probabilities, k)
    classes = np.shape(probabilities)[1]
    wanted = np.asarray(labels)
    if wanted.shape != (len(best),) or not np.issubdtype(wanted.dtype, np.integer):
        raise ValueError(
            f"`labels` must hold one integer for each of the {len(best)} rows of `probabilities`. "
            f"Received: {wanted.dtype} of shape {list(wanted.shape)}"
        )
    if wanted.min() < 0 or wanted.max() >= classes:
        raise ValueError(f"`labels` must lie in 0..{classes - 1}. Received: {wanted.min()}..{wanted.max()}")
    return 100 * float(np.mean((best == wanted[:, None]).any(axis=1)))


def top1_agreement_percent(a: Any, b: Any) -> float:
    """Two `[N, classes]` of the same images -> percentage of rows in which both name the same class first.

    Raises:
        ValueError: The shapes differ or are not `[N, classes]`, or a value is not finite.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(
            f"`a` and `b` must have the same shape [N, classes]. Received: {list(np.shape(a))} and {list(np.shape(b))}"
        )
    return 100 * float(np.mean(top_indices(a, 1) == top_indices(b, 1)))
