"""The graph of a functional model: who reads what, its copy with layers exchanged, and its flat form."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
from keras import layers

from keras_resnet.facts import carry
from keras_resnet.fused_batch_norm import fuse_batch_norm

# Layers that change nothing except in training. `RandomCrop` also crops in prediction.
_ONLY_IN_TRAINING: Any = (
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.AugMix,
    layers.CutMix,
    layers.MixUp,
    layers.RandAugment,
    *(getattr(layers, name) for name in dir(layers) if name.startswith("Random") and name != "RandomCrop"),
)


_RANDOM: Any = (
    keras.initializers.VarianceScaling,
    keras.initializers.RandomNormal,
    keras.initializers.RandomUniform,
    keras.initializers.TruncatedNormal,
)


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


# Layers behind which logits are still logits. Further layers declare it by `keeps_logits = True`.
_KEEP_LOGITS: Any = (layers.Dropout, layers.UpSampling2D, layers.Identity, layers.Flatten, layers.Reshape)


def output_activation(model: keras.Model) -> tuple[str | None, Any]:
    """Functional model of one output -> the activation of its output, and the operation that computes it.

    The activation is "softmax", "sigmoid", "linear" (a convolution or dense layer without an activation), or None for
    any other operation.
    """
    op = model.outputs[0]._keras_history.operation
    while keeps_logits(op):
        op = keras.tree.flatten(op.input)[0]._keras_history.operation
    activation = getattr(op, "activation", None)
    if activation is keras.activations.softmax or isinstance(op, layers.Softmax) or _is_operation(op, "Softmax"):
        return "softmax", op
    if activation is keras.activations.sigmoid or _is_operation(op, "Sigmoid"):
        return "sigmoid", op
    is_kernel = isinstance(op, (layers.Conv2D, layers.Dense, layers.Conv2DTranspose))
    return ("linear" if is_kernel and activation is keras.activations.linear else None), op


def keeps_logits(op: Any) -> bool:
    """Operation -> whether its output are logits if its input are."""
    is_linear = type(op) is layers.Activation and op.activation is keras.activations.linear
    return is_linear or isinstance(op, _KEEP_LOGITS) or getattr(op, "keeps_logits", False)


def _is_operation(op: Any, name: str) -> bool:
    """Operation -> whether it is the function of that name in `keras.ops`."""
    return type(op).__name__ == name and not isinstance(op, layers.Layer)


def copy(layer: Any) -> Any:
    """Layer, or operation of `keras.ops` -> new one of the same configuration, without weights."""
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
    originals = {layer.name: layer for layer in model.layers}
    changed = clone(model, exchange, call, originals)
    for layer in changed.layers:
        if layer.name in originals and layer.weights:
            layer.set_weights(weights.get(layer.name, originals[layer.name].get_weights()))
    carry(model, changed)
    return fuse_batch_norm(changed)


def clone(
    model: keras.Model, exchange: Callable[[Any], Any], call: Callable[..., Any], given: Collection[str], **kwargs: Any
) -> keras.Model:
    """`keras.models.clone_model`, where the weights of the layers named in `given` are zero: the caller sets them.

    Random numbers for them would take most of the time, half a second for a ResNet-50.
    """
    withheld: list[tuple[Any, str, Any]] = []  # layer, name of an attribute, its initializer

    def exchange_unfilled(layer: Any) -> Any:
        new = exchange(layer)
        if new.name in given and isinstance(new, layers.Layer) and not new.built:
            for name, value in list(vars(new).items()):
                if isinstance(value, _RANDOM):
                    withheld.append((new, name, value))
                    setattr(new, name, keras.initializers.Zeros())
        return new

    cloned = keras.models.clone_model(model, clone_function=exchange_unfilled, call_function=call, **kwargs)
    for layer, name, value in withheld:
        setattr(layer, name, value)
    return cloned


def unshared(model: keras.Model) -> keras.Model:
    """Functional model -> equal model that calls each layer once: every further call gets a copy of its layer.

    A model without shared layers is returned unchanged.
    """
    if all(len(layer._inbound_nodes) == 1 for layer in model.layers):
        return model
    calls: Counter[str] = Counter()
    copies: dict[str, str] = {}  # name of a copy -> name of its layer

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        calls[layer.name] += 1
        if calls[layer.name] == 1:
            return layer(*args, **kwargs)
        name = f"{layer.name}_{calls[layer.name]}"
        copies[name] = layer.name
        return layer.__class__.from_config({**layer.get_config(), "name": name})(*args, **kwargs)

    apart = rebuild(model, call=call)
    for name, original in copies.items():
        apart.get_layer(name).set_weights(model.get_layer(original).get_weights())
    return apart


def flatten(model: keras.Model, keep_training_layers: bool = False) -> keras.Model:
    """Functional model as users build it -> equal flat model; a flat model is returned unchanged.

    In a flat model, no layer is itself a model, and ReLU and the activations of convolutions and dense layers are
    layers of their own. Layers that act only in training are left out, unless `keep_training_layers`. A layer whose
    name occurs twice gets a number.
    """
    if isinstance(model, keras.Sequential):  # it has no graph of its own
        model, source = keras.Model(model.inputs[0], model.outputs[0], name=model.name), model
        carry(source, model)
    if all(_is_flat(op, keep_training_layers) for op in model.operations):
        return model
    taken: set[str] = set()

    def renamed(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Layer):
            config["name"] = _free_name(layer.name, taken)
            taken.add(config["name"])
        return layer.__class__.from_config(config)

    own = keras.models.clone_model(model, clone_function=renamed, recursive=True)
    own.set_weights(model.get_weights())
    opened = own
    while any(_is_functional(op) for op in opened.operations):
        opened = keras.models.clone_model(opened, clone_function=lambda layer: layer, call_function=_opened_call)
    names = {op.name for op in opened.operations}

    def exchange(layer: Any) -> Any:
        if type(layer) is layers.Activation and _name_of(layer.activation) in _RELU:
            return layers.ReLU(_RELU[_name_of(layer.activation)], name=layer.name, dtype=layer.dtype_policy)
        return layer.__class__.from_config({**layer.get_config(), **({"activation": None} if _fuses(layer) else {})})

    activations = {
        op.name: _activation_layer(op, _free_name(f"{op.name}_{_name_of(op.activation)}", names))
        for op in opened.operations
        if _fuses(op)
    }

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, _ONLY_IN_TRAINING) and not keep_training_layers:
            return args[0]
        x = layer(*args, **kwargs)
        if _is_operation(layer, "ConvertToTensor") and x.dtype == args[0].dtype:  # a model inside adds it
            return args[0]
        return activations[layer.name](x) if layer.name in activations else x

    flat = rebuild(opened, exchange, call)
    carry(model, flat)
    return flat


_RELU = {"relu": None, "relu6": 6}  # names of activations -> largest value of the layer `ReLU`


def _is_flat(op: Any, keep_training_layers: bool) -> bool:
    if isinstance(op, _ONLY_IN_TRAINING):
        return keep_training_layers or isinstance(op, layers.Dropout)  # converters leave out Dropout
    if type(op) is layers.Activation:
        return _name_of(op.activation) not in _RELU
    return not _is_functional(op) and not _fuses(op)


def _is_functional(op: Any) -> bool:
    """Operation -> whether it is a model with a graph. A derived model with its own `call` has none."""
    return isinstance(op, keras.Sequential) or (isinstance(op, keras.Model) and hasattr(op, "operations"))


def _fuses(op: Any) -> bool:
    """Operation -> whether it is a convolution or dense layer that computes an activation, too."""
    return type(op) in (layers.Conv2D, layers.Dense) and op.activation is not keras.activations.linear


def _activation_layer(op: Any, name: str) -> Any:
    """Convolution or dense layer -> its activation as a layer."""
    kind = _name_of(op.activation)
    if kind in _RELU:
        return layers.ReLU(_RELU[kind], name=name, dtype=op.dtype_policy)
    return layers.Activation(op.activation, name=name, dtype=op.dtype_policy)


def _name_of(activation: Any) -> str:
    return getattr(activation, "__name__", type(activation).__name__.lower())


def _opened_call(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls the layers of a model instead of the model, so that they become part of the graph around it."""
    return op.call(*args, **kwargs) if _is_functional(op) else op(*args, **kwargs)


def _free_name(name: str, taken: set[str]) -> str:
    """Name, names in use -> the name, with a number if it is in use."""
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
