"""Folded model, calibration images -> kernels on the grid of 8-bit integers and the ranges of all activations.

TFLite and ONNX files are both written from them, and so share ranges, rounding and corrections.
"""

import difflib
from collections.abc import Sequence
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
from keras_resnet.export.ranges import Ranges, activation_ranges, logits_range
from keras_resnet.export.rounding import batches_for, with_rounded_kernels
from keras_resnet.graph import consumers, copy, rebuild
from keras_resnet.resize import ResizeLike


@dataclass(frozen=True)
class Quantized:
    """A quantized model, from which integer files are written."""

    model: keras.Model  # folded, kernels rounded, activations in float
    ranges: Ranges  # ranges of all quantization points
    keep_float: tuple[str, ...] = ()  # layers that stay float
    is_learned: bool = False  # whether the network has learned with these ranges, and so with values clipped to them

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
    ranges: str,
    keep_float: Sequence[str] = (),
    weight_steps: int = 127,
) -> Quantized:
    """Folded model, calibration images uint8 `[N, H, W, C]` -> rounded kernels and ranges.

    Args:
        model: Result of `fold`.
        images: Calibration images.
        ranges: "minmax", or "mse", the range with the least squared error of rounding and clipping together.
        keep_float: Names of layers that stay float.
        weight_steps: Number of integers on either side of zero that a kernel may use.
    """
    _check_layers(model)
    rounded = with_rounded_kernels(model, images, keep_float, weight_steps)
    points = quantization_points(rounded)
    last = rounded.get_layer(points[-1])
    gives_logits = isinstance(last, layers.Dense) and [*map(is_softmax, consumers(rounded)[last.name])] == [True]
    found, logits = activation_ranges(rounded, points, images, ranges, [last.output] if gives_logits else [])
    if gives_logits:
        low, high = logits_range(*logits)
        kernel, bias = last.get_weights()
        last.set_weights([kernel, bias - low])  # probabilities stay, and the range starts at zero
        found[last.name] = (0.0, high - low)
    return Quantized(rounded, found, tuple(keep_float))


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
    return Quantized(stripped, ranges, tuple(kept), is_learned=True)


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
