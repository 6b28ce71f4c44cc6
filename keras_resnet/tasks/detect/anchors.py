"""Objects of a set against the anchors of a detector: the recall of the anchors, and anchors that fit the objects.

The recall at an IoU is the share of objects for which some anchor reaches it. Anchors count where they lie: on each
level of a feature pyramid, at multiples of the level's stride. Their sides are not rounded here, and objects at the
border count as if the anchors continued there.

Sizes of anchors are proposed by a search for the highest mean IoU of the objects with their best anchors. It starts
once from clusters of the objects' sizes (k-means with IoU as in YOLOv2, Redmon and Farhadi 2016, arXiv 1612.08242,
section 2), and once from sizes at equal ratios to each other. Then it makes one size at a time a little larger or
smaller as long as this helps, since clusters know nothing of the strides. Fitted ratios of the sides would add little:
the mean IoU rose by 0.1 to 1.9 points on blood cells and nuclei, at four sizes of image.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_resnet.detection_layers.anchors import ASPECT_RATIOS
from keras_resnet.tasks.detect.detected import DetectedSource
from keras_resnet.variants import ANCHOR_SIZES, WholeImage

FIRST_STRIDE = 4  # stride of the first level; each further level has twice the stride
IOUS = (0.5, 0.7)
SAMPLE = 1_000  # objects that the search looks at
STEPS = (1.2, 1.05)  # factors by which the search changes a size; the second refines what the first found
MOST_ROUNDS = 100
SEED = 0


Sizes = Sequence[float]  # for each level, the finest first: side in pixels of a square with the area of its anchors


class Fit(NamedTuple):
    """How well anchors fit the objects of a set."""

    sizes: Sizes
    recall_percent: dict[float, float]  # IoU -> share of the objects
    mean_iou_percent: float  # mean over the objects, each with its best anchor


def taught_boxes(sources: Sequence[DetectedSource], contract: WholeImage) -> np.ndarray:
    """Sources, how images are resized for the network -> boxes of all objects that are not ignored, in the network's
    pixels, float64 `[n, 4]`."""
    found = [np.zeros((0, 4))]
    for source in sources:
        for each in source.objects:
            if len(each.boxes):
                down, across = np.array(contract.area_of(*each.size)) / each.size
                found.append(each.boxes[~each.ignored] * [across, down, across, down])
    return np.concatenate(found)


def fit_of(boxes: np.ndarray, sizes: Sizes) -> Fit:
    """Boxes `[n, 4]`, sizes of the anchors -> how well the anchors fit; NaN without boxes."""
    if not len(boxes):
        return Fit(sizes, dict.fromkeys(IOUS, float("nan")), float("nan"))
    best = best_ious(boxes, sizes)
    recall = {iou: 100 * float(np.mean(best >= iou)) for iou in IOUS}
    return Fit(sizes, recall, 100 * float(best.mean()))


def best_ious(boxes: np.ndarray, sizes: Sizes) -> np.ndarray:
    """Boxes `[n, 4]`, sizes of the anchors -> IoU of each box with its best anchor, `[n]`."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    best = np.zeros(len(boxes))
    for level, size in enumerate(sizes):
        stride = FIRST_STRIDE << level
        away = np.abs(centres - stride * np.round(centres / stride))  # from the nearest place of an anchor
        for ratio in ASPECT_RATIOS:
            own = np.array([size / np.sqrt(ratio), size * np.sqrt(ratio)])
            overlaps = np.clip((own + sides) / 2 - away, 0, np.minimum(own, sides)).prod(axis=1)
            best = np.maximum(best, overlaps / (sides.prod(axis=1) + own.prod() - overlaps))
    return best


def proposed_sizes(boxes: np.ndarray, levels: int = len(ANCHOR_SIZES)) -> Sizes:
    """Boxes `[n, 4]`, number of levels -> sizes of anchors that fit them; torchvision's, if there are no boxes."""
    if not len(boxes):
        return ANCHOR_SIZES
    if len(boxes) > SAMPLE:
        boxes = boxes[np.random.default_rng(SEED).choice(len(boxes), SAMPLE, replace=False)]
    found = [_climbed(boxes, start) for start in _starts(boxes, levels)]
    return tuple(max(1, round(size)) for size in max(found, key=lambda sizes: best_ious(boxes, sizes).mean()))


def _starts(boxes: np.ndarray, levels: int) -> Iterator[Sizes]:
    sizes = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    yield _clusters(sizes, levels)
    smallest, largest = np.percentile(sizes, [5, 95])
    yield tuple(np.geomspace(smallest, largest, levels).tolist())


def _clusters(sizes: np.ndarray, count: int) -> Sizes:
    """Sizes of boxes, number of clusters -> median of each cluster, rising, by k-means from quantiles, so that equal
    data give equal clusters.

    Of two squares with one centre, the IoU is the smaller area by the larger one.
    """
    centres = np.quantile(sizes, (2 * np.arange(count) + 1) / (2 * count))
    for _ in range(MOST_ROUNDS):
        ious = (np.minimum(sizes[:, None], centres) / np.maximum(sizes[:, None], centres)) ** 2
        nearest = ious.argmax(axis=1)
        new = [np.median(sizes[nearest == k]) if (nearest == k).any() else centres[k] for k in range(count)]
        if np.array_equal(new, centres):
            break
        centres = np.array(new)
    return tuple(sorted(centres.tolist()))


def _climbed(boxes: np.ndarray, sizes: Sizes) -> Sizes:
    """Boxes, sizes to start from -> sizes where no single step raises the mean IoU."""
    score = best_ious(boxes, sizes).mean()
    for step in STEPS:
        for _ in range(MOST_ROUNDS):
            before = score
            for other in _neighbours(sizes, step):
                mean = best_ious(boxes, other).mean()
                if mean > score:
                    sizes, score = other, mean
            if score == before:
                break
    return sizes


def _neighbours(sizes: Sizes, step: float) -> Iterator[Sizes]:
    for place in range(len(sizes)):
        for factor in (step, 1 / step):
            changed = (*sizes[:place], sizes[place] * factor, *sizes[place + 1 :])
            if changed == tuple(sorted(changed)):  # a coarser level is for larger objects
                yield changed
