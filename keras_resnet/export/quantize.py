"""Folded model, calibration images -> kernels on the grid of 8-bit integers and the ranges of all activations.

TFLite and ONNX files are both written from them, and so share ranges, rounding and corrections.
"""

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_resnet import layer_names
from keras_resnet.compress.fake_quant import FakeQuantize, FakeQuantizedConv2D, FakeQuantizedDense
from keras_resnet.compress.rewrite import apart, is_softmax, quantization_points, with_fake_quantization
from keras_resnet.detection_layers.base import BoxLayer
from keras_resnet.errors import ExportError
from keras_resnet.export.fold import ConstantPadding2D
from keras_resnet.export.rounding import batches_for, observed, with_rounded_kernels
from keras_resnet.graph import consumers, copy, rebuild
from keras_resnet.resize import ResizeLike

HISTOGRAM_BINS = 2048
EVERY = 7  # smallest step between sampled values
LARGE = 100_000  # number of values above which a histogram is sampled
CLIPPING_CANDIDATES = 100
LOGITS_CANDIDATES = 32
MSE_IMAGES = 64  # fewer images show too few of the large values, of which mse would cut off even more

Ranges = Mapping[str, tuple[float, float]]  # name of a layer -> minimum and maximum of its output


@dataclass(frozen=True)
class Quantized:
    """A quantized model, from which integer files are written."""

    model: keras.Model  # folded, kernels rounded, activations in float
    ranges: Ranges  # ranges of all quantization points
    keep_float: tuple[str, ...] = ()  # layers that stay float

    def simulate(self) -> keras.Model:
        """-> model with 8-bit rounding of kernels, activations and pixels, whose scale is 1."""
        model = with_fake_quantization(self.model, self.ranges, keep_float=self.keep_float)
        following = consumers(model)[model.inputs[0]._keras_history.operation.name]
        readers = {layer.name for layer in following if not isinstance(layer, ResizeLike)}  # it reads only the size

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if layer.name in readers:
                args = (FakeQuantize(0, 255, name=layer_names.fake_quant(f"{layer.name}_input"))(args[0]), *args[1:])
            if isinstance(layer, BoxLayer):  # TFLite would compute even its comparisons in the steps of its inputs
                args = keras.tree.map_structure(
                    lambda x: apart(x) if isinstance(x._keras_history.operation, FakeQuantize) else x, args
                )
            x = layer(*args, **kwargs)
            if isinstance(layer, ConstantPadding2D):
                x = FakeQuantize(0, 255, name=layer_names.fake_quant(layer.name))(x)
            return x

        return rebuild(model, call=call)


def quantize(
    model: keras.Model,
    images: np.ndarray,
    *,
    ranges: str | None = None,
    keep_float: Sequence[str] = (),
    weight_steps: int = 127,
) -> Quantized:
    """Folded model, calibration images uint8 `[N, H, W, C]` -> rounded kernels and ranges.

    Args:
        model: Result of `fold`.
        images: Calibration images.
        ranges: "minmax", or "mse", the range with the least squared error of rounding and clipping together. None: see
            `usual_ranges`.
        keep_float: Names of layers that stay float.
        weight_steps: Number of integers on either side of zero that a kernel may use.
    """
    _check_layers(model)
    rounded = with_rounded_kernels(model, images, keep_float, weight_steps)
    points = quantization_points(rounded)
    last = rounded.get_layer(points[-1])
    gives_logits = isinstance(last, layers.Dense) and [*map(is_softmax, consumers(rounded)[last.name])] == [True]
    method = ranges or usual_ranges(len(images))
    found, logits = _ranges(rounded, points, images, method, [last.output] if gives_logits else [])
    if gives_logits:
        low, high = _logits_range(*logits)
        kernel, bias = last.get_weights()
        last.set_weights([kernel, bias - low])  # probabilities stay, and the range starts at zero
        found[last.name] = (0.0, high - low)
    return Quantized(rounded, found, tuple(keep_float))


def usual_ranges(images: int) -> str:
    """Number of calibration images -> method of ranges whose integers agree better with the model."""
    return "mse" if images >= MSE_IMAGES else "minmax"


def _check_layers(model: keras.Model) -> None:
    """Raises `ExportError` if a layer is called twice, or has a kernel that is not quantized, as a depthwise one."""
    kinds = (layers.Conv2D, layers.Dense)
    shared = next((layer.name for layer in model.layers if len(layer._inbound_nodes) > 1), None)
    if shared is not None:
        raise ExportError(
            "int8 formats quantize models that call each layer once. Received: a model that calls the layer "
            f"{shared!r} several times. Take a float format, or tflite-dynamic"
        )
    others = [
        layer
        for layer in model.layers
        if not isinstance(layer, kinds)
        and (hasattr(layer, "kernel") or hasattr(layer, "depthwise_kernel"))
        and layer.name != layer_names.MASK_UPSAMPLE  # TFLite rounds its kernel, and computes it in float
    ]
    if others:
        raise ExportError(
            "int8 formats quantize convolutions and dense layers. Received: a model with "
            f"{type(others[0]).__name__}, the layer {others[0].name!r}. Take a float format, or tflite-dynamic"
        )


