"""Convolutions over maps of fixed size -> equal ones that multiply less padding.

DeepLab's kernels reach up to 36 pixels to each side, farther than many a map is wide. Most that they read is padding.
"""

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_resnet.graph import copy, rebuild


def pads_evenly(layer: Any) -> bool:
    """Operation -> whether it is a plain convolution that pads a map of fixed size with equal borders of zeros.

    A layer that is called several times, as a detector's for the maps of its pyramid, has no one size of its map.
    """
    return (
        type(layer) is layers.Conv2D
        and len(layer._inbound_nodes) == 1
        and layer.data_format == "channels_last"
        and layer.padding == "same"
        and set(layer.strides) == {1}
        and all(side % 2 for side in layer.kernel_size)
        and None not in layer.input.shape[1:3]
    )


def reach(layer: layers.Conv2D) -> tuple[int, int]:
    """Convolution that `pads_evenly` -> how many rows and columns of its kernel beside the middle can meet the map."""
    rows, columns = (
        min(side // 2, (size - 1) // dilation)
        for side, size, dilation in zip(layer.kernel_size, layer.input.shape[1:3], layer.dilation_rate, strict=True)
    )
    return rows, columns


def within_reach(kernel: np.ndarray, reached: tuple[int, int]) -> np.ndarray:
    """Kernel `[h, w, in, out]` of odd sides, `reach` -> its middle `[2 rows + 1, 2 columns + 1, in, out]`."""
    (top, left), (rows, columns) = (side // 2 for side in kernel.shape[:2]), reached
    return kernel[top - rows : top + rows + 1, left - columns : left + columns + 1]


def sides_within_reach(layer: layers.Conv2D) -> dict[str, Any]:
    """Convolution that `pads_evenly` -> the part of its configuration that fits the kernel of `within_reach`."""
    reached = reach(layer)
    rates = zip(layer.dilation_rate, reached, strict=True)
    return {
        "kernel_size": tuple(2 * far + 1 for far in reached),
        "dilation_rate": tuple(rate if far else 1 for rate, far in rates),
    }


def share_on_map(layer: layers.Conv2D) -> float:
    """Convolution that `pads_evenly` -> share of its products that read the map, not the padding."""
    share = 1.0
    for size, side, rate in zip(layer.input.shape[1:3], layer.kernel_size, layer.dilation_rate, strict=True):
        share *= sum(max(0, size - abs(offset)) for offset in _offsets(side, rate)) / (size * side)
    return share


def in_parts(model: keras.Model, largest_share: float) -> keras.Model:
    """Folded model -> equal model, in which some convolutions are sums of 1x1 convolutions of parts of the map.

    A position of the kernel is a 1x1 convolution of those rows and columns of the map that it meets. The sum is taken
    instead of each dilated convolution of whose products at most `largest_share` read the map.
    """
    split = {op.name: op for op in model.operations if pads_evenly(op) and _pays(op, largest_share)}
    if not split:
        return model
    weights: dict[str, list[np.ndarray]] = {}

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name in split:
            return _sum_of_parts(args[0], split[layer.name], weights)
        return layer(*args, **kwargs)

    parts = rebuild(model, call=call)
    for name, values in weights.items():
        parts.get_layer(name).set_weights(values)
    return parts


def _pays(layer: layers.Conv2D, largest_share: float) -> bool:
    is_sum = layer.groups == 1 and layer.activation is keras.activations.linear
    return is_sum and max(layer.dilation_rate) > 1 and share_on_map(layer) <= largest_share


def _offsets(side: int, rate: int) -> list[int]:
    """Side of a kernel, dilation rate -> distance of each row or column from the middle, in pixels."""
    return [(index - side // 2) * rate for index in range(side)]


def _sum_of_parts(x: Any, layer: layers.Conv2D, weights: dict[str, list[np.ndarray]]) -> Any:
    """`[N, H, W, C]`, convolution -> its output `[N, H, W, filters]`. Adds the weights of the new layers to `weights`.

    The columns of one row of the kernel are summed first, on the rows that they meet.
    """
    kernel, *bias = layer.get_weights()
    rows, columns = (_offsets(*each) for each in zip(layer.kernel_size, layer.dilation_rate, strict=True))
    sums = []
    for i, down in sorted(enumerate(rows), key=lambda pair: abs(pair[1])):
        strip, terms = _met(x, down, 0, f"{layer.name}_row_{i}"), []
        for j, right in sorted(enumerate(columns), key=lambda pair: abs(pair[1])):
            name = f"{layer.name}_part_{i}_{j}"
            has_bias = bool(bias) and down == right == 0
            part = layers.Conv2D(layer.filters, 1, use_bias=has_bias, name=name)
            terms.append(_put_back(part(_met(strip, 0, right, name)), 0, right, name))
            weights[name] = [kernel[i : i + 1, j : j + 1], *(bias if has_bias else [])]
        row = layers.Add(name=f"{layer.name}_row_{i}_sum")(terms) if len(terms) > 1 else terms[0]
        sums.append(_put_back(row, down, 0, f"{layer.name}_row_{i}"))
    return layers.Add(name=layer.name)(sums) if len(sums) > 1 else sums[0]


def _met(x: Any, down: int, right: int, name: str) -> Any:
    """Map, offset of a position of the kernel -> the rows and columns of the map that this position reads."""
    if down == right == 0:
        return x
    return layers.Cropping2D((_sides(down), _sides(right)), name=f"{name}_met")(x)


def _put_back(x: Any, down: int, right: int, name: str) -> Any:
    """Output of a part -> its place in the whole output, with zeros around it."""
    if down == right == 0:
        return x
    return layers.ZeroPadding2D((_sides(-down), _sides(-right)), name=f"{name}_placed")(x)


def _sides(offset: int) -> tuple[int, int]:
    return max(offset, 0), max(-offset, 0)


class _OneOperation(layers.Conv2D):
    """Dilated convolution as one operation of TensorFlow.

    Keras calls `tf.nn.convolution`, which moves pixels into the batch (SpaceToBatchND), convolves without dilation and
    moves them back. Converters see the convolution in it only if the size is fixed. The amounts of padding are stated,
    because ONNX Runtime refuses to work them out for a dilated convolution.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        import tensorflow as tf

        padding: Any = "VALID"
        if self.padding == "same":
            borders = ((side - 1) * rate for side, rate in zip(self.kernel_size, self.dilation_rate, strict=True))
            padding = [(0, 0), *((border // 2, border - border // 2) for border in borders), (0, 0)]
        return tf.nn.conv2d(inputs, kernel, 1, padding, dilations=self.dilation_rate)


def in_one_operation(model: keras.Model) -> keras.Model:
    """Model -> equal model in which TensorFlow sees each dilated convolution as one operation."""
    dilated = {op.name for op in model.operations if type(op) is layers.Conv2D and max(op.dilation_rate) > 1}
    if not dilated:
        return model

    def exchange(layer: Any) -> Any:
        return _OneOperation.from_config(layer.get_config()) if layer.name in dilated else copy(layer)

    return rebuild(model, exchange)
