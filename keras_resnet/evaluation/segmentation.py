"""Scores of pixels and masks -> confusion, IoU of each class and their mean, pixel accuracy."""

import math
from collections.abc import Callable, Iterable, Iterator
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
    if window is None or _fits(pixels, window):
        return resized(_whole_scores(predict, pixels, contract), *pixels.shape[:2])
    return np.concatenate([*_bands(predict, pixels, contract, window)])


def pixel_classes(
    predict: ScorePixels, pixels: np.ndarray, contract: WholeImage, window: tuple[int, int] | None = None
) -> np.ndarray:
    """Arguments of `pixel_scores` -> class with the highest score of each pixel, `[H, W]` uint8.

    The scores of all pixels are never held at once: for 16 megapixels and 21 classes, they take 1.3 GB.
    """
    if window is None or _fits(pixels, window):
        return resized_classes(_whole_scores(predict, pixels, contract), *pixels.shape[:2])
    bands = _bands(predict, pixels, contract, window)
    return np.concatenate([band.argmax(axis=2).astype(np.uint8) for band in bands])


def _fits(pixels: np.ndarray, window: tuple[int, int]) -> bool:
    return pixels.shape[0] <= window[0] and pixels.shape[1] <= window[1]


def _whole_scores(predict: ScorePixels, pixels: np.ndarray, contract: WholeImage) -> np.ndarray:
    """-> scores of the whole image, at the size by which the network was given it."""
    scores = np.asarray(predict(fit_whole(pixels, contract)[None]))[0]
    rows, columns = contract.area_of(*pixels.shape[:2])
    return scores[:rows, :columns]


def _bands(
    predict: ScorePixels, pixels: np.ndarray, contract: WholeImage, window: tuple[int, int]
) -> Iterator[np.ndarray]:
    """-> averaged scores of the image's rows from top to bottom, `[rows, W, classes]`, once no window will add more."""
    if contract.height is not None and window != contract.sides:
        raise ArgumentError(
            f"the window must be the network's own, {contract.height}x{contract.width}. "
            f"Received: {window[0]}x{window[1]}"
        )
    height, width = pixels.shape[:2]
    tops, rows = window_starts(height, window[0]), min(window[0], height)
    total, count = None, np.zeros((rows, width, 1), np.float32)
    for top, end in zip(tops, [*tops[1:], height], strict=True):
        for left in window_starts(width, window[1]):
            part = pixels[top : top + rows, left : left + window[1]]
            filled = fill(part, contract)
            scores = np.asarray(predict(filled[None]))[0, : part.shape[0], : part.shape[1]]
            total = np.zeros((rows, width, scores.shape[-1]), np.float32) if total is None else total
            total[:, left : left + window[1]] += scores
            count[:, left : left + window[1]] += 1
        done = end - top
        yield total[:done] / count[:done]  # type: ignore[index]  # there is at least one part
        for sums in (total, count):
            sums[: rows - done] = sums[done:].copy()  # type: ignore[index]
            sums[rows - done :] = 0  # type: ignore[index]


def window_starts(length: int, window: int) -> list[int]:
    """Sides of an image and a window, in pixels -> starts of windows that cover the image and overlap by half."""
    if length <= window:
        return [0]
    steps = math.ceil((length - window) / max(1, window // 2))
    return [round(start) for start in np.linspace(0, length - window, steps + 1)]


def resized(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[h, w, classes]` -> `[height, width, classes]`, float32."""
    if scores.shape[:2] == (height, width):
        return scores.astype(np.float32)
    scaled = np.empty((height, width, scores.shape[2]), np.float32)
    for index, plane in enumerate(_planes(scores, height, width)):
        scaled[:, :, index] = plane
    return scaled


def resized_classes(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[h, w, classes]` -> the highest class of `resized`, uint8 `[height, width]`; two planes are held at a time."""
    if scores.shape[:2] == (height, width):
        return scores.argmax(axis=2).astype(np.uint8)
    best, classes = None, np.zeros((height, width), np.uint8)
    for index, plane in enumerate(_planes(scores, height, width)):
        if best is None:
            best = plane.copy()
            continue
        higher = plane > best  # the first of equal scores wins, as in argmax
        best[higher], classes[higher] = plane[higher], index
    return classes


def _planes(scores: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    """`[h, w, classes]` -> float32 `[height, width]` of each class."""
    for plane in np.moveaxis(scores.astype(np.float32), 2, 0):
        yield np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
