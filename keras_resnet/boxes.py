"""Boxes `[..., 4]` as x1, y1, x2, y2 in pixels, float32: overlap, coding against anchors, clipping, suppression.

All functions are exact to torchvision's, on every backend. They have static shapes: a box that is left out is marked,
and not removed.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
from keras import ops

LARGEST_LOG_SCALE = math.log(1000 / 16)  # a decoded box is at most so much larger than its anchor
_in_one_operation: ContextVar[bool] = ContextVar("in_one_operation", default=False)


def areas(boxes: Any) -> Any:
    """`[..., 4]` -> `[...]`: width by height."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: Any, b: Any) -> Any:
    """`[..., A, 4]`, `[..., B, 4]` -> `[..., A, B]`: area that both boxes cover."""

    def sides(low: int, high: int) -> Any:  # by edges: an innermost axis of two would be slow in ONNX Runtime
        end = ops.minimum(a[..., :, None, high], b[..., None, :, high])
        return ops.maximum(end - ops.maximum(a[..., :, None, low], b[..., None, :, low]), 0.0)

    return sides(0, 2) * sides(1, 3)


def iou(a: Any, b: Any) -> Any:
    """`[..., A, 4]`, `[..., B, 4]` -> `[..., A, B]`: intersection over union; NaN for two boxes without area."""
    common = intersection(a, b)
    return common / (areas(a)[..., :, None] + areas(b)[..., None, :] - common)


def encode(boxes: Any, anchors: Any, weights: tuple[float, float, float, float]) -> Any:
    """Boxes, anchors `[..., 4]` -> `[..., 4]`: shifts of the centre in sides of the anchor, logarithms of the scales.

    Each of the four is multiplied by its weight.
    """
    anchor_sides, sides = anchors[..., 2:] - anchors[..., :2], boxes[..., 2:] - boxes[..., :2]
    anchor_centres, centres = anchors[..., :2] + 0.5 * anchor_sides, boxes[..., :2] + 0.5 * sides
    shifts = (centres - anchor_centres) / anchor_sides
    return ops.concatenate([shifts, ops.log(sides / anchor_sides)], axis=-1) * ops.convert_to_tensor(weights, "float32")


def decode(deltas: Any, anchors: Any, weights: tuple[float, float, float, float]) -> Any:
    """What `encode` gives, anchors `[..., 4]` -> boxes `[..., 4]`. Scales are at most `exp(LARGEST_LOG_SCALE)`."""
    deltas = deltas / ops.convert_to_tensor(weights, "float32")
    anchor_sides = anchors[..., 2:] - anchors[..., :2]
    centres = deltas[..., :2] * anchor_sides + (anchors[..., :2] + 0.5 * anchor_sides)
    half = 0.5 * (ops.exp(ops.minimum(deltas[..., 2:], LARGEST_LOG_SCALE)) * anchor_sides)
    return ops.concatenate([centres - half, centres + half], axis=-1)


def clip(boxes: Any, sizes: Any) -> Any:
    """`[N, R, 4]`, height and width of each image `[N, 2]` -> the boxes cut off at the image's edges."""
    sizes = ops.cast(sizes, "float32")
    limits = ops.stack([sizes[:, 1], sizes[:, 0], sizes[:, 1], sizes[:, 0]], axis=-1)[:, None, :]
    return ops.minimum(ops.maximum(boxes, 0.0), limits)


def at_least(boxes: Any, side: float) -> Any:
    """`[..., 4]`, pixels -> `[...]` bool: whether width and height are at least so large."""
    return ops.logical_and(boxes[..., 2] - boxes[..., 0] >= side, boxes[..., 3] - boxes[..., 1] >= side)


