"""Objects of a set against the anchors of a detector: the recall of the anchors, and anchors that fit the objects.

The recall at an IoU is the share of objects for which some anchor reaches it. Anchors count where they lie: on each
level of a feature pyramid, at multiples of the level's stride. Their sides are not rounded here, and objects at the
border count as if the anchors continued there.

Anchors are proposed by a search for the highest mean IoU of the objects with their best anchors. It starts once from
clusters of the objects' sizes and ratios (k-means with IoU as in YOLOv2, Redmon and Farhadi 2016, arXiv 1612.08242,
section 2), and once from sizes at equal ratios to each other. Then it makes one size or ratio at a time a little larger
or smaller as long as this helps, since clusters know nothing of the strides.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_resnet.tasks.detect.detected import DetectedSource
from keras_resnet.variants import WholeImage

FIRST_STRIDE = 4  # stride of the first level; each further level has twice the stride
RATIOS = (0.5, 1.0, 2.0)  # height to width
IOUS = (0.5, 0.7)
SAMPLE = 1_000  # objects that the search looks at
STEPS = (1.2, 1.05)  # factors by which the search changes a size or a ratio; the second refines what the first found
MOST_ROUNDS = 100
SEED = 0


class Anchors(NamedTuple):
    """One size a level, from the finest level on, each with all ratios. The defaults are torchvision's."""

    sizes: tuple[float, ...] = (32, 64, 128, 256, 512)  # side in pixels of the square with the anchor's area
    ratios: tuple[float, ...] = RATIOS


class Fit(NamedTuple):
    """How well anchors fit the objects of a set."""

    anchors: Anchors
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


def fit_of(boxes: np.ndarray, anchors: Anchors) -> Fit:
    """Boxes `[n, 4]`, anchors -> how well the anchors fit; NaN without boxes."""
    if not len(boxes):
        return Fit(anchors, dict.fromkeys(IOUS, float("nan")), float("nan"))
    best = best_ious(boxes, anchors)
    recall = {iou: 100 * float(np.mean(best >= iou)) for iou in IOUS}
    return Fit(anchors, recall, 100 * float(best.mean()))


def best_ious(boxes: np.ndarray, anchors: Anchors) -> np.ndarray:
    """Boxes `[n, 4]`, anchors -> IoU of each box with its best anchor, `[n]`."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    best = np.zeros(len(boxes))
    for level, size in enumerate(anchors.sizes):
        stride = FIRST_STRIDE << level
        away = np.abs(centres - stride * np.round(centres / stride))  # from the nearest place of an anchor
        for ratio in anchors.ratios:
            own = np.array([size / np.sqrt(ratio), size * np.sqrt(ratio)])
            overlaps = np.clip((own + sides) / 2 - away, 0, np.minimum(own, sides)).prod(axis=1)
            best = np.maximum(best, overlaps / (sides.prod(axis=1) + own.prod() - overlaps))
    return best


def proposed_anchors(boxes: np.ndarray, levels: int = len(Anchors().sizes)) -> Anchors:
    """Boxes `[n, 4]`, number of levels -> anchors that fit them; torchvision's, if there are no boxes."""
    if not len(boxes):
        return Anchors()
    if len(boxes) > SAMPLE:
        boxes = boxes[np.random.default_rng(SEED).choice(len(boxes), SAMPLE, replace=False)]
    found = [_climbed(boxes, start) for start in _starts(boxes, levels)]
    best = max(found, key=lambda anchors: best_ious(boxes, anchors).mean())
    return Anchors(tuple(round(size, 1) for size in best.sizes), tuple(round(ratio, 2) for ratio in best.ratios))


def _starts(boxes: np.ndarray, levels: int) -> Iterator[Anchors]:
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    sizes, ratios = np.sqrt(width * height), height / width
    yield Anchors(_clusters(sizes, levels, 2), _clusters(ratios, len(RATIOS), 1))
    smallest, largest = np.percentile(sizes, [5, 95])
    yield Anchors(tuple(np.geomspace(smallest, largest, levels).tolist()), RATIOS)


def _clusters(values: np.ndarray, count: int, power: int) -> tuple[float, ...]:
    """Values above 0, number of clusters, 2 if areas grow with the square of a value -> median of each cluster, rising,
    by k-means from quantiles, so that equal data give equal clusters.

    Of two rectangles with one centre, one of which holds the other, the IoU is the smaller area by the larger one.
    """
    centres = np.quantile(values, (2 * np.arange(count) + 1) / (2 * count))
    for _ in range(MOST_ROUNDS):
        ious = (np.minimum(values[:, None], centres) / np.maximum(values[:, None], centres)) ** power
        nearest = ious.argmax(axis=1)
        new = [np.median(values[nearest == k]) if (nearest == k).any() else centres[k] for k in range(count)]
        if np.array_equal(new, centres):
            break
        centres = np.array(new)
    return tuple(sorted(centres.tolist()))


def _climbed(boxes: np.ndarray, anchors: Anchors) -> Anchors:
    """Boxes, anchors to start from -> anchors where no single step raises the mean IoU."""
    score = best_ious(boxes, anchors).mean()
    for step in STEPS:
        for _ in range(MOST_ROUNDS):
            before = score
            for other in _neighbours(anchors, step):
                mean = best_ious(boxes, other).mean()
                if mean > score:
                    anchors, score = other, mean
            if score == before:
                break
    return anchors


def _neighbours(anchors: Anchors, step: float) -> Iterator[Anchors]:
    values = [*anchors.sizes, *anchors.ratios]
    for place in range(len(values)):
        for factor in (step, 1 / step):
            changed = [*values[:place], values[place] * factor, *values[place + 1 :]]
            sizes, ratios = changed[: len(anchors.sizes)], changed[len(anchors.sizes) :]
            if sizes == sorted(sizes):  # a coarser level is for larger objects
                yield Anchors(tuple(sizes), tuple(sorted(ratios)))
