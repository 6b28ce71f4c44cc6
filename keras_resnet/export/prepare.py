"""Trained model -> model for export: float32, inference, pixels -> probabilities."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_resnet import layer_names
from keras_resnet.answers import IMAGE
from keras_resnet.errors import ExportError
from keras_resnet.facts import carry
from keras_resnet.heads.logits import ends_in_logits
from keras_resnet.tasks import checked_task_of, contract_of, task_of
from keras_resnet.variants import Contract, InputContract


def prepare(model: keras.Model, contract: Contract | None = None, any_size: bool = False) -> keras.Model:
    """Network of any dtype policy -> its copy in float32: `image` `[N, H, W, C]` -> `[N, classes]`, or
    `[N, H, W, classes]`.

    A mixed-precision model would be exported with 16-bit operations that TFLite and ONNX Runtime can't run; its
    variables are already float32. Logits get their task's activation, so that every artifact gives probabilities. If
    height or width of the model are free, the contract sets them; with `any_size`, both stay free.

    Raises:
        ExportError: The model is not a network of this package, has no preprocessing layer, or neither model nor
            contract set the image size.
    """
    check_exportable(model)
    given = (contract or contract_of(model) or InputContract()).sides
    height, width, channels = model.inputs[0].shape[1:]
    sides = (None, None) if any_size else (height or given[0], width or given[1])
    if None in sides and not any_size:
        raise ExportError(
            f"{model.name!r} takes images of any size: give the height and width for the file, a contract "
            "WholeImage(height, width) (--image-size), at which it is also verified"
        )
    image = keras.Input((*sides, channels), dtype="float32", name=IMAGE)
    float32 = keras.models.clone_model(model, input_tensors=image, clone_function=_in_float32, recursive=True)
    float32.set_weights(model.get_weights())
    probabilities = float32.outputs[0]
    if ends_in_logits(model):
        probabilities = keras.layers.Activation(checked_task_of(model).activation, dtype="float32")(probabilities)
    prepared = keras.Model(image, probabilities, name=model.name)
    carry(model, prepared)
    return prepared


def check_prepared(model: keras.Model, prepared: keras.Model, images: np.ndarray) -> None:
    """Compares the prepared model with its source on pixels `[N, H, W, C]`, and checks that it gives probabilities.

    Raises:
        ExportError: The answers differ by more than the source's precision, or a value lies outside 0..1.
    """
    pixels = images.astype("float32")
    source = np.asarray(keras.ops.cast(model(pixels, training=False), "float32"))  # `predict` would compile first
    if ends_in_logits(model):
        source = np.asarray(keras.activations.get(checked_task_of(model).activation)(source))
    answers = np.asarray(prepared(pixels, training=False))
    if not (np.isfinite(answers).all() and answers.min() >= -1e-6 and answers.max() <= 1 + 1e-6):
        raise ExportError(
            f"`model` must end in logits (a dense layer without activation), a softmax or a sigmoid. Received: "
            f"{model.name!r}, whose outputs are no probabilities: {answers.min():.4g} to {answers.max():.4g}"
        )
    error = float(np.max(np.abs(answers - source)))
    # 16-bit activations keep 8 (bfloat16) or 11 (float16) bits of each value.
    tolerance = 1e-5 if all(layer.compute_dtype == "float32" for layer in _layers(model)) else 0.2
    if not error <= tolerance:
        raise ExportError(
            f"model {model.name!r} and its copy in float32 differ by {error:.2g} in a probability, but at "
            f"most {tolerance:g} is allowed: one of its layers does not keep its state in its weights"
        )


def check_exportable(model: Any) -> None:
    """Raises `ExportError` unless the model is a trained network that has a task and takes pixels."""
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ExportError(f"`model` must be a built functional Keras model. Received: {model!r}")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ExportError(
            f"`model` must have one input and one output. Received: {model.name!r} with {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs"
        )
    if task_of(model) is None:
        raise ExportError(
            "`model` must map images [N, H, W, C] to classes [N, classes], or to classes of every pixel "
            "[N, H, W, classes]: build it with include_top=True. "
            f"Received: {model.name!r}, {model.inputs[0].shape} -> {model.outputs[0].shape}"
        )
    if layer_names.PREPROCESSING not in [layer.name for layer in _layers(model)]:
        raise ExportError(
            f"`model` must take raw pixels 0..255: {model.name!r} has no 'preprocessing' layer. Build it with "
            "include_preprocessing=True and load its weights by path"
        )
    # The integer converter aborts the whole process on a NaN.
    broken = [v.path for v in model.variables if not np.isfinite(keras.ops.convert_to_numpy(v).astype("float32")).all()]
    if broken:
        raise ExportError(
            f"`model` must have finite weights: {model.name!r} has NaN or infinity in {len(broken)} of "
            f"{len(model.variables)}, first {', '.join(broken[:3])}. Its training has diverged"
        )


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """-> all layers of the model, including layers of models inside it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _in_float32(operation: Any) -> Any:
    """Layer -> its copy in float32. An operation of `keras.ops` has no dtype and is returned unchanged."""
    config = operation.get_config()
    if isinstance(operation, keras.layers.Layer):
        config["dtype"] = "float32"
    return operation.__class__.from_config(config)