def float_layers(model: keras.Model, names: Sequence[str]) -> tuple[str, ...]:
    """Folded model, layers that shall stay float -> these layers, and the ReLU with which each convolution is fused.

    Raises:
        ExportError: int8 formats would quantize no layer of a given name.
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
            raise ExportError(
                f"`keep_float` (--keep-float) must name layers as --debug lists them. Received: {name!r}.{hint}"
            )
        fused = [name]
        if isinstance(model.get_layer(name), layers.ReLU):
            fused.append(before[name])
        fused += [reader.name for reader in readers[name] if isinstance(reader, layers.ReLU)]
        kept |= set(fused)
    return tuple(op.name for op in model.operations if op.name in kept)


def learned(model: keras.Model) -> Quantized:
    """Folded model of quantization-aware training -> its kernels and learned ranges."""
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
    """Folded model, its simulation, layers, images -> 10 log10(signal / squared error) by layer, the worst first."""
    rounding = {name: quantized.get_layer(layer_names.fake_quant(name)) for name in points}
    pairs = [(model.get_layer(name).output, rounded.output) for name, rounded in rounding.items()]
    true, rough = (keras.Model(m.input, [pair[i] for pair in pairs]) for i, m in enumerate((model, quantized)))
    signal, noise = np.zeros(len(points)), np.zeros(len(points))
    for batch in batches_for(model, images):
        for index, (a, b) in enumerate(zip(true(batch), rough(batch), strict=True)):
            signal[index] += float(ops.sum(ops.square(a)))
            noise[index] += float(ops.sum(ops.square(a - b)))
    decibels = 10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30))
    return {points[index]: float(decibels[index]) for index in np.argsort(decibels)}


def _logits_range(logits: np.ndarray) -> tuple[float, float]:
    """Logits `[N, classes]` -> range with the least squared error of probabilities.

    Both methods use this range: 256 steps from the lowest to the highest logit would make the best two classes equal
    (in 3 % of ResNet-18's and ResNet-50's answers). Very low logits, and very high logits of confident answers, hardly
    affect probabilities.
    """
    logits = logits.astype("float64")

    def softmax(values: np.ndarray) -> np.ndarray:
        exponentials = np.exp(values - values.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    expected = softmax(logits)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        rough = low + np.round(np.clip(logits - low, 0, high - low) / step) * step
        return float(np.square(softmax(rough) - expected).sum())

    low, high = float(logits.min()), float(logits.max())
    low = min(np.linspace(low, high, LOGITS_CANDIDATES, endpoint=False), key=lambda floor: error(floor, high))
    high = min(np.linspace(high, low, LOGITS_CANDIDATES, endpoint=False), key=lambda ceiling: error(low, ceiling))
    return float(low), float(high)


def activation_ranges(
    model: keras.Model, points: Sequence[str], images: np.ndarray, method: str
) -> dict[str, tuple[float, float]]:
    """Folded model, its quantization points, calibration images, method as for `quantize` -> range of each point."""
    return _ranges(model, points, images, method, [])[0]


def _ranges(
    model: keras.Model, points: Sequence[str], images: np.ndarray, method: str, wanted: Sequence[Any]
) -> tuple[dict[str, tuple[float, float]], list[np.ndarray]]:
    """Model, names of layers, images, method, further tensors -> range of each layer; values of these tensors."""
    tensors = [model.get_layer(name).output for name in points]
    extremes = (ops.stack([extreme(tensor) for tensor in tensors]) for extreme in (ops.min, ops.max))
    lowest, highest = (ops.expand_dims(values, 0) for values in extremes)
    batches = [values for _, values in observed(model, [lowest, highest, *wanted], images)]
    lows, highs, *values = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    minima, maxima = (
        np.minimum(lows.min(axis=0), 0).astype("float64"),
        np.maximum(highs.max(axis=0), 0).astype("float64"),
    )
    if method == "minmax":
        return dict(zip(points, zip(minima.tolist(), maxima.tolist(), strict=True), strict=True)), values
    counts = np.zeros((len(points), HISTOGRAM_BINS))
    for _, batch in observed(model, tensors, images):
        for index, found in enumerate(batch):
            seen = found.ravel()
            seen = _sampled(seen) if seen.size > LARGE else seen
            seen = seen[seen != 0]  # zero is one of the 256 values, so that rounding and clipping leave it
            counts[index] += np.histogram(seen, HISTOGRAM_BINS, (minima[index], maxima[index]))[0]
    ranges = {
        name: _least_squares_range(count, low, high)
        for name, count, low, high in zip(points, counts, minima, maxima, strict=True)
    }
    return ranges, values


def _sampled(values: np.ndarray) -> np.ndarray:
    """Values of all images, places and channels -> every n-th. Since n and their number have no common factor, all
    channels, rows and columns are sampled evenly.
    """
    step = next(step for step in itertools.count(EVERY) if math.gcd(step, values.size) == 1)
    return values[::step]


def _least_squares_range(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Histogram over low..high -> fraction of this range with the least squared error in 256 steps."""
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