def not_suppressed(boxes: Any, valid: Any, threshold: float, groups: Any = None) -> Any:
    """Which boxes non-maximum suppression keeps: a box falls if a kept one before it overlaps it too much.

    Args:
        boxes: `[N, K, 4]`, in the order of their scores, the best first.
        valid: `[N, K]` bool. A box that is not valid is not kept, and suppresses none.
        threshold: Largest intersection over union of two kept boxes.
        groups: `[N, K]` integers from 0; only boxes of one group suppress each other. None: there is one group.

    Returns:
        `[N, K]` bool.
    """
    if _in_one_operation.get():
        return _not_suppressed_in_one_operation(boxes, valid, threshold, groups)
    if keras.backend.backend() == "tensorflow" and groups is None:
        return _not_suppressed_by_tensorflow(boxes, valid, threshold)
    count = boxes.shape[1]
    suppresses = ops.logical_and(iou(boxes, boxes) > just_below(threshold), np.triu(np.ones((count, count), bool), 1))
    if groups is not None:
        suppresses = ops.logical_and(suppresses, groups[:, :, None] == groups[:, None, :])
    suppresses = ops.cast(suppresses, "float32")

    # What greedy suppression keeps is the only set that this step does not change. The step makes one more link of
    # each chain of suppressions right, so that a few steps are enough.
    def step(keep: Any, _: Any) -> tuple[Any, Any]:
        suppressed = ops.matmul(ops.cast(keep, "float32")[:, None, :], suppresses)[:, 0, :] > 0.5
        after = ops.logical_and(valid, ops.logical_not(suppressed))
        return after, ops.any(ops.not_equal(after, keep))

    return ops.while_loop(lambda _, changed: changed, step, (valid, ops.convert_to_tensor(True)))[0]


@contextmanager
def suppression_in_one_operation() -> Iterator[None]:
    """TensorFlow traces suppression as one operation for all images and groups, which tf2onnx can convert.

    Neither TFLite nor XLA has this operation. Without it, an ONNX file would have loops, which OpenVINO can't read.
    """
    token = _in_one_operation.set(True)
    try:
        yield
    finally:
        _in_one_operation.reset(token)


def just_below(threshold: float) -> float:
    """-> largest float32 that is not above the threshold: torchvision compares in double precision."""
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf)))


def _ranks(valid: Any) -> Any:
    """`[N, K]` -> `[N, K]` float32: K for the first box, 1 for the last, -1 if not valid.

    TensorFlow's operations sort by scores, and their order of equal scores is not stated. So they get these as scores.
    """
    count = valid.shape[1]
    return ops.where(valid, np.arange(count, 0, -1, dtype="float32"), -1.0)


def _not_suppressed_by_tensorflow(boxes: Any, valid: Any, threshold: float) -> Any:
    """As `not_suppressed`, without groups, by TensorFlow's own operation, which is ten times as fast."""
    import tensorflow as tf

    count = boxes.shape[1]

    def of_one(image: Any) -> Any:
        chosen, number = tf.raw_ops.NonMaxSuppressionV4(
            boxes=image[0],
            scores=image[1],
            max_output_size=count,
            iou_threshold=just_below(threshold),
            score_threshold=0.0,
            pad_to_max_output_size=True,
        )
        # Rows of `chosen` behind the last box mark a place of their own, behind the boxes.
        kept = tf.range(count) < number
        place = tf.where(kept, chosen, count)
        return tf.scatter_nd(place[:, None], tf.cast(kept, "int32"), [count + 1])[:count] > 0

    return tf.map_fn(of_one, (boxes, _ranks(valid)), fn_output_signature=tf.TensorSpec((count,), "bool"))


def _not_suppressed_in_one_operation(boxes: Any, valid: Any, threshold: float, groups: Any) -> Any:
    """As `not_suppressed`."""
    import tensorflow as tf

    images, count = tf.shape(boxes)[0], boxes.shape[1]
    scores = _ranks(valid)[:, :, None]
    if groups is not None:
        scores = tf.where(groups[:, :, None] == tf.range(tf.reduce_max(groups) + 1), scores, -1.0)
    ranks = tf.raw_ops.CombinedNonMaxSuppression(
        boxes=boxes[:, :, None],
        scores=scores,
        max_output_size_per_class=count,
        max_total_size=count,
        iou_threshold=just_below(threshold),
        score_threshold=0.0,
        clip_boxes=False,
    ).nmsed_scores
    # [N, K]: ranks of the kept boxes. Behind the last, there are zeros, which mark a place behind the boxes.
    image = tf.broadcast_to(tf.range(images)[:, None], tf.shape(ranks))
    places = tf.stack([image, count - tf.cast(ranks, "int32")], axis=-1)
    return tf.scatter_nd(places, tf.ones_like(ranks), [images, count + 1])[:, :count] > 0
