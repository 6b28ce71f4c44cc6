"""Prepared model -> equal model with fewer operations: normalisation and BatchNorm move into the convolutions."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_resnet import layer_names
from keras_resnet.compress.fake_quant import FakeQuantizedConv2D
from keras_resnet.export.dilated import pads_evenly, reach, sides_within_reach, within_reach
from keras_resnet.graph import consumers, rebuild
from keras_resnet.normalisation import pixel_map


class ConstantPadding2D(layers.Layer):
    """`[N, H, W, C]` -> `[N, H + 2p, W + 2p, C]`: adds a border that holds `values`, one for each channel.

    The layer pads with zeros and adds a constant as large as the image: runtimes add tensors of one shape ten times as
    fast as a tensor and a value for each channel.
    """

    def __init__(self, padding: int, values: list[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.padding, self.values = padding, values

    def build(self, input_shape: Any) -> None:
        p, (_, height, width, channels) = self.padding, input_shape
        self.border = np.broadcast_to(self.values, (1, height + 2 * p, width + 2 * p, channels)).astype("float32")
        self.border[:, p : p + height, p : p + width] = 0

    def call(self, inputs: Any) -> Any:
        p = self.padding
        return ops.pad(inputs, ((0, 0), (p, p), (p, p), (0, 0))) + self.border

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, height, width, channels = input_shape
        return batch, height + 2 * self.padding, width + 2 * self.padding, channels

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding, "values": self.values}


class Shift(layers.Layer):
    """`[N, H, W, C]` -> `[N, H, W, C]` plus `offset`, one value for each channel."""

    def __init__(self, offset: list[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.offset = offset

    def call(self, inputs: Any) -> Any:
        return inputs + ops.convert_to_tensor(self.offset, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "offset": self.offset}


def fold(model: keras.Model) -> keras.Model:
    """Prepared model -> equal model without BatchNorm and, as far as its stem allows, without normalisation.

    `(pixels - mean) / std`, or another affine function of each pixel, before a convolution is the convolution with
    another kernel and bias, if the padding holds `mean` instead of zero. If height and width are free, the mean is
    subtracted before.
    Where the size is fixed, kernels lose the rows and columns that read only padding. Not so in a model of
    quantization-aware training, whose integers were learned for the steps of the whole kernel.
    Kernels of quantization-aware training are rounded first, so that each channel keeps its 255 steps.
    """
    try:
        readers = consumers(model)
    except ValueError:  # a layer occurs twice
        return model
    weights: dict[str, list[np.ndarray]] = {}
    replaced: dict[str, Any] = {}  # name -> layer, or None if the layer is left out
    kernels = [op for op in model.operations if isinstance(op, (layers.Conv2D, layers.Dense))]
    for layer in kernels:
        following = readers[layer.name]
        is_read_by_norm = len(following) == 1 and isinstance(following[0], layers.BatchNormalization)
        if isinstance(layer, layers.Conv2D) or is_read_by_norm:
            weights[layer.name] = _kernel_and_bias(layer)
        if is_read_by_norm and layer.activation is keras.activations.linear:
            weights[layer.name] = _with_batch_norm(weights[layer.name], following[0])
            replaced[following[0].name] = None
    pixels, padding_before = _fold_normalisation(model, readers, weights, replaced)
    cut = {layer.name: layer for layer in kernels if pads_evenly(layer) and layer.name not in padding_before}
    for name, layer in cut.items():
        kernel, bias = weights[name]
        weights[name] = [within_reach(kernel, reach(layer)), bias]

    def exchange(layer: Any) -> Any:
        if replaced.get(layer.name) is not None and layer.name != pixels:
            return replaced[layer.name]
        config = layer.get_config()
        if layer.name in weights:
            config = {**config, "use_bias": True}
            if isinstance(layer, FakeQuantizedConv2D):
                config["input_scale"] = None
            if layer.name in padding_before:
                config["padding"] = "valid"
            if layer.name in cut:
                config |= sides_within_reach(layer)
        return layer.__class__.from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name in replaced and replaced[layer.name] is None:
            return keras.utils.get_source_inputs(_tensor(args))[0] if layer.name == pixels else args[0]
        if layer.name == pixels:
            return replaced[layer.name](keras.utils.get_source_inputs(_tensor(args))[0])
        if layer.name in padding_before:
            args = (padding_before[layer.name](args[0]), *args[1:])
        return layer(*args, **kwargs)

    return rebuild(model, exchange, call, weights)


def _tensor(args: Any) -> Any:
    """Arguments of a call -> the first symbolic tensor among them."""
    return next(value for value in keras.tree.flatten(args) if isinstance(value, keras.KerasTensor))


def _kernel_and_bias(layer: Any) -> list[np.ndarray]:
    """Convolution or dense layer -> effective kernel `[..., in, out]` and bias `[out]`, in float64."""
    kernel = ops.convert_to_numpy(layer.rounded_kernel() if isinstance(layer, FakeQuantizedConv2D) else layer.kernel)
    bias = np.zeros(kernel.shape[-1]) if layer.bias is None else ops.convert_to_numpy(layer.bias)
    return [kernel.astype("float64"), bias.astype("float64")]


def _with_batch_norm(weights: list[np.ndarray], norm: layers.BatchNormalization) -> list[np.ndarray]:
    kernel, bias = weights
    mean, variance = (ops.convert_to_numpy(v).astype("float64") for v in (norm.moving_mean, norm.moving_variance))
    factor = 1 / np.sqrt(variance + norm.epsilon)
    factor = factor if norm.gamma is None else factor * ops.convert_to_numpy(norm.gamma)
    shift = 0 if norm.beta is None else ops.convert_to_numpy(norm.beta)
    return [kernel * factor, (bias - mean) * factor + shift]


def _fold_normalisation(
    model: keras.Model,
    readers: dict[str, list[Any]],
    weights: dict[str, list[np.ndarray]],
    replaced: dict[str, Any],
) -> tuple[str | None, dict[str, Any]]:
    """Changes the stem's entries in `weights` and `replaced`, if the stem allows it.

    -> name of the operation that yields the normalised pixels, which is replaced by the image itself; padding layers
    for convolutions that pad by themselves, by name of the convolution.
    """
    normalisation = pixel_map(model)
    if normalisation is None:
        return None, {}
    last, scale = normalisation.last, np.diagonal(normalisation.matrix)
    if np.array_equal(normalisation.matrix, np.diag(scale)):  # one layer, in case the stem does not allow more
        replaced[last.name] = layers.Rescaling(scale.tolist(), normalisation.offset.tolist(), name=last.name)
    unfolded: tuple[str | None, dict[str, Any]] = (last.name if last.name in replaced else None, {})
    following = readers[last.name]
    pad = following[0] if len(following) == 1 and isinstance(following[0], layers.ZeroPadding2D) else None
    if pad is not None:
        following = readers[pad.name]
    if len(following) != 1 or not isinstance(following[0], layers.Conv2D):
        return unfolded
    stem = following[0]
    amount = _padding(stem, pad)
    if amount is None or stem.groups != 1:
        return unfolded
    kernel, bias = weights[stem.name]
    of_pixels = np.einsum("hwio,ij->hwjo", kernel, normalisation.matrix)
    shift = np.linalg.solve(normalisation.matrix, normalisation.offset)  # matrix @ (pixel + shift) = normalised pixel
    if None in model.inputs[0].shape[1:3]:
        weights[stem.name] = [of_pixels, bias]
        replaced[last.name] = Shift(shift.tolist(), name=last.name)
        return last.name, {}
    weights[stem.name] = [of_pixels, bias + np.einsum("hwio,i->o", kernel, normalisation.offset)]
    replaced[last.name] = None
    mean = (-shift).tolist()
    if pad is not None:
        replaced[pad.name] = ConstantPadding2D(amount, mean, name=pad.name)
        return last.name, {}
    return last.name, {stem.name: ConstantPadding2D(amount, mean, name=layer_names.pad(stem.name))} if amount else {}


def _padding(stem: layers.Conv2D, pad: layers.ZeroPadding2D | None) -> int | None:
    """-> width of the border of zeros before the stem, or None if it is not equal on all sides."""
    if pad is not None:
        amounts = {side for sides in pad.padding for side in sides}
        return amounts.pop() if stem.padding == "valid" and len(amounts) == 1 else None
    if stem.padding == "valid":
        return 0
    sizes = {(size - 1) * dilation for size, dilation in zip(stem.kernel_size, stem.dilation_rate, strict=True)}
    size = sizes.pop()
    return size // 2 if not sizes and size % 2 == 0 and set(stem.strides) == {1} else None
