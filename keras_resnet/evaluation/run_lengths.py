"""Masks as run-length codes of COCO, which take a few hundred bytes each.

A code is made from the pixels of the object. pycocotools' own `encode` reads the zeros of the whole image as well,
which takes most of its time.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_resnet.masks_in_boxes import mask_parts
from keras_resnet.optional import require

MASK_THRESHOLD = 0.5  # probability from which on a pixel belongs to the object
RunLengths = Mapping[str, Any]  # "size": [height, width], "counts": bytes


def run_lengths_of_boxes(masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> list[RunLengths]:
    """`[D, 28, 28]` probabilities in boxes `[D, 4]`, height and width of the image -> code of each pasted mask.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    found = []
    for rows, columns, part in mask_parts(masks, boxes, height, width):
        x, y = np.nonzero(part.T >= MASK_THRESHOLD)  # by columns, as the codes count
        found.append(_encoded((x + columns.start) * height + y + rows.start, height, width))
    return found


def run_lengths_of_instances(instances: np.ndarray, objects: int) -> list[RunLengths]:
    """Instance map `[H, W]`, number of objects -> code of the pixels with each value 1, 2 and so on.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    values = np.asarray(instances).T.ravel().astype(np.int64)
    places = np.flatnonzero(values)
    order = places[np.argsort(values[places], kind="stable")]
    counts = np.bincount(values[places], minlength=objects + 1)[1 : objects + 1]
    parts = np.split(order, np.cumsum(counts))[:objects]
    return [_encoded(part, *instances.shape) for part in parts]


def _encoded(places: np.ndarray, height: int, width: int) -> RunLengths:
    """Rising places of an object's pixels, counted by columns -> its code."""
    coco = require("pycocotools.mask", "detect")
    breaks = np.flatnonzero(np.diff(places) > 1)
    starts = places[np.concatenate([[0], breaks + 1])] if len(places) else places
    ends = places[np.concatenate([breaks, [-1]])] + 1 if len(places) else places
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
    return coco.frPyObjects({"size": [height, width], "counts": np.diff(edges).tolist()}, height, width)
