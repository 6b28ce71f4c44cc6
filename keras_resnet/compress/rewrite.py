"""Functional model -> model with some layers exchanged; the graph and the layer names stay."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_resnet import layer_names
from keras_resnet.compress.fake_quant import FakeQuantize, FakeQuantizedConv2D, FakeQuantizedDense
from keras_resnet.facts import carry

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
)
_ABSORBED = (layers.BatchNormalization, layers.ReLU)  # integer kernels fuse these layers into the operation before them


def consumers(model: keras.Model) -> dict[str, list[Any]]:
    """Functional model -> operations that read the output of each operation, by its name.

    Raises:
        ValueError: An operation occurs more than once in the graph.
    """
    producers = {id(tensor): op.name for op in model.operations for tensor in keras.tree.flatten(op.output)}
    readers: dict[str, list[Any]] = {op.name: [] for op in model.operations}
    for op in model.operations:
        if isinstance(op, layers.InputLayer):
            continue
        for tensor in keras.tree.flatten(op.input):
            if id(tensor) in producers:
                readers[producers[id(tensor)]].append(op)
    return readers


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
        apart = layer.name in keep_float and layer.name in points
        if apart and isinstance(layer, layers.GlobalAveragePooling2D):  # a mean of integers has the scale of its input
            args = (_apart(args[0]), *args[1:])
        x = layer(*args, **kwargs)
        if layer.name not in points:
            return x
        if apart:
            x = _apart(x)
        minimum, maximum = (None, None) if ranges is None else ranges[layer.name]
        momentum = None if any(map(is_softmax, readers[layer.name])) else 0.99  # clipped logits would change answers
        return FakeQuantize(minimum, maximum, momentum, dtype="float32", name=layer_names.fake_quant(layer.name))(x)

    return rebuild(model, exchange, call)


def _apart(x: Any) -> Any:
    """Tensor -> unchanged tensor, flipped along no axis, as a boundary: TFLite makes integers between two roundings."""
    return ops.flip(x, ())


def copy(layer: Any) -> Any:
    """Layer -> new layer of the same configuration, without weights."""
    return layer.__class__.from_config(layer.get_config())


def call_as_before(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Layer, arguments of the original call -> output."""
    return layer(*args, **kwargs)


def rebuild(
    model: keras.Model,
    exchange: Callable[[Any], Any] = copy,
    call: Callable[..., Any] = call_as_before,
    weights: Mapping[str, Sequence[Any]] = {},
) -> keras.Model:
    """Functional model -> its graph with `exchange(layer)` for each layer and `call(layer, ...)` for each call.

    A layer that keeps its name keeps its weights, unless `weights` has other weights for it. Facts about the model are
    stated for the new model too.
    """
    changed = keras.models.clone_model(model, clone_function=exchange, call_function=call)
    originals = {layer.name: layer for layer in model.layers}
    for layer in changed.layers:
        if layer.name in originals and layer.weights:
            layer.set_weights(weights.get(layer.name, originals[layer.name].get_weights()))
    carry(model, changed)
    return changed
