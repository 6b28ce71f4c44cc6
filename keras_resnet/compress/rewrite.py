"""Functional model -> model with some layers exchanged; the graph and the layer names stay."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_resnet import layer_names
from keras_resnet.compress.fake_quant import FakeQuantize, FakeQuantizedConv2D, FakeQuantizedDense
from keras_resnet.detection_layers.roi_align import RoIAlign
from keras_resnet.graph import consumers, copy, rebuild

# Layers whose outputs have a new range. Padding and maximum pooling only select existing values.
_PRODUCERS: Any = (
    layers.Conv2D,
    layers.Dense,
    layers.BatchNormalization,
    layers.Add,
    layers.ReLU,
    layers.Rescaling,
    layers.GlobalAveragePooling2D,
    layers.Concatenate,
    RoIAlign,
)
_ABSORBED = (layers.BatchNormalization, layers.ReLU)  # integer kernels fuse these layers into the operation before them


def quantization_points(model: keras.Model) -> list[str]:
    """Functional model -> names of the layers whose output an integer artifact holds in 8 bits, in graph order."""
    readers = consumers(model)
    return [
        op.name
        for op in model.operations
        if isinstance(op, _PRODUCERS)
        and not (readers[op.name] and all(isinstance(reader, _ABSORBED) for reader in readers[op.name]))
    ]


def is_softmax(layer: Any) -> bool:
    """Layer -> whether it turns logits into probabilities."""
    return isinstance(layer, layers.Softmax) or getattr(layer, "activation", None) is keras.activations.softmax


def with_fake_quantization(
    model: keras.Model,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    *,
    input_scale: Mapping[str, Sequence[float]] = {},
    keep_float: Sequence[str] = (),
    unrounded: Sequence[str] = (),
) -> keras.Model:
    """Flat functional model -> copy with 8-bit rounding of kernels and activations.

    Args:
        model: A network of this package, with or without BatchNorm.
        ranges: (minimum, maximum) of each of `quantization_points`. Default: training tracks the ranges.
        input_scale: Factors of input channels that the export folds into a convolution's kernel, by layer name.
        keep_float: Names of layers whose kernel is not rounded, nor their output if only such layers read it.
        unrounded: Names of layers whose output is not rounded.
    """
    readers = consumers(model)
    points = {
        name
        for name in quantization_points(model)
        if name not in unrounded
        and (ranges is None or name in ranges)
        and not (name in keep_float and all(reader.name in keep_float for reader in readers[name]))
    }

    def exchange(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name not in keep_float:
            if type(layer) is layers.Conv2D:
                return FakeQuantizedConv2D.from_config({**config, "input_scale": input_scale.get(layer.name)})
            if type(layer) is layers.Dense:
                return FakeQuantizedDense.from_config(config)
        return copy(layer)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        is_kept = layer.name in keep_float and layer.name in points
        if is_kept and isinstance(layer, layers.GlobalAveragePooling2D):  # a mean of integers has its input's scale
            args = (apart(args[0]), *args[1:])
        x = layer(*args, **kwargs)
        if layer.name not in points:
            return x
        if is_kept:
            x = apart(x)
        minimum, maximum = (None, None) if ranges is None else ranges[layer.name]
        momentum = None if any(map(is_softmax, readers[layer.name])) else 0.99  # clipped logits would change answers
        return FakeQuantize(minimum, maximum, momentum, dtype="float32", name=layer_names.fake_quant(layer.name))(x)

    return rebuild(model, exchange, call)


def apart(x: Any) -> Any:
    """Tensor -> unchanged tensor, flipped along no axis, as a boundary: TFLite makes integers between two roundings."""
    return ops.flip(x, ())
