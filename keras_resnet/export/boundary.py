"""Images on the boundary between two classes, where small errors of a network change its answers most.

A trained network is sure of most images, and then even a damaged integer file gives nearly equal answers. Between an
image of one class and an image of another there is a blend of both at which the network changes its mind.
"""

from typing import NamedTuple

import keras
import numpy as np

from keras_resnet import inference
from keras_resnet.tasks.base import Check

COUNT = 64  # blends
# The interval of shares in which the network changes its mind is halved first, since far from its boundary a network is
# as sure as it can be. Then the place where it changes is interpolated. Five halvings came no nearer to the boundary.
HALVINGS, INTERPOLATIONS = 2, 2
INNER = 0.1  # smallest distance of an interpolated share from the ends of the interval, as a part of the interval
SMALLEST_LEAD = 1e-6  # where classes are tied, which avoids a division by zero
SEED = 0


class Boundary(NamedTuple):
    """Images on the boundary, and the model's answers."""

    images: np.ndarray  # uint8 `[n, H, W, C]`
    probabilities: np.ndarray  # `[n, classes]`


def boundary_of(model: keras.Model, images: np.ndarray, probabilities: np.ndarray) -> Boundary | None:
    """Prepared classifier, uint8 pixels, its answers -> images between two classes; None if all have one class."""
    random, classes = np.random.default_rng(SEED), probabilities.argmax(axis=1)
    first, second = random.integers(len(images), size=(2, 8 * COUNT))
    differ = classes[first] != classes[second]
    first, second = first[differ][:COUNT], second[differ][:COUNT]
    if not len(first):
        return None
    low, high = np.zeros(len(first)), np.ones(len(first))  # the network changes its mind between these shares
    before, after = (_leads(probabilities[chosen], classes[first]) for chosen in (first, second))
    nearest, answers, margins = images[first].copy(), probabilities[first].copy(), _margins(probabilities[first])
    for step in range(HALVINGS + INTERPOLATIONS):
        between = before / np.maximum(before - after, SMALLEST_LEAD)
        part = np.clip(between, INNER, 1 - INNER) if step >= HALVINGS else 0.5
        middle = low + part * (high - low)
        share = middle.astype("float32")[:, None, None, None]
        blends = np.rint((1 - share) * images[first] + share * images[second]).astype(images.dtype)
        found = inference.predict(model, blends)
        nearer = _margins(found) < margins
        nearest[nearer], answers[nearer], margins[nearer] = blends[nearer], found[nearer], _margins(found)[nearer]
        leads = _leads(found, classes[first])
        stays = leads > 0
        low, before = np.where(stays, middle, low), np.where(stays, leads, before)
        high, after = np.where(stays, high, middle), np.where(stays, after, leads)
    return Boundary(nearest, answers)


def _margins(probabilities: np.ndarray) -> np.ndarray:
    """`[n, classes]` -> by how much the best class leads, `[n]`."""
    ranked = np.sort(probabilities, axis=1)
    return ranked[:, -1] - ranked[:, -2]


def _leads(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """`[n, classes]`, a class for each `[n]` -> logarithm of its probability over the best other one's, `[n]`."""
    logarithms, rows = np.log(np.maximum(probabilities, 1e-30)), np.arange(len(classes))
    own = logarithms[rows, classes]
    logarithms[rows, classes] = -np.inf
    return own - logarithms.max(axis=1)


def boundary_check(answers: np.ndarray, expected: np.ndarray, bound: float) -> Check:
    """Answers of an artifact and of its model on the boundary `[n, classes]`, bound -> check of their difference."""
    best = np.argsort(-expected, axis=1)[:, :2]
    difference = np.take_along_axis(answers.astype("float64") - expected, best, axis=1)
    error = float(np.sqrt(np.mean(difference**2)))
    measured = f"{error:.3g} on {len(expected)} images between two classes"
    return Check("boundary error", measured, f"at most {bound:.3g}", error <= bound)
