"""Answers of the heads -> detections: the best boxes of all classes, in pixels of the image; their masks."""

from typing import Any

import keras
from keras import ops

from keras_resnet import boxes as box
from keras_resnet.detection_layers.base import BoxLayer, sigmoid, softmax

CODER_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
SMALLEST_SIDE = 1e-2  # a smaller detection is dropped; pixels of the frame
CANDIDATES = 1000  # pairs of box and class that suppression looks at; see `Detections`
NO_LABEL = -1


@keras.saving.register_keras_serializable("keras_resnet")
class Detections(BoxLayer):
    """Logits of the classes, deltas, proposals, sizes in the frame -> boxes in the frame, scores, labels, their number.

    The inputs are logits `[N * R, 1 + classes]` and deltas `[N * R, 4 * (1 + classes)]`, in which class 0 is the
    background, proposals `[N, R, 4]` with their scores `[N, R]`, and sizes `[N, 2]`. Labels count from 0 without the
    background. The best come first. Rows behind the last detection have zeros and the label -1.

    Non-maximum suppression looks at the best 1000 pairs of box and class. This is exact if no more pairs have a score
    above the threshold, or if the best 1000 yield all detections: a pair never suppresses a better one.
    """

    def __init__(self, score_threshold: float, iou_threshold: float, max_detections: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections = max_detections

    def call(self, inputs: Any) -> Any:
        logits, deltas, proposals, proposal_scores, sizes = inputs
        outputs, count = logits.shape[-1], proposals.shape[1]
        classes = outputs - 1
        probabilities = ops.reshape(softmax(logits), (-1, count, outputs))[..., 1:]
        probabilities = ops.where((proposal_scores >= 0)[..., None], probabilities, 0.0)
        pairs = ops.reshape(probabilities, (-1, count * classes))
        scores, best = ops.top_k(pairs, min(max(CANDIDATES, self.max_detections), count * classes))
        owners, labels = best // classes, best % classes

        deltas = ops.reshape(deltas, (-1, count * outputs, 4))
        deltas = ops.take_along_axis(deltas, (owners * outputs + labels + 1)[..., None], axis=1)
        boxes = box.decode(deltas, ops.take_along_axis(proposals, owners[..., None], axis=1), CODER_WEIGHTS)
        boxes = box.clip(boxes, sizes)
        valid = ops.logical_and(scores > self.score_threshold, box.at_least(boxes, SMALLEST_SIDE))
        kept = box.not_suppressed(boxes, valid, self.iou_threshold, labels)

        scores, best = ops.top_k(ops.where(kept, scores, -1.0), min(self.max_detections, scores.shape[1]))
        found = scores >= 0
        boxes = ops.where(found[..., None], ops.take_along_axis(boxes, best[..., None], axis=1), 0.0)
        labels = ops.where(found, ops.take_along_axis(ops.cast(labels, "int32"), best, axis=1), NO_LABEL)
        return {
            "boxes": boxes,
            "scores": ops.where(found, scores, 0.0),
            "labels": labels,
            "num_detections": ops.sum(ops.cast(found, "int32"), axis=1),
        }

    def compute_output_spec(self, inputs: Any) -> Any:
        images, proposals = inputs[2].shape[:2]
        count = min(self.max_detections, proposals * (inputs[0].shape[-1] - 1))
        return {
            "boxes": keras.KerasTensor((images, count, 4), "float32"),
            "scores": keras.KerasTensor((images, count), "float32"),
            "labels": keras.KerasTensor((images, count), "int32"),
            "num_detections": keras.KerasTensor((images,), "int32"),
        }

    def get_config(self) -> dict[str, Any]:
        own = {
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "max_detections": self.max_detections,
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_resnet")
class BoxesInImage(BoxLayer):
    """`[boxes in the frame [N, D, 4], sizes in the frame [N, 2], sizes of the images [N, 2]]` -> boxes `[N, D, 4]`."""

    def call(self, inputs: Any) -> Any:
        boxes, in_frame, sizes = inputs
        down, across = ops.split(sizes / in_frame, 2, axis=1)
        return boxes * ops.concatenate([across, down, across, down], axis=1)[:, None, :]


@keras.saving.register_keras_serializable("keras_resnet")
class SelectMasks(BoxLayer):
    """`[logits [N * D, h, w, classes], labels [N, D]]` -> `[N, D, h, w]`: probabilities of the mask of each label.

    The mask of a row without a detection is zero. The first mask of the logits is the background's, and is never used.
    """

    def call(self, inputs: Any) -> Any:
        logits, labels = inputs
        height, width, outputs = logits.shape[1:]
        channel = ops.reshape(labels, (-1, 1)) + 1
        chosen = ops.cast(channel == ops.arange(outputs, dtype="int32"), "float32")[:, None, None, :]
        masks = sigmoid(ops.sum(logits * chosen, axis=-1))
        masks = ops.reshape(masks, (-1, labels.shape[1], height, width))
        return ops.where((labels >= 0)[..., None, None], masks, 0.0)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        logits, labels = input_shape
        return (*labels, *logits[1:3])
