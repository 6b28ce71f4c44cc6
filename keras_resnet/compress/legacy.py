"""Keras 3 model <-> its twin in Keras 2 (tf_keras), which tensorflow-model-optimization requires."""

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnet.errors import WeightsError
from keras_resnet.graph import rebuild
from keras_resnet.heads.logits import ends_in_logits
from keras_resnet.optional import require
from keras_resnet.untuned import untuned

# Layers with equal results in both, and the names of their arguments.
_TWINS = (
    *("Activation", "Add", "BatchNormalization", "Conv2D", "Dense", "Dropout", "GlobalAveragePooling2D"),
    *("GlobalMaxPooling2D", "MaxPooling2D", "ReLU", "Rescaling", "Softmax", "ZeroPadding2D"),
)
ARRAY_BATCH_SIZE = 32  # batch size of images given as arrays
_ENVIRONMENT = "TF_USE_LEGACY_KERAS"
_ALIASES = ("keras", "losses", "metrics", "optimizers", "initializers")  # TensorFlow's modules


class Legacy(NamedTuple):
    """The modules of the two packages that use Keras 2."""

    keras: Any  # tf_keras
    tfmot: Any  # tensorflow_model_optimization


def legacy_packages() -> Legacy:
    """-> tf_keras and tensorflow_model_optimization, imported without effect on the rest of the process.

    tensorflow_model_optimization sets TF_USE_LEGACY_KERAS, by which TensorFlow chooses the Keras of its aliases on
    first use. So the aliases are used before the import, and the variable is restored after it.

    Raises:
        MissingDependencyError: One of the packages is not installed.
    """
    tensorflow = require("tensorflow", "qat")
    for name in _ALIASES:
        dir(getattr(tensorflow, name))
    before = os.environ.get(_ENVIRONMENT)
    try:
        return Legacy(require("tf_keras", "qat"), require("tensorflow_model_optimization", "qat"))
    finally:
        if before is None:
            os.environ.pop(_ENVIRONMENT, None)
        else:
            os.environ[_ENVIRONMENT] = before


