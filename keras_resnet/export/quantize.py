"""Folded model, calibration images -> the model that rounds as its integer artifacts will.

TFLite and ONNX files are both written from it, so that they share ranges, rounding and corrections.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_resnet.compress.fake_quant import FakeQuantize, rounded
from keras_resnet.compress.rewrite import consumers, quantization_points, rebuild, with_fake_quantization
from keras_resnet.export.fold import ConstantPadding2D

BATCH_SIZE = 8  # of calibration: ResNet-50 holds 90 MB of activations for each image
BINS = 2048
CLIPPING_CANDIDATES = 100

Ranges = dict[str, tuple[float, float]]


def quantize(
    model: keras.Model, images: np.ndarray, method: str = "minmax", keep_float: Sequence[str] = ()
) -> keras.Model:
    """Folded model, pixels uint8 `[N, H, W, C]` -> the same with 8-bit rounding of kernels and activations.

    The bias of each convolution makes up for what the rounding of its kernel adds on the average
    (Nagel et al. 2019, arXiv 1906.04721, section 4.2).

    Args:
        model: As `fold` gives it.
        images: Calibration images.
        method: "minmax", or "mse": the range with the least squared error of rounding and clipping together.
        keep_float: Names of layers that stay float.
    """
    model = _with_rounded_kernels(model, images, keep_float)
    ranges = activation_ranges(model, images, method)
    return with_integer_pixels(with_fake_quantization(model, ranges, keep_float=keep_float))


def with_integer_pixels(model: keras.Model) -> keras.Model:
    """Folded model with fake quantization -> the same, its pixels held in 8 bits of scale 1: a byte is a byte."""
    names = {layer.name for layer in consumers(model)[model.inputs[0]._keras_history.operation.name]}

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name in names:
            args = (FakeQuantize(0, 255, name=f"{layer.name}_input_fake_quant")(args[0]), *args[1:])
        x = layer(*args, **kwargs)
        if isinstance(layer, ConstantPadding2D):
            x = FakeQuantize(0, 255, name=f"{layer.name}_fake_quant")(x)
        return x

    return rebuild(model, call=call)


def activation_ranges(model: keras.Model, images: np.ndarray, method: str) -> Ranges:
    """Folded model, calibration images -> (minimum, maximum) of each quantization point, zero within."""
    points = quantization_points(model)
    tensors = [model.get_layer(name).output for name in points]
    extremes = keras.Model(model.input, [(ops.min(tensor), ops.max(tensor)) for tensor in tensors])
    batches = [images[i : i + BATCH_SIZE].astype("float32") for i in range(0, len(images), BATCH_SIZE)]
    seen = np.array([[[float(v) for v in pair] for pair in extremes(batch)] for batch in batches])
    minima, maxima = np.minimum(seen[..., 0].min(axis=0), 0), np.maximum(seen[..., 1].max(axis=0), 0)
    if method == "minmax":
        return {name: (float(low), float(high)) for name, low, high in zip(points, minima, maxima, strict=True)}
    view = keras.Model(model.input, tensors)
    counts = np.zeros((len(points), BINS))
    for batch in batches:
        for index, values in enumerate(view(batch)):
            counts[index] += np.histogram(np.asarray(values), BINS, (minima[index], maxima[index]))[0]
    return {
        name: _least_squares_range(count, low, high)
        for name, count, low, high in zip(points, counts, minima, maxima, strict=True)
    }


def _least_squares_range(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Histogram over low..high -> the fraction of that range with the least squared error in 256 steps."""
    edges = np.linspace(low, high, len(counts) + 1)
    values = (edges[:-1] + edges[1:]) / 2
    best, least = (low, high), np.inf
    for fraction in np.linspace(0.3, 1, CLIPPING_CANDIDATES):
        a, b = fraction * low, fraction * high
        step = (b - a) / 255
        inside = (values >= a) & (values <= b)
        error = np.where(inside, step**2 / 12, (values - np.clip(values, a, b)) ** 2)
        total = float(counts @ error)
        if total < least:
            best, least = (float(a), float(b)), total
    return best


def _with_rounded_kernels(model: keras.Model, images: np.ndarray, keep_float: Sequence[str]) -> keras.Model:
    """Kernels of convolutions on the grid of their integers, and biases that keep the mean output what it was."""
    convolutions = [
        layer for layer in model.layers if type(layer) is layers.Conv2D and layer.name not in keep_float
    ]
    means = keras.Model(model.input, [ops.mean(layer.input, axis=(0, 1, 2)) for layer in convolutions])
    total: Any = 0
    for i in range(0, len(images), BATCH_SIZE):
        batch = images[i : i + BATCH_SIZE].astype("float32")
        answers = [np.asarray(mean, "float64") * len(batch) for mean in means(batch)]
        total = answers if i == 0 else [a + b for a, b in zip(total, answers, strict=True)]
    weights = {}
    for layer, mean in zip(convolutions, total, strict=True):
        kernel, bias = layer.get_weights()
        after = rounded(kernel)
        shift = np.einsum("hwio,i->o", after.astype("float64") - kernel, mean / len(images))
        weights[layer.name] = [after, bias - shift]
    return rebuild(model, weights=weights)
