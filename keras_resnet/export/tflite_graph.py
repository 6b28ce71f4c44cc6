"""Folded model -> equal model of operators for which XNNPACK, LiteRT's delegate on CPUs, has fast kernels.

Comments state the time saved: milliseconds on one thread of a CPU with AVX-512 and VNNI, for 224 x 224 pixels.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from keras_resnet.compress.fake_quant import FakeQuantize, FakeQuantizedConv2D
from keras_resnet.export.fold import ConstantPadding2D
from keras_resnet.graph import consumers, copy, rebuild

MOST_CHANNELS = 4  # integer kernels take 4 or 8 channels at a time, so that 3 cost as much as 4


def for_xnnpack(model: keras.Model) -> keras.Model:
    """Folded model, or its simulation of integers -> equal model for the TFLite converter."""
    readers = consumers(model)
    integers = any(isinstance(op, FakeQuantize) for op in model.operations)
    stems = {op.name for op in model.operations if isinstance(op, FakeQuantizedConv2D) and _can_read_blocks(op)}
    weights = {
        name: [_blocks(model.get_layer(name).get_weights()[0]), *model.get_layer(name).get_weights()[1:]]
        for name in stems
    }

    def exchange(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, ConstantPadding2D):
            return _BorderOfRows.from_config(config)
        # The float model would not get faster.
        if integers and type(layer) is layers.ZeroPadding2D and _are_all(readers[layer.name], layers.MaxPooling2D):
            return _PaddingOfRows.from_config(config)
        if layer.name in stems:
            sides = [(side + 1) // 2 for side in layer.kernel_size]
            return type(layer).from_config({**config, "kernel_size": sides, "strides": 1})
        return copy(layer)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name in stems:
            args = (_SpaceToDepth(name=f"{layer.name}_blocks")(args[0]), *args[1:])
        return layer(*args, **kwargs)

    return rebuild(model, exchange, call, weights)


def _pad_rows(x: Any, padding: Any) -> Any:
    """`[N, H, W, C]`, ((top, bottom), (left, right)) -> padded with zeros as `[N, H, W * C]`.

    XNNPACK then copies whole rows instead of the channels of one pixel at a time. This saves 0.4 ms for an image, and
    0.1 ms for the input of the pooling.
    """
    (top, bottom), (left, right) = padding
    _, height, width, channels = x.shape
    rows = ops.reshape(x, (-1, height, width * channels))
    rows = ops.pad(rows, ((0, 0), (top, bottom), (left * channels, right * channels)))
    return ops.reshape(rows, (-1, height + top + bottom, width + left + right, channels))


class _PaddingOfRows(layers.ZeroPadding2D):
    def call(self, inputs: Any) -> Any:
        return _pad_rows(inputs, self.padding)


class _BorderOfRows(ConstantPadding2D):
    def call(self, inputs: Any) -> Any:
        return _pad_rows(inputs, ((self.padding, self.padding),) * 2) + self.border


class _SpaceToDepth(layers.Layer):
    """`[N, H, W, C]` -> `[N, H / 2, W / 2, 4 C]`: 2 x 2 pixels become one pixel."""

    def call(self, inputs: Any) -> Any:
        return tf.nn.space_to_depth(inputs, 2)

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, height, width, channels = input_shape
        return batch, height // 2, width // 2, 4 * channels


def _can_read_blocks(convolution: Any) -> bool:
    """Convolution -> whether it reads an image with stride 2, so that it can read blocks of 2 x 2 pixels instead.

    This saves 0.5 ms in integers, and nothing in float.
    """
    _, height, width, channels = convolution.input.shape
    return (
        convolution.strides == (2, 2)
        and convolution.dilation_rate == (1, 1)
        and convolution.padding == "valid"
        and convolution.groups == 1
        and channels <= MOST_CHANNELS
        and all(side % 2 for side in convolution.kernel_size)
        and height % 2 == width % 2 == 0
    )


def _blocks(kernel: np.ndarray) -> np.ndarray:
    """Kernel `[h, w, in, out]`, odd sides and stride 2 -> kernel of blocks `[(h + 1) / 2, (w + 1) / 2, 4 in, out]`."""
    height, width, channels, filters = kernel.shape
    even = np.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    split = even.reshape((height + 1) // 2, 2, (width + 1) // 2, 2, channels, filters)
    return split.transpose(0, 2, 1, 3, 4, 5).reshape((height + 1) // 2, (width + 1) // 2, 4 * channels, filters)


def _are_all(operations: list[Any], kind: type) -> bool:
    return bool(operations) and all(isinstance(op, kind) for op in operations)
