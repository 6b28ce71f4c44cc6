"""Confusion of pixels, accumulated over the batches of Keras' `fit` and `evaluate`."""

from typing import Any

import keras

from keras_resnet.labels import VOID

# A 32-bit integer holds no more pixels than a thousand large images have, and not every backend has longer ones. So
# each count is in two: what it has of this many, and the rest.
CARRY = 2**20


class SegmentationAccuracy(keras.metrics.Metric):
    """Masks, integers `[N, H, W]`, scores `[N, H, W, classes]` -> `mean_iou_percent`, `pixel_accuracy_percent`.

    Void pixels are left out, and from the mean those classes that neither masks nor predictions have. Exact over any
    number of pixels, where a batch has fewer than 2^31. `matrix` is the confusion matrix, rows true, columns predicted.
    """

    def __init__(self, classes: int, name: str = "segmentation_accuracy") -> None:
        super().__init__(name=name, dtype="int32")
        self.classes = classes
        self.high, self.low = (
            self.add_variable((classes, classes), initializer="zeros", dtype="int32", name=part)
            for part in ("high", "low")
        )

    def update_state(self, masks: Any, scores: Any, sample_weight: Any = None) -> None:
        ops = keras.ops
        masks = ops.reshape(ops.cast(masks, "int32"), (-1,))
        predicted = ops.reshape(ops.cast(ops.argmax(scores, axis=-1), "int32"), (-1,))
        counted = masks != VOID
        cells = ops.where(counted, masks * self.classes + predicted, self.classes**2)
        # Not `bincount`, which JAX can't compile.
        counts = ops.segment_sum(ops.ones_like(cells), cells, num_segments=self.classes**2 + 1)[: self.classes**2]
        low = self.low + ops.reshape(counts, (self.classes, self.classes))
        self.high.assign(self.high + low // CARRY)
        self.low.assign(low % CARRY)

    @property
    def matrix(self) -> Any:
        """-> pixels float32 `[classes, classes]`."""
        return keras.ops.cast(self.high, "float32") * CARRY + keras.ops.cast(self.low, "float32")

    def result(self) -> dict[str, Any]:
        ops, matrix = keras.ops, self.matrix
        right = ops.diagonal(matrix)
        union = ops.sum(matrix, 0) + ops.sum(matrix, 1) - right
        iou = right / ops.maximum(union, 1.0)
        present = ops.cast(union > 0, "float32")
        return {
            "mean_iou_percent": 100 * ops.sum(iou * present) / ops.maximum(ops.sum(present), 1.0),
            "pixel_accuracy_percent": 100 * ops.sum(right) / ops.maximum(ops.sum(matrix), 1.0),
        }
