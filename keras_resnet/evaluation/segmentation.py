"""Scores of pixels and masks -> confusion, IoU of each class and their mean, pixel accuracy."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from keras_resnet.evaluation.accuracy import confusion_of
from keras_resnet.labels import VOID
from keras_resnet.preprocessing import fit_whole
from keras_resnet.variants import WholeImage


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a network makes of images with masks: pixels int64 `[classes, classes]`, rows true, columns predicted."""

    confusion: np.ndarray

    @cached_property
    def class_iou_percent(self) -> np.ndarray:
        """float64 `[classes]`; NaN for a class that neither masks nor predictions have."""
        right = np.diag(self.confusion)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - right
        return 100 * np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)

    @cached_property
    def mean_iou_percent(self) -> float:
        """Over the classes that have one."""
        return float(np.nanmean(self.class_iou_percent)) if self.confusion.any() else float("nan")

    @cached_property
    def pixel_accuracy_percent(self) -> float:
        pixels = int(self.confusion.sum())
        return 100 * int(np.trace(self.confusion)) / pixels if pixels else float("nan")


def pixel_confusion(scores: Any, mask: Any) -> np.ndarray:
    """`[..., H, W, classes]`, integers `[..., H, W]` -> pixels int64 `[classes, classes]`, without those that are void.

    Raises:
        ValueError: Shapes that don't belong together, a score that is not finite, or a label that is no class.
    """
    values, wanted = np.asarray(scores), np.asarray(mask)
    if values.ndim < 3 or values.shape[:-1] != wanted.shape:
        raise ValueError(
            "`scores` [..., H, W, classes] and `mask` [..., H, W] must be of the same pixels. "
            f"Received: {list(values.shape)} and {list(wanted.shape)}"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"`scores` must be finite. Received: NaN or infinity in {np.sum(~np.isfinite(values)):,} places"
        )
    counted = wanted != VOID
    return confusion_of(values.argmax(axis=-1)[counted], wanted[counted], values.shape[-1])


def evaluate_segmentation(
    predict: Callable[[np.ndarray], Any],
    samples: Iterable[tuple[np.ndarray, np.ndarray]],
    contract: WholeImage,
    classes: int,
) -> Segmentation:
    """Function of pixels uint8 `[1, H, W, 3]` to scores `[1, H, W, classes]`, whole images and masks -> figures.

    Each mask counts at its own size: the scores of the part that the image takes of the contract's pixels are resized
    to it, as the network's own are, bilinearly.

    Args:
        predict: Any artifact's, whose probabilities have been freed of their quantization.
        samples: Pixels uint8 `[H, W, 3]` and classes uint8 `[H, W]` of each image.
    """
    confusion = np.zeros((classes, classes), np.int64)
    for pixels, mask in samples:
        scores = np.asarray(predict(fit_whole(pixels, contract)[None]))[0]
        height, width = contract.area_of(*mask.shape)
        confusion += pixel_confusion(_resized(scores[:height, :width], *mask.shape), mask)
    return Segmentation(confusion)


def _resized(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[h, w, classes]` -> `[height, width, classes]`, float32."""
    if scores.shape[:2] == (height, width):
        return scores
    planes = np.moveaxis(scores.astype(np.float32), 2, 0)
    resized = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR)) for plane in planes
    ]
    return np.stack(resized, axis=2)
