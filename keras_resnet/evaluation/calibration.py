"""Whether confidence equals accuracy: expected calibration error (Guo et al. 2017, arXiv 1706.04599)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_resnet.evaluation.accuracy import checked_labels
from keras_resnet.labels import top_indices

RELIABILITY_BINS = 15  # number of bins, as in the paper's tables
ROUNDING = 1e-3  # amount by which a 16-bit probability may exceed 1


@dataclass(frozen=True)
class Bin:
    """Images whose confidence, the probability of the predicted class, lies in one interval.

    For a detector, the bins hold detections instead of images, by their scores.
    """

    above_percent: float
    up_to_percent: float  # upper end of the interval, included
    images: int
    confidence_percent: float | None  # mean confidence; None without images
    top1_percent: float | None


@dataclass(frozen=True)
class Calibration:
    """Comparison of confidence and accuracy."""

    error_percent: float  # |accuracy - confidence|, averaged over the bins, weighted by their images
    bins: tuple[Bin, ...]


def calibration(probabilities: Any, labels: Any) -> Calibration:
    """`[N, classes]` in 0..1, integer `[N]` -> expected calibration error over 15 bins of equal width, and the bins.

    Raises:
        ValueError: The values are no probabilities; for others, see `topk_accuracy_percent`.
    """
    predicted = top_indices(probabilities, 1)[:, 0]
    values = np.asarray(probabilities)
    if values.min() < -ROUNDING or values.max() > 1 + ROUNDING:
        raise ValueError(f"`probabilities` must lie in 0..1. Received: {values.min():.6g}..{values.max():.6g}")
    right = checked_labels(labels, *values.shape) == predicted
    return calibration_of(values[np.arange(len(values)), predicted].astype(np.float64).clip(0, 1), right)


def calibration_of(confidence: np.ndarray, right: np.ndarray) -> Calibration:
    """Confidence in 0..1 `[N]`, whether each answer is right, bool `[N]` -> the error and the bins of `calibration`."""
    edges = np.linspace(0, 1, RELIABILITY_BINS + 1)
    bin_of = np.digitize(confidence, edges[1:-1], right=True)

    error, bins = 0.0, []
    for index in range(RELIABILITY_BINS):
        inside = bin_of == index
        images = int(inside.sum())
        mean_confidence = 100 * float(confidence[inside].mean()) if images else None
        top1 = 100 * float(right[inside].mean()) if images else None
        bins.append(Bin(100 * float(edges[index]), 100 * float(edges[index + 1]), images, mean_confidence, top1))
        if mean_confidence is not None and top1 is not None:
            error += images / len(confidence) * abs(top1 - mean_confidence)
    return Calibration(error, tuple(bins))
