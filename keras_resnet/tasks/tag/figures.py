"""Probabilities of classes and true classes -> average precision and F1, in NumPy."""

from typing import NamedTuple

import numpy as np


def average_precision(tags: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """0 or 1 `[N, classes]`, probabilities `[N, classes]` -> average precision of each class, float64 `[classes]`.

    Images are taken by falling probability. The precision among the images so far is averaged over the images that have
    the class. Images of equal probability are taken together, since their order means nothing. The result is NaN for a
    class that no image has.
    """
    order = np.argsort(-probabilities, axis=0, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=0)
    hits = np.cumsum(np.take_along_axis(tags, order, axis=0), axis=0, dtype="int64")
    taken = np.arange(1, len(tags) + 1)
    result = np.full(tags.shape[1], np.nan)
    for index, positives in enumerate(hits[-1]):
        if positives:
            last_of_equals = np.flatnonzero(np.append(np.diff(ranked[:, index]) != 0, True))
            found = hits[last_of_equals, index]
            result[index] = np.sum(np.diff(found, prepend=0) * found / taken[last_of_equals]) / positives
    return result


class F1(NamedTuple):
    """F1 of decisions: 2 * right / (found + true)."""

    of_class: np.ndarray  # F1 of each class, float64 [classes]; NaN for a class that no image has
    micro: float  # F1 over all decisions together
    macro: float  # mean F1 over the classes that an image has; NaN if there is none


def f1(tags: np.ndarray, decided: np.ndarray) -> F1:
    """0 or 1 `[N, classes]`, whether a class was found, bool `[N, classes]` -> F1 of each class, and over all."""
    right = np.sum(decided & (tags == 1), axis=0)
    there = np.sum(tags, axis=0, dtype="int64")
    both = there + decided.sum(axis=0)
    of_class = np.where(there > 0, 2 * right / np.maximum(both, 1), np.nan)
    return F1(of_class, float(2 * right.sum() / max(both.sum(), 1)), mean_of_known(of_class))


def mean_of_known(values: np.ndarray) -> float:
    """Values of the classes -> mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
