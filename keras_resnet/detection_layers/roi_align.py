"""Feature maps, boxes -> the part of the maps in each box, at one size (He et al. 2017, arXiv 1703.06870)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.boxes import areas
from keras_resnet.detection_layers.base import BoxLayer

FIRST_LEVEL = 2  # level of the first map, whose stride is 2^2
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4  # a box of this side is read from this level (Lin et al. 2016, 1612.03144)
SAMPLES = 2  # samples of a bin along each axis
_in_xla: ContextVar[bool] = ContextVar("in_xla", default=False)


@keras.saving.register_keras_serializable("keras_resnet")
class RoIAlign(BoxLayer):
    """`[P2, P3, ..., boxes [N, R, 4]]`, maps `[N, h, w, C]` -> `[N * R, size, size, C]`: torchvision's `roi_align`.

    Each box is read from the level that fits its area, with 2x2 bilinear samples a bin. Boxes are not shifted by half a
    pixel (`aligned=False`), and are read as at least one position of the map wide and high.
    """

    def __init__(self, size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs: Any) -> Any:
        *maps, boxes = inputs
        channels = maps[0].shape[-1]
        sides = np.array([level.shape[1:3] for level in maps], "int32")  # [levels, 2]
        positions = sides.prod(axis=1)
        # All levels stand in one table, so that a box needs no case for its level.
        tables = [ops.reshape(level, (-1, int(n), channels)) for level, n in zip(maps, positions, strict=True)]
        table = ops.reshape(ops.concatenate(tables, axis=1), (-1, channels))
        level = _levels(boxes, len(maps))
        images = ops.shape(boxes)[0]
        image = ops.reshape(ops.arange(images, dtype="int32"), (-1, 1)) * int(positions.sum())
        start = image + ops.take(np.cumsum(positions, dtype="int32") - positions.astype("int32"), level)  # [N, R]
        widths = ops.take(sides[:, 1], level)

        scales = 0.5 ** np.arange(FIRST_LEVEL, FIRST_LEVEL + len(maps), dtype="float32")
        boxes = boxes * ops.take(scales, level)[..., None]
        # The number of bins is looked up too, so that it does not look constant: TensorFlow and TFLite would multiply
        # by the reciprocal of a constant, and some samples would move by a rounding.
        bins = ops.cast(ops.take(np.full(len(maps), self.size, "int32"), level), "float32")
        rows = _samples(boxes[..., 1], boxes[..., 3], ops.take(sides[:, 0], level), self.size, bins)
        columns = _samples(boxes[..., 0], boxes[..., 2], widths, self.size, bins)

        sum_up = _compiled(_weighted_sum) if _in_xla.get() else _weighted_sum
        return ops.reshape(sum_up(table, start, widths, rows, columns), (-1, self.size, self.size, channels))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        images, boxes = input_shape[-1][:2]
        count = None if images is None or boxes is None else images * boxes
        return (count, self.size, self.size, input_shape[0][-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@contextmanager
def roi_align_in_xla() -> Iterator[None]:
    """TensorFlow traces `RoIAlign` so that XLA makes one loop of its sums: a tenth of the time on a CPU.

    This is for a network that runs here, and not for files: TensorFlow Serving has no XLA on CPUs unless it is told to,
    and tf2onnx can't convert it. Positions and weights are computed outside, because XLA rounds them in another way.
    """
    token = _in_xla.set(True)
    try:
        yield
    finally:
        _in_xla.reset(token)


def _weighted_sum(table: Any, start: Any, widths: Any, rows: Any, columns: Any) -> Any:
    """Positions of all maps `[T, C]`, first position and width of each box's map, `_samples` along both axes ->
    `[N, R, size, size, C]`.
    """
    total: Any = 0.0
    for row in rows:  # sample by sample and corner by corner: all at once would take 16 times the memory
        for column in columns:
            for y, y_weight in row:
                for x, x_weight in column:
                    index = start[..., None, None] + y[..., :, None] * widths[..., None, None] + x[..., None, :]
                    weight = y_weight[..., :, None] * x_weight[..., None, :]  # [N, R, size, size]
                    total = total + weight[..., None] * ops.take(table, index, axis=0)
    return total


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    return tf.function(function, autograph=False, jit_compile=True)


def _levels(boxes: Any, count: int) -> Any:
    """`[N, R, 4]`, number of maps -> index of the map of each box, `[N, R]`.

    It is floor(4 + log2(side / 224) + 1e-6) without a logarithm, which is infinite for empty boxes: TFLite's converter
    ends its process there.
    """
    area, index = areas(boxes), 0
    for least_area in least_areas(count):
        index = index + ops.cast(area >= least_area, "int32")
    return index if count > 1 else ops.zeros_like(area, dtype="int32")


def least_areas(count: int) -> list[float]:
    """Number of levels -> area from which on a box is read from the second level, the third and so on; in pixels."""
    sides = (CANONICAL_SIDE * 2.0 ** (FIRST_LEVEL + index - CANONICAL_LEVEL) for index in range(1, count))
    return [(side * 2.0**-1e-6) ** 2 for side in sides]


def _samples(begin: Any, end: Any, side: Any, size: int, bins: Any) -> list[list[tuple[Any, Any]]]:
    """Edges of boxes along one axis, side of their maps, bins `[N, R]` -> both neighbours of each sample of a bin.

    A neighbour is (position, weight) `[N, R, size]`. The weights of a bin sum to one. A sample that is more than 1
    outside of the map weighs nothing.
    """
    bin_side = (ops.maximum(end - begin, 1.0) / bins)[..., None]
    last = ops.cast(side - 1, "float32")[..., None]
    samples = []
    for i in range(SAMPLES):
        place = begin[..., None] + ops.arange(size, dtype="float32") * bin_side + (i + 0.5) * bin_side / SAMPLES
        inside = ops.cast(ops.logical_and(place >= -1.0, place <= last + 1.0), "float32") / SAMPLES
        place = ops.minimum(ops.maximum(place, 0.0), last)
        low = ops.floor(place)
        share = place - low
        high = ops.minimum(low + 1.0, last)
        samples.append(
            [
                (ops.cast(low, "int32"), (1.0 - share) * inside),
                (ops.cast(high, "int32"), share * inside),
            ]
        )
    return samples