def legacy_twin(model: keras.Model) -> Any:
    """Network of this package `[N, H, W, C]` -> `[N, classes]` -> its tf_keras twin, in float32.

    Layers keep their names and weights; regularizers and constraints are left out.

    Raises:
        ValueError: The model is not functional and flat, or has a layer that tf_keras lacks.
        WeightsError: A layer of the twin has weights of other shapes.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(f"`model` must be a built functional Keras model. Received: {model!r}")
    legacy = legacy_packages().keras
    tensors: dict[int, Any] = {}
    graph = keras.models.clone_model(model)  # a copy whose layers occur in no other model
    for operation in graph.operations:
        if isinstance(operation, keras.layers.InputLayer):
            _, *shape = operation.output.shape
            tensors[id(operation.output)] = legacy.Input(shape, dtype=operation.output.dtype, name=operation.name)
            continue
        layer = _twin_layer(operation, legacy)
        inputs = keras.tree.map_structure(lambda tensor: tensors[id(tensor)], operation.input)
        tensors[id(operation.output)] = layer(inputs)
    twin = legacy.Model(
        [tensors[id(tensor)] for tensor in graph.inputs], tensors[id(graph.outputs[0])], name=model.name
    )
    layers = {layer.name: layer for layer in model.layers}
    for layer in twin.layers:
        layer.set_weights(_matched(weights_by_name(layers[layer.name]), weights_by_name(layer), layer.name))
    return twin


def carry_back(twin: Any, model: keras.Model) -> keras.Model:
    """tf_keras twin, original model -> copy of the original with the weights of the twin.

    Raises:
        WeightsError: Their layers or weights differ in name or shape.
    """
    sources, targets = ({layer.name: layer for layer in m.layers if layer.weights} for m in (twin, model))
    if sources.keys() != targets.keys():
        raise WeightsError(
            f"the twin must have the layers of {model.name!r}: it lacks {sorted(targets.keys() - sources.keys())} and "
            f"has {sorted(sources.keys() - targets.keys())} in addition"
        )
    weights = {
        name: _matched(weights_by_name(sources[name]), weights_by_name(layer), name) for name, layer in targets.items()
    }
    return rebuild(model, weights=weights)


def weights_by_name(layer: Any) -> dict[str, np.ndarray]:
    """Layer of either Keras -> its weights, in order: `{"kernel": [h, w, in, out], ...}`.

    tf_keras writes "stem_conv/kernel:0" where Keras 3 writes "kernel".
    """
    names = [weight.name.split("/")[-1].split(":")[0] for weight in layer.weights]
    return dict(zip(names, layer.get_weights(), strict=True))


def batched(data: Any) -> Any:
    """Images `[N, H, W, C]` and integer labels `[N]`, or a tf.data.Dataset of batches of both -> dataset of batches.

    Raises:
        ValueError: Images and labels differ in number, or the dataset does not know how many batches it has.
    """
    tensorflow = require("tensorflow", "qat")
    if not isinstance(data, tensorflow.data.Dataset):
        images, labels = data
        if len(images) != len(labels) or len(images) == 0:
            raise ValueError(f"`data` must have a label for each image. Received: {len(images)} and {len(labels)}")
        data = tensorflow.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images)).batch(ARRAY_BATCH_SIZE)
    if int(data.cardinality()) < 1:
        raise ValueError(
            "`data` must be a dataset that knows its number of batches: end it with `.take(batches)` or "
            f"`.apply(tf.data.experimental.assert_cardinality(batches))`. Received: {data!r}"
        )
    return untuned(data)


def train_wrapped(
    model: keras.Model,
    wrap: Callable[[Any], Any],
    data: Any,
    *,
    epochs: int,
    learning_rate: float,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Model, function that wraps a layer, batches -> trained twin with wrapped convolutions and dense layers.

    Raises:
        ValueError: `epochs` is below 1, or the loss is no longer finite.
    """
    if epochs < 1:
        raise ValueError(f"`epochs` must be at least 1. Received: epochs={epochs!r}")
    legacy = legacy_packages().keras
    kernels = (legacy.layers.Conv2D, legacy.layers.Dense)
    twin = legacy.models.clone_model(
        legacy_twin(model), clone_function=lambda layer: wrap(layer) if isinstance(layer, kernels) else layer
    )
    twin.compile(
        legacy.optimizers.Adam(learning_rate),
        legacy.losses.SparseCategoricalCrossentropy(from_logits=ends_in_logits(model)),
        metrics=["accuracy"],
    )
    losses = twin.fit(data, epochs=epochs, callbacks=list(callbacks)).history["loss"]
    if not np.isfinite(losses).all():
        raise ValueError(
            f"the loss must stay finite: lower `learning_rate`. Received: {learning_rate}, losses {losses}"
        )
    return twin


def _twin_layer(operation: Any, legacy: Any) -> Any:
    kind = type(operation).__name__
    if kind not in _TWINS or type(operation).__module__.split(".")[0] != "keras":
        raise ValueError(
            f"`model` must be a flat network of the layers {', '.join(_TWINS)}. Received: {operation.name!r}, a {kind}"
        )
    if len(operation._inbound_nodes) != 1:
        raise ValueError(f"`model` must use each layer once. Received: {operation.name!r}, which is used several times")
    twin = getattr(legacy.layers, kind)
    arguments = inspect.signature(twin.__init__).parameters.keys() - {"self", "dtype", "kwargs"}
    config = {
        name: value
        for name, value in operation.get_config().items()
        if name in arguments and not name.endswith(("_initializer", "_regularizer", "_constraint"))
    }
    return twin(**{**config, "name": operation.name})


def _matched(source: dict[str, np.ndarray], target: dict[str, np.ndarray], layer: str) -> list[np.ndarray]:
    """Weights of a layer, weights of its twin -> weights of the layer in the order of the twin."""
    shapes = [{name: weight.shape for name, weight in weights.items()} for weights in (source, target)]
    if shapes[0] != shapes[1]:
        raise WeightsError(f"layer {layer!r} must have the weights {shapes[1]}. Received: {shapes[0]}")
    return [source[name] for name in target]
