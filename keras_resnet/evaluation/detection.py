"""Detections and the objects of their images -> average precision, confusion and calibration, added image by image."""

from dataclasses import dataclass

import numpy as np

from keras_resnet.evaluation.average_precision import NOT_COUNTED, AveragePrecision, Averages, Found, Truth
from keras_resnet.evaluation.calibration import Calibration, calibration_of

MATCH_IOU = 0.5
DECIDED_SCORE = 0.5  # smallest score of a detection that counts as a decision


@dataclass(frozen=True, eq=False)
class DetectionFigures:
    """Figures of a detector on N images."""

    boxes: Averages
    masks: Averages | None  # None: the network or the data has no masks
    confusion: np.ndarray  # int64 [classes + 1, classes + 1]; see `confusion_of_image`
    calibration: Calibration | None  # share of right detections by score; None without detections
    objects: np.ndarray  # int64 [classes], without ignored ones
    max_detections: int  # number of the best detections of a class in an image that count


class DetectionFiguresCollector:
    """Collector of images, from which `DetectionFigures` are computed.

    Args:
        has_masks: Whether objects and detections all have masks.
        max_detections: Number of the best detections of a class in an image that count; None: all.
    """

    def __init__(self, classes: int, has_masks: bool, max_detections: int | None = None) -> None:
        self._boxes = AveragePrecision("bbox", classes, max_detections)
        self._masks = AveragePrecision("segm", classes, max_detections) if has_masks else None
        self._confusion = np.zeros((classes + 1, classes + 1), np.int64)
        self._objects = np.zeros(classes, np.int64)
        self._scores: list[np.ndarray] = []
        self._right: list[np.ndarray] = []

    def add(self, truth: Truth, found: Found) -> np.ndarray:
        """Adds an image -> its own confusion matrix."""
        matches = self._boxes.add(truth, found)
        if self._masks is not None:
            self._masks.add(truth, found)
        counted = matches != NOT_COUNTED
        self._scores.append(np.asarray(found.scores, np.float64)[counted])
        self._right.append(matches[counted] > 0)
        own = confusion_of_image(truth, found, matches, len(self._objects))
        self._confusion += own
        self._objects += np.bincount(truth.classes[~truth.ignored], minlength=len(self._objects))
        return own

    def finish(self) -> DetectionFigures:
        """-> figures of all added images."""
        scores, right = np.concatenate(self._scores), np.concatenate(self._right)
        return DetectionFigures(
            self._boxes.averages(),
            None if self._masks is None else self._masks.averages(),
            self._confusion,
            calibration_of(scores.clip(0, 1), right) if scores.size else None,
            self._objects,
            self._boxes.max_detections,
        )


def confusion_of_image(truth: Truth, found: Found, matches: np.ndarray, classes: int) -> np.ndarray:
    """Objects, detections, the object of each detection as `AveragePrecision.add` gives it -> int64
    `[classes + 1, classes + 1]`: rows true, columns predicted.

    The last row counts detections without an object (background), and the last column objects without a detection
    (missed). Only detections with a score of at least `DECIDED_SCORE` count. Those that match no object of their class
    take, the highest score first, the free object of another class that they overlap most, with IoU 0.5 or more.
    """
    decided = (found.scores >= DECIDED_SCORE) & (matches != NOT_COUNTED)
    right = decided & (matches > 0)
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(matrix, (found.classes[right], found.classes[right]), 1)
    free = ~truth.ignored
    free[matches[right] - 1] = False
    wrong = np.flatnonzero(decided & ~right)
    wrong = wrong[np.argsort(-found.scores[wrong], kind="stable")]
    for detection, overlaps in zip(wrong, ious(found.boxes[wrong], truth.boxes), strict=True):
        best = int(np.where(free, overlaps, -1).argmax()) if free.any() else -1
        is_object = best >= 0 and overlaps[best] >= MATCH_IOU
        matrix[truth.classes[best] if is_object else classes, found.classes[detection]] += 1
        if is_object:
            free[best] = False
    np.add.at(matrix, (truth.classes[free], classes), 1)
    return matrix


def ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Boxes `[A, 4]`, `[B, 4]` as x1, y1, x2, y2 -> intersection over union `[A, B]`, float64; 0 for empty boxes."""
    first, second = (np.asarray(boxes, np.float64) for boxes in (a, b))
    sides = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    intersection = sides.clip(0).prod(axis=2)
    union = (first[:, 2:] - first[:, :2]).prod(axis=1)[:, None] + (second[:, 2:] - second[:, :2]).prod(axis=1)
    union = union - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def agreeing(a: Found, b: Found) -> int:
    """Detections of two networks in one image -> number of pairs of one class with IoU 0.5 or more.

    A detection of the first network takes, the highest score first, the free one of the second that it overlaps most.
    """
    overlaps = np.where(a.classes[:, None] == b.classes, ious(a.boxes, b.boxes), 0)
    pairs = 0
    for index in np.argsort(-a.scores, kind="stable"):
        if overlaps.shape[1] and overlaps[index].max() >= MATCH_IOU:
            overlaps[:, overlaps[index].argmax()] = 0
            pairs += 1
    return pairs
