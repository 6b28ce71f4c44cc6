"""Folded model, calibration images -> kernels on the grid of 8-bit integers and the ranges of all activations.

TFLite and ONNX files are both written from these, so that they share ranges, rounding and corrections.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_resnet.compress.fake_quant import FakeQuantize, FakeQuantizedConv2D, FakeQuantizedDense, rounded
from keras_resnet.compress.rewrite import (
    consumers,
    copy,
    is_softmax,
    quantization_points,
    rebuild,
    with_fake_quantization,
)
from keras_resnet.errors import ExportError
from keras_resnet.export.fold import ConstantPadding2D

BATCH_SIZE = 8  # of calibration: ResNet-50 holds 90 MB of activations for each image
BINS = 2048
CLIPPING_CANDIDATES = 100
LOGITS_CANDIDATES = 32

Ranges = Mapping[str, tuple[float, float]]  # by name of a layer: minimum and maximum of its output


@dataclass(frozen=True)
class Quantized:
    """What an integer file is written from."""

    model: keras.Model  # folded, kernels rounded, activations in float
    ranges: Ranges  # of each quantization point
    keep_float: tuple[str, ...] = ()  # layers that stay float

    def simulate(self) -> keras.Model:
        """-> the model with 8-bit rounding of kernels, activations and pixels; a byte of a picture is a byte."""
        model = with_fake_quantization(self.model, self.ranges, keep_float=self.keep_float)
        readers = {layer.name for layer in consumers(model)[model.inputs[0]._keras_history.operation.name]}

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if layer.name in readers:
                args = (FakeQuantize(0, 255, name=f"{layer.name}_input_fake_quant")(args[0]), *args[1:])
            x = layer(*args, **kwargs)
            if isinstance(layer, ConstantPadding2D):
                x = FakeQuantize(0, 255, name=f"{layer.name}_fake_quant")(x)
            return x

        return rebuild(model, call=call)


def quantize(
    model: keras.Model,
    images: np.ndarray,
    *,
    ranges: str = "minmax",
    keep_float: Sequence[str] = (),
    weight_steps: int = 127,
) -> Quantized:
    """Folded model, calibration images uint8 `[N, H, W, C]` -> rounded kernels and ranges.

    The bias of each layer makes up for what the rounding of its kernel adds on the average (Nagel et al. 2019,
    arXiv 1906.04721, section 4.2).

    Args:
        model: As `fold` gives it.
        images: Calibration images.
        ranges: "minmax", or "mse": the range with the least squared error of rounding and clipping together.
        keep_float: Names of layers that stay float.
        weight_steps: Integers on either side of zero that a kernel may use.
    """
    rounded_model = _with_rounded_kernels(model, images, keep_float, weight_steps)
    return Quantized(rounded_model, activation_ranges(rounded_model, images, ranges), tuple(keep_float))


def float_layers(model: keras.Model, names: Sequence[str]) -> tuple[str, ...]:
    """Folded model, layers that shall stay float -> these, each convolution with the ReLU that it is fused with.

    Raises:
        ExportError: The model has no layer of such a name that int8 formats would quantize.
    """
    readers = consumers(model)
    before = {reader.name: name for name, following in readers.items() for reader in following}
    known = {op.name for op in model.operations if isinstance(op, (layers.Conv2D, layers.Dense, layers.Add))}
    known |= set(quantization_points(model))
    kept: set[str] = set()
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=3)
            hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
            raise ExportError(f"`keep_float` must name layers as --debug lists them. Received: {name!r}.{hint}")
        fused = [name]
        if isinstance(model.get_layer(name), layers.ReLU):
            fused.append(before[name])
        fused += [reader.name for reader in readers[name] if isinstance(reader, layers.ReLU)]
        kept |= set(fused)
    return tuple(op.name for op in model.operations if op.name in kept)


def learned(model: keras.Model) -> Quantized:
    """Folded model of quantization-aware training -> its kernels, and the ranges that it learned."""
    readers = consumers(model)
    fake = {layer.name for layer in model.layers if isinstance(layer, FakeQuantize)}
    ranges = {}
    for name, following in readers.items():
        for layer in following:
            if layer.name in fake:
                ranges[name] = (float(layer.minimum.numpy()), float(layer.maximum.numpy()))

    def plain(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, FakeQuantizedConv2D):
            del config["input_scale"]
            return layers.Conv2D.from_config(config)
        return layers.Dense.from_config(config) if isinstance(layer, FakeQuantizedDense) else copy(layer)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in fake else layer(*args, **kwargs)

    dense = {
        layer.name: [np.asarray(layer.rounded_kernel()), *layer.get_weights()[1:]]
        for layer in model.layers
        if isinstance(layer, FakeQuantizedDense)
    }
    stripped = rebuild(model, plain, call, dense)
    kept = [name for name in quantization_points(stripped) if name not in ranges]
    return Quantized(stripped, ranges, tuple(kept))


def signal_to_noise_db(
    model: keras.Model, quantized: keras.Model, points: Sequence[str], images: np.ndarray
) -> dict[str, float]:
    """Folded model, its simulation, layers, images -> by layer, 10 log10(signal / squared error), worst first."""
    pairs = [(model.get_layer(name).output, quantized.get_layer(f"{name}_fake_quant").output) for name in points]
    true, rough = (keras.Model(m.input, [pair[i] for pair in pairs]) for i, m in enumerate((model, quantized)))
    signal, noise = np.zeros(len(points)), np.zeros(len(points))
    for batch in _batches(images):
        for index, (a, b) in enumerate(zip(true(batch), rough(batch), strict=True)):
            signal[index] += float(ops.sum(ops.square(a)))
            noise[index] += float(ops.sum(ops.square(a - b)))
    decibels = 10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30))
    return {points[index]: float(decibels[index]) for index in np.argsort(decibels)}


def activation_ranges(model: keras.Model, images: np.ndarray, method: str) -> Ranges:
    """Folded model, calibration images -> (minimum, maximum) of each quantization point, zero within.

    The lowest logits before a softmax are, by either method, clipped as far as it lessens the squared error of the
    probabilities: 256 steps over all logits make ties of the best two (3 % of ResNet-18's and ResNet-50's answers).
    """
    points = quantization_points(model)
    ranges = _ranges(model, points, images, method)
    last = points[-1]
    if [is_softmax(reader) for reader in consumers(model)[last]] == [True]:
        logits = keras.Model(model.input, model.get_layer(last).output)
        values = np.concatenate([np.asarray(logits(batch), "float64") for batch in _batches(images)])
        ranges[last] = _logits_range(values, *ranges[last])
    return ranges


def _logits_range(logits: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Logits `[N, classes]` in low..high -> that range with the floor of the least squared error of probabilities."""

    def softmax(values: np.ndarray) -> np.ndarray:
        exponentials = np.exp(values - values.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    expected = softmax(logits)
    best, least = (low, high), np.inf
    for floor in np.linspace(low, 0, LOGITS_CANDIDATES, endpoint=False):
        step = (high - floor) / 255
        error = float(np.square(softmax(np.clip(np.round(logits / step) * step, floor, high)) - expected).sum())
        if error < least:
            best, least = (float(floor), high), error
    return best


def _ranges(
    model: keras.Model, points: Sequence[str], images: np.ndarray, method: str
) -> dict[str, tuple[float, float]]:
    tensors = [model.get_layer(name).output for name in points]
    extremes = keras.Model(model.input, [(ops.min(tensor), ops.max(tensor)) for tensor in tensors])
    seen = np.array([[[float(v) for v in pair] for pair in extremes(batch)] for batch in _batches(images)])
    minima, maxima = np.minimum(seen[..., 0].min(axis=0), 0), np.maximum(seen[..., 1].max(axis=0), 0)
    if method == "minmax":
        return {name: (float(low), float(high)) for name, low, high in zip(points, minima, maxima, strict=True)}
    view = keras.Model(model.input, tensors)
    counts = np.zeros((len(points), BINS))
    for batch in _batches(images):
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


def _with_rounded_kernels(
    model: keras.Model, images: np.ndarray, keep_float: Sequence[str], weight_steps: int
) -> keras.Model:
    """Kernels on the grid of their integers, and biases that keep the mean output what it was."""
    kinds = (layers.Conv2D, layers.Dense)
    chosen = [layer for layer in model.layers if isinstance(layer, kinds) and layer.name not in keep_float]
    means = keras.Model(
        model.input, [ops.mean(x, axis=tuple(range(len(x.shape) - 1))) for x in (c.input for c in chosen)]
    )
    total = [np.zeros(layer.input.shape[-1]) for layer in chosen]
    for batch in _batches(images):
        for sums, mean in zip(total, means(batch), strict=True):
            sums += np.asarray(mean, "float64") * len(batch)
    weights = {}
    for layer, sums in zip(chosen, total, strict=True):
        kernel, bias = layer.get_weights()
        after = rounded(kernel, weight_steps)
        shift = np.tensordot(sums / len(images), (after.astype("float64") - kernel), ([0], [-2]))
        shift = shift.reshape(-1, shift.shape[-1]).sum(axis=0)  # over the positions of the kernel
        weights[layer.name] = [after, bias - shift]
    return rebuild(model, weights=weights)


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[i : i + BATCH_SIZE].astype("float32") for i in range(0, len(images), BATCH_SIZE))
