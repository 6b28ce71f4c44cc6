"""Class probabilities and labels -> accuracy in percent, and confusion matrix."""

from typing import Any, NamedTuple

import numpy as np

from keras_resnet.labels import top_indices


def topk_accuracy_percent(probabilities: Any, labels: Any, k: int = 1) -> float:
    """`[N, classes]`, integer `[N]` -> percentage of rows whose label is among the k most probable classes.

    Raises:
        ValueError: Shapes don't match, a value is not finite, a label is no class, or `k` is not in 1..classes.
    """
    best = top_indices(probabilities, k)
    wanted = checked_labels(labels, *np.shape(probabilities))
    return 100 * float(np.mean((best == wanted[:, None]).any(axis=1)))


def checked_labels(labels: Any, rows: int, classes: int) -> np.ndarray:
    """Labels in 0..classes-1 -> integer array `[rows]`.

    Raises:
        ValueError: The labels have another shape or type, or are out of range.
    """
    wanted = np.asarray(labels)
    if wanted.shape != (rows,) or not np.issubdtype(wanted.dtype, np.integer):
        raise ValueError(
            f"`labels` must hold one integer for each of the {rows} rows of `probabilities`. "
            f"Received: {wanted.dtype} of shape {list(wanted.shape)}"
        )
    if rows and (wanted.min() < 0 or wanted.max() >= classes):
        raise ValueError(f"`labels` must lie in 0..{classes - 1}. Received: {wanted.min()}..{wanted.max()}")
    return wanted


def confusion_matrix(probabilities: Any, labels: Any) -> np.ndarray:
    """`[N, classes]`, integer `[N]` -> number of images int64 `[classes, classes]`: rows true, columns predicted.

    Raises:
        ValueError: See `topk_accuracy_percent`.
    """
    return confusion_of(top_indices(probabilities, 1)[:, 0], labels, np.shape(probabilities)[1])


def confusion_of(predicted: np.ndarray, labels: Any, classes: int) -> np.ndarray:
    """Predicted and true classes, integers `[N]` -> number of each pair int64 `[classes, classes]`: rows true.

    Raises:
        ValueError: See `checked_labels`.
    """
    wanted = checked_labels(labels, len(predicted), classes).astype(np.int64)
    return np.bincount(wanted * classes + predicted, minlength=classes**2).reshape(classes, classes)


class ClassAccuracy(NamedTuple):
    """Number of images and accuracy of each class."""

    images: np.ndarray  # int64 [classes]
    top1_percent: np.ndarray  # float64 [classes]; NaN for a class without images


def class_accuracy(probabilities: Any, labels: Any) -> ClassAccuracy:
    """`[N, classes]`, integer `[N]` -> number of images and top-1 accuracy (recall) of each class.

    Raises:
        ValueError: See `topk_accuracy_percent`.
    """
    return accuracy_of_matrix(confusion_matrix(probabilities, labels))


def accuracy_of_matrix(matrix: np.ndarray) -> ClassAccuracy:
    """Confusion matrix int `[classes, classes]` -> number of images and top-1 accuracy of each class."""
    images = matrix.sum(axis=1)
    share = np.divide(np.diag(matrix), images, out=np.full(len(matrix), np.nan), where=images > 0)
    return ClassAccuracy(images, 100 * share)


def top1_agreement_percent(a: Any, b: Any) -> float:
    """Two `[N, classes]` for the same images -> percentage of rows with the same most probable class.

    Raises:
        ValueError: The shapes differ or are not `[N, classes]`, or a value is not finite.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(
            f"`a` and `b` must have the same shape [N, classes]. Received: {list(np.shape(a))} and {list(np.shape(b))}"
        )
    return 100 * float(np.mean(top_indices(a, 1) == top_indices(b, 1)))
