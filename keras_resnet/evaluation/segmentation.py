"""Scores of pixels and masks -> confusion, IoU of each class and their mean, pixel accuracy."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation.accuracy import confusion_of
from keras_resnet.labels import VOID
from keras_resnet.preprocessing import fill, fit_whole
from keras_resnet.variants import WholeImage

ScorePixels = Callable[[np.ndarray], Any]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Confusion of pixels, int64 `[classes, classes]` (rows true, columns predicted), and figures computed from it."""

    confusion: np.ndarray

    @cached_property
    def class_iou_percent(self) -> np.ndarray:
        """IoU of each class, float64 `[classes]`; NaN for a class that neither masks nor predictions have."""
        right = np.diag(self.confusion)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - right
        return 100 * np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)

    @cached_property
    def mean_iou_percent(self) -> float:
        """Mean IoU over the classes whose IoU is not NaN."""
        return float(np.nanmean(self.class_iou_percent)) if self.confusion.any() else float("nan")

    @cached_property
    def pixel_accuracy_percent(self) -> float:
        pixels = int(self.confusion.sum())
        return 100 * int(np.trace(self.confusion)) / pixels if pixels else float("nan")


def pixel_confusion(scores: Any, mask: Any) -> np.ndarray:
    """`[..., H, W, classes]`, integers `[..., H, W]` -> pixels int64 `[classes, classes]`, without void pixels.

    Raises:
        ValueError: Shapes don't match, a score is not finite, or a label is no class.
    """
    values, wanted = np.asarray(scores), np.asarray(mask)
    if values.ndim < 3 or values.shape[:-1] != wanted.shape:
        raise ValueError(
            "`scores` [..., H, W, classes] and `mask` [..., H, W] must have the same height and width. "
            f"Received: {list(values.shape)} and {list(wanted.shape)}"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"`scores` must be finite. Received: NaN or infinity in {np.sum(~np.isfinite(values)):,} places"
        )
    counted = wanted != VOID
    return confusion_of(values.argmax(axis=-1)[counted], wanted[counted], values.shape[-1])


def evaluate_segmentation(
    predict: ScorePixels,
    samples: Iterable[tuple[np.ndarray, np.ndarray]],
    contract: WholeImage,
    classes: int,
) -> Segmentation:
    """Function of pixels, images uint8 `[H, W, 3]` with their masks uint8 `[H, W]`, number of classes -> figures.

    Each image is evaluated at the size of its mask; see `pixel_scores`.
    """
    confusion = np.zeros((classes, classes), np.int64)
    for pixels, mask in samples:
        confusion += pixel_confusion(pixel_scores(predict, pixels, contract), mask)
    return Segmentation(confusion)


def pixel_scores(
    predict: ScorePixels, pixels: np.ndarray, contract: WholeImage, window: tuple[int, int] | None = None
) -> np.ndarray:
    """Function from pixels uint8 `[1, h, w, 3]` to scores `[1, h, w, classes]`, image uint8 `[H, W, 3]` -> scores of
    its pixels, `[H, W, classes]` float32.

    The network gets the whole image by its contract, and its scores are resized bilinearly to the image, as inside the
    network. With a window (height, width), a larger image is given in parts that overlap by half, and the scores are
    averaged.

    Args:
        predict: Function of a model or an artifact that returns dequantized probabilities.
        window: Height and width of a part, which must be the size of the contract, if it has one.

    Raises:
        ArgumentError: The window differs from the contract's size.
    """
    height, width = pixels.shape[:2]
    if window is None or (height <= window[0] and width <= window[1]):
        scores = np.asarray(predict(fit_whole(pixels, contract)[None]))[0]
        rows, columns = contract.area_of(height, width)
        return resized(scores[:rows, :columns], height, width)
    if contract.height is not None and window != contract.sides:
        raise ArgumentError(
            f"the window must be the network's own, {contract.height}x{contract.width}. "
            f"Received: {window[0]}x{window[1]}"
        )
    total, count = None, np.zeros((height, width, 1), np.float32)
    for top in _starts(height, window[0]):
        for left in _starts(width, window[1]):
            place = np.s_[top : top + window[0], left : left + window[1]]
            part = pixels[place]
            filled = fill(part, contract)
            scores = np.asarray(predict(filled[None]))[0, : part.shape[0], : part.shape[1]]
            total = np.zeros((height, width, scores.shape[-1]), np.float32) if total is None else total
            total[place] += scores
            count[place] += 1
    return total / count  # type: ignore[operator]  # there is at least one part


def _starts(length: int, window: int) -> list[int]:
    """Sides of an image and a window, in pixels -> starts of windows that cover the image and overlap by half."""
    if length <= window:
        return [0]
    steps = math.ceil((length - window) / max(1, window // 2))
    return [round(start) for start in np.linspace(0, length - window, steps + 1)]


def resized(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[h, w, classes]` -> `[height, width, classes]`, float32."""
    if scores.shape[:2] == (height, width):
        return scores.astype(np.float32)
    planes = np.moveaxis(scores.astype(np.float32), 2, 0)
    planes_resized = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR)) for plane in planes
    ]
    return np.stack(planes_resized, axis=2)
