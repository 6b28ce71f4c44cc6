"""Answers of the region proposal network -> the boxes that the heads look at."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet import boxes as box
from keras_resnet.detection_layers.anchors import ASPECT_RATIOS, anchors_of
from keras_resnet.detection_layers.base import BoxLayer, sigmoid

CODER_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
IOU_THRESHOLD = 0.7
SMALLEST_SIDE = 1e-3  # a smaller proposal is dropped; pixels of the frame


@keras.saving.register_keras_serializable("keras_resnet")
class Proposals(BoxLayer):
    """`[logits of each map [N, h, w, 3], ..., deltas of each map [N, h, w, 12], ..., sizes [N, 2]]` -> proposals.

    Non-maximum suppression runs on the best boxes of each level. The best of what it keeps on all levels are yielded:
    boxes `[N, proposals, 4]` and scores `[N, proposals]`. If there are fewer, the rest have zeros and the score -1.

    Args:
        anchor_sizes: Side of the anchors of each level, in pixels of the frame.
        proposals: Largest number of boxes of each level, and of all levels.
        frame_sides: Height and width of the frame.
    """

    def __init__(self, anchor_sizes: Sequence[float], proposals: int, frame_sides: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.anchor_sizes, self.proposals = tuple(anchor_sizes), proposals
        self.frame_sides = tuple(frame_sides)

    def call(self, inputs: Any) -> Any:
        # No gradient passes through the choice of boxes, as in torchvision.
        *answers, sizes = [ops.stop_gradient(x) for x in inputs]
        logits, deltas = answers[: len(self.anchor_sizes)], answers[len(self.anchor_sizes) :]
        levels = [self._level(*level, sizes) for level in zip(self.anchor_sizes, logits, deltas, strict=True)]
        boxes, scores = (ops.concatenate(parts, axis=1) for parts in zip(*levels, strict=True))
        scores, best = ops.top_k(scores, min(self.proposals, boxes.shape[1]))
        boxes = ops.take_along_axis(boxes, best[..., None], axis=1)
        return ops.where((scores >= 0)[..., None], boxes, 0.0), scores

    def _level(self, anchor_size: float, logits: Any, deltas: Any, sizes: Any) -> tuple[Any, Any]:
        """One level -> its best boxes, and their scores, which are -1 where a box is left out."""
        anchors = anchors_of(anchor_size, logits.shape[1:3], self.frame_sides)
        count = len(anchors)
        best_logits, best = ops.top_k(ops.reshape(logits, (-1, count)), min(self.proposals, count))
        best_deltas = ops.take_along_axis(ops.reshape(deltas, (-1, count, 4)), best[..., None], axis=1)
        # A table of integers is exact: TFLite's converter would round one of float32 to 8 bits, together with kernels.
        best_anchors = ops.cast(ops.take(anchors.astype("int32"), best, axis=0), "float32")
        boxes = box.decode(best_deltas, best_anchors, CODER_WEIGHTS)
        boxes = box.clip(boxes, sizes)
        kept = box.not_suppressed(boxes, box.at_least(boxes, SMALLEST_SIDE), IOU_THRESHOLD)
        return boxes, ops.where(kept, sigmoid(best_logits), -1.0)

    def compute_output_spec(self, inputs: Any) -> Any:
        logits = inputs[: len(self.anchor_sizes)]
        cells = [int(np.prod(x.shape[1:3])) * len(ASPECT_RATIOS) for x in logits]
        count = min(self.proposals, sum(min(self.proposals, n) for n in cells))
        images = logits[0].shape[0]
        return keras.KerasTensor((images, count, 4), "float32"), keras.KerasTensor((images, count), "float32")

    def get_config(self) -> dict[str, Any]:
        own = {"anchor_sizes": self.anchor_sizes, "proposals": self.proposals, "frame_sides": self.frame_sides}
        return {**super().get_config(), **own}
