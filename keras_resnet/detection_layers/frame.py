"""Images -> the frame that a detector computes in: each image resized, in the top left corner of a larger one."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.detection_layers.base import BoxLayer
from keras_resnet.preprocessing import mean_colour

STRIDE = 32  # the sides of a frame are multiples of C5's stride


def resized_sides(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Sides of an image -> its sides in the frame.

    The shorter side becomes `min_size`, unless the longer one would become longer than `max_size`.
    """
    scale = min(min_size / min(height, width), max_size / max(height, width))
    return math.floor(height * scale), math.floor(width * scale)


def _table(height: int, width: int, min_size: int, max_size: int) -> np.ndarray:
    """-> `resized_sides` of all sizes up to the given one, `[(height + 1) * (width + 1), 2]` int16."""
    rows, columns = np.meshgrid(np.arange(height + 1), np.arange(width + 1), indexing="ij")
    sides = np.maximum(np.stack([rows, columns], axis=-1).reshape(-1, 2), 1)
    scale = np.minimum(min_size / sides.min(axis=1), max_size / sides.max(axis=1))
    return np.floor(sides * scale[:, None]).astype("int16")


def frame_sides(sides: Sequence[int]) -> tuple[int, int]:
    """Sides of a resized image -> sides of its frame: the next multiples of 32."""
    height, width = (math.ceil(side / STRIDE) * STRIDE for side in sides)
    return height, width


@keras.saving.register_keras_serializable("keras_resnet")
class Frame(BoxLayer):
    """Pixels `[N, H, W, C]`, uint8 or float -> frame `[N, h, w, C]`, sizes in the frame `[N, 2]`, sizes `[N, 2]`.

    With a second input, the height and width of each image `[N, 2]`, the images stand in the top left corners of the
    input, and what is beside them is not read. The frame is then a square that takes an image of any shape.

    Interpolation is bilinear, between the centres of pixels, without antialiasing. The rest of the frame has the mean
    colour. The arithmetic is written out, and not `ops.image.resize`: each image has its own scale, and XLA in
    TensorFlow 2.21 compiles that operation into another resize.
    """

    def __init__(self, min_size: int, max_size: int, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.min_size, self.max_size = min_size, max_size

    def call(self, inputs: Any) -> Any:
        pixels, sizes = inputs if isinstance(inputs, (list, tuple)) else (inputs, None)
        pixels = ops.cast(pixels, "float32")
        height, width = pixels.shape[1:3]
        frame = self._frame_sides(height, width, sizes is not None)
        if sizes is None:
            resized = resized_sides(height, width, self.min_size, self.max_size)
            images = ops.shape(pixels)[0]
            sizes, in_frame = (
                ops.tile(np.array([pair], "float32"), (images, 1)) for pair in ((height, width), resized)
            )
            if (height, width) == resized == frame:
                return pixels, in_frame, sizes
        else:
            # A table, since torchvision's double precision would round some sides differently than float32 does.
            table = _table(height, width, self.min_size, self.max_size)
            sizes = ops.cast(sizes, "int32")
            in_frame = ops.cast(ops.take(table, sizes[:, 0] * (width + 1) + sizes[:, 1], axis=0), "float32")
            sizes = ops.cast(sizes, "float32")
        x = _interpolated(pixels, sizes[:, 0], in_frame[:, 0], frame[0])
        x = ops.transpose(
            _interpolated(ops.transpose(x, (0, 2, 1, 3)), sizes[:, 1], in_frame[:, 1], frame[1]), (0, 2, 1, 3)
        )
        below = ops.arange(frame[0], dtype="float32")[None, :] < in_frame[:, :1]
        beside = ops.arange(frame[1], dtype="float32")[None, :] < in_frame[:, 1:]
        inside = ops.logical_and(below[:, :, None], beside[:, None, :])[..., None]
        return ops.where(inside, x, np.array(mean_colour(pixels.shape[-1]), "float32")), in_frame, sizes

    def _frame_sides(self, height: int, width: int, any_shape: bool) -> tuple[int, int]:
        if any_shape:
            return frame_sides((self.max_size, self.max_size))
        return frame_sides(resized_sides(height, width, self.min_size, self.max_size))

    def compute_output_shape(self, input_shape: Any) -> Any:
        has_sizes = isinstance(input_shape[0], (list, tuple))
        images, height, width, channels = input_shape[0] if has_sizes else input_shape
        return (images, *self._frame_sides(height, width, has_sizes), channels), (images, 2), (images, 2)

    def compute_output_spec(self, inputs: Any) -> Any:
        shape = [x.shape for x in inputs] if isinstance(inputs, (list, tuple)) else inputs.shape
        return tuple(keras.KerasTensor(shape, "float32") for shape in self.compute_output_shape(shape))

    def get_config(self) -> dict[str, Any]:
        own = {"min_size": self.min_size, "max_size": self.max_size}
        return {**super().get_config(), **own}


def _interpolated(x: Any, sides: Any, resized: Any, count: int) -> Any:
    """`[N, H, W, C]`, side of each image and of its result `[N]` -> `[N, count, W, C]`, resized along the rows."""
    height = x.shape[1]
    scale = (sides / resized)[:, None]
    place = ops.maximum(scale * (ops.arange(count, dtype="float32")[None, :] + 0.5) - 0.5, 0.0)
    last = (sides - 1.0)[:, None]
    low = ops.minimum(ops.floor(place), last)
    share = (place - low)[:, :, None, None]
    image = ops.reshape(ops.arange(ops.shape(x)[0], dtype="int32") * height, (-1, 1))
    table = ops.reshape(x, (-1, *x.shape[2:]))
    lower = ops.take(table, image + ops.cast(low, "int32"), axis=0)
    upper = ops.take(table, image + ops.cast(ops.minimum(low + 1.0, last), "int32"), axis=0)
    return (1.0 - share) * lower + share * upper
