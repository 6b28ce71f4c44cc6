"""Confusion of pixels, accumulated over the batches of Keras' `fit` and `evaluate`."""

from typing import Any

import keras

from keras_resnet.labels import VOID

# A 32-bit integer would overflow after the pixels of a thousand large images, and not every backend has longer
# integers. So each count has two parts: a multiple of this number, and a remainder.
CARRY = 2**20


def overlap_and_union(matrix: Any) -> tuple[Any, Any]:
    """Confusion `[classes, classes]` -> pixels in overlap and union of mask and prediction, by class `[classes]`."""
    right = keras.ops.diagonal(matrix)
    return right, keras.ops.sum(matrix, 0) + keras.ops.sum(matrix, 1) - right


class SegmentationAccuracy(keras.metrics.Metric):
    """Masks, integers `[N, H, W]`, scores `[N, H, W, classes]` -> `mean_iou_percent`, `pixel_accuracy_percent`.

    Void pixels are left out, and the mean leaves out classes that neither masks nor predictions have. The figures are
    exact for any number of pixels, if each batch has fewer than 2^31. `matrix` is the confusion matrix: rows true,
    columns predicted.
    """

    def __init__(self, classes: int, name: str = "segmentation_accuracy") -> None:
        super().__init__(name=name, dtype="int32")
        self.classes = classes
        self.high, self.low = (
            self.add_variable((classes, classes), initializer="zeros", dtype="int32", name=part)
            for part in ("high", "low")
        )

    def update_state(self, masks: Any, scores: Any, sample_weight: Any = None) -> None:
        self._add(self._confusion(masks, scores))

    def _confusion(self, masks: Any, scores: Any) -> Any:
        """-> pixels of the batch int32 `[classes, classes]`: rows true, columns predicted."""
        ops = keras.ops
        masks = ops.reshape(ops.cast(masks, "int32"), (-1,))
        predicted = ops.reshape(ops.cast(ops.argmax(scores, axis=-1), "int32"), (-1,))
        counted = masks != VOID
        cells = ops.where(counted, masks * self.classes + predicted, self.classes**2)
        # JAX can't compile `bincount`.
        counts = ops.segment_sum(ops.ones_like(cells), cells, num_segments=self.classes**2 + 1)[: self.classes**2]
        return ops.reshape(counts, (self.classes, self.classes))

    def _add(self, counts: Any) -> None:
        low = self.low + counts
        self.high.assign(self.high + low // CARRY)
        self.low.assign(low % CARRY)

    @property
    def matrix(self) -> Any:
        """-> pixels float32 `[classes, classes]`."""
        return keras.ops.cast(self.high, "float32") * CARRY + keras.ops.cast(self.low, "float32")

    def result(self) -> dict[str, Any]:
        ops, matrix = keras.ops, self.matrix
        right, union = overlap_and_union(matrix)
        iou = right / ops.maximum(union, 1.0)
        present = ops.cast(union > 0, "float32")
        return {
            "mean_iou_percent": 100 * ops.sum(iou * present) / ops.maximum(ops.sum(present), 1.0),
            "pixel_accuracy_percent": 100 * ops.sum(right) / ops.maximum(ops.sum(matrix), 1.0),
        }


class SegmentationInterval(SegmentationAccuracy):
    """`SegmentationAccuracy` with the interval of one standard error of the mean IoU, `mean_iou_low_percent` to
    `mean_iou_high_percent`.

    A batch counts as one draw of the sample, so that each batch must hold one image. The mean IoU is a mean of ratios
    of sums over images, and its variance is linearised: an image changes it by the mean over the classes of
    (overlap - IoU * union) / (union of all images), with the overlap and union of the image. Sums of products of
    overlaps and unions are kept, from which the variance follows once the IoU is known.

    Source: Cochran 1977, "Sampling techniques", section 2.11 (variance of a ratio).
    """

    def __init__(self, classes: int, name: str = "segmentation_interval") -> None:
        super().__init__(classes, name)
        self.images = self.add_variable((), initializer="zeros", dtype="float32", name="images")
        self.products = self.add_variable(
            (2 * classes, 2 * classes), initializer="zeros", dtype="float32", name="products"
        )

    def update_state(self, masks: Any, scores: Any, sample_weight: Any = None) -> None:
        counts = self._confusion(masks, scores)
        self._add(counts)
        pixels = keras.ops.cast(keras.ops.concatenate(overlap_and_union(counts)), "float32")
        self.products.assign(self.products + keras.ops.outer(pixels, pixels))
        self.images.assign(self.images + 1)

    def result(self) -> dict[str, Any]:
        ops, figures = keras.ops, super().result()
        right, union = overlap_and_union(self.matrix)
        present = ops.cast(union > 0, "float32")
        share = present / ops.maximum(union, 1.0) / ops.maximum(ops.sum(present), 1.0)
        moves = ops.concatenate([share, -share * right / ops.maximum(union, 1.0)])  # [2 * classes]
        draws = self.images / ops.maximum(self.images - 1, 1.0)
        error = 100 * ops.sqrt(ops.maximum(draws * ops.sum(moves * ops.matmul(self.products, moves)), 0.0))
        several = self.images > 1  # one image has no variance
        mean = figures["mean_iou_percent"]
        return {
            **figures,
            "mean_iou_low_percent": ops.where(several, ops.maximum(mean - error, 0.0), 0.0),
            "mean_iou_high_percent": ops.where(several, ops.minimum(mean + error, 100.0), 100.0),
        }
