"""Trained model -> model for export: float32, inference, pixels -> probabilities."""

from typing import Any

import keras
import numpy as np

from keras_resnet import inference
from keras_resnet.answers import IMAGE
from keras_resnet.errors import ArgumentError, ExportError
from keras_resnet.facts import carry, facts_of, state
from keras_resnet.graph import call_as_before, clone, flatten
from keras_resnet.tasks import checked_task_of, contract_of
from keras_resnet.tasks.interpret import interpret
from keras_resnet.variants import Contract, InputContract


def prepare(model: keras.Model, contract: Contract | None = None, any_size: bool = False) -> keras.Model:
    """Network of any dtype policy -> its flat copy in float32: `image` `[N, H, W, C]` -> `[N, classes]`,
    `[N, H, W, classes]`, or the dict of a network of several outputs.

    A mixed-precision model would be exported with 16-bit operations that TFLite and ONNX Runtime can't run; its
    variables are already float32. Logits get their task's activation, so that every artifact gives probabilities. If
    height or width of the model are free, the contract sets them; with `any_size`, both stay free.

    Raises:
        ExportError: The model can't be exported (see `checked`), or neither model nor contract set the image size.
    """
    model = checked(model)
    given = (contract or contract_of(model) or InputContract()).sides
    height, width, channels = model.inputs[0].shape[1:]
    sides = (None, None) if any_size else (height or given[0], width or given[1])
    if None in sides and not any_size:
        raise ExportError(
            f"{model.name!r} takes images of any size: give the height and width for the file, a contract "
            "WholeImage(height, width) (--image-size), at which it is also verified"
        )
    image = keras.Input((*sides, channels), dtype="float32", name=IMAGE)
    names = {layer.name for layer in model.layers}
    float32 = clone(model, _in_float32, call_as_before, names, input_tensors=image)
    float32.set_weights(model.get_weights())
    answers = float32.outputs[0] if len(float32.outputs) == 1 else float32.output
    if facts_of(model).output_kind == "logits":
        answers = keras.layers.Activation(checked_task_of(model).activation, dtype="float32")(answers)
    prepared = keras.Model(image, answers, name=model.name)
    carry(model, prepared)
    if facts_of(model).output_kind == "logits":
        state(prepared, output_kind="probabilities")
    return prepared


def check_prepared(model: keras.Model, prepared: keras.Model, images: np.ndarray, kind: str | None = None) -> None:
    """Compares the prepared model with the model that the user gave, on pixels `[N, H, W, C]`.

    `kind` is the kind of the user's output; by default it is read from the model.

    Raises:
        ExportError: The answers differ by more than the source's precision, are not finite, or were stated to be
            probabilities and are none.
    """
    pixels, task = images.astype("float32"), checked_task_of(prepared)
    if task.built_here_alone:  # all its layers are known
        return
    source = np.asarray(keras.ops.cast(model(pixels, training=False), "float32"))  # `predict` would compile first
    answers = inference.predict(prepared, images)
    is_binary = source.shape[-1] != answers.shape[-1]
    if (kind or facts_of(interpret(model)).output_kind) == "logits":
        source = np.asarray(keras.activations.get("sigmoid" if is_binary else task.activation)(source))
    if is_binary:
        source = np.concatenate([1 - source, source], axis=-1)
    if not np.isfinite(answers).all():
        raise ExportError(f"`model` must give finite answers. Received: {model.name!r}, which gives NaN or infinity")
    if task.bounded and (answers.min() < -1e-6 or answers.max() > 1 + 1e-6):
        raise ExportError(
            f"`model` must give probabilities, as was stated about it. Received: {model.name!r}, whose answers reach "
            f"from {answers.min():.4g} to {answers.max():.4g}. Name the kind of its output: `output_kind` "
            "(--output-kind)"
        )
    error = float(np.max(np.abs(answers - source))) / (1 if task.bounded else float(np.max(np.abs(source))) or 1)
    # 16-bit activations keep 8 (bfloat16) or 11 (float16) bits of each value.
    tolerance = 1e-5 if all(layer.compute_dtype == "float32" for layer in flatten(model).layers) else 0.2
    if not error <= tolerance:
        raise ExportError(
            f"model {model.name!r} and its copy in float32 differ by {error:.2g} in an answer, but at "
            f"most {tolerance:g} is allowed: one of its layers does not keep its state in its weights"
        )


def checked(model: Any, task: str | None = None, output_kind: str | None = None) -> keras.Model:
    """Keras model, what is stated about it -> its flat form with stated task and output kind; see `interpret`.

    Raises:
        ExportError: The model can't be interpreted, has several inputs, or has weights that are not finite.
    """
    try:
        model = interpret(model, task, output_kind)
    except ArgumentError as error:
        raise ExportError(*error.args) from error
    if len(model.inputs) != 1:
        names = ", ".join(tensor.name for tensor in model.inputs)
        raise ExportError(
            f"`model` must have one input, the image. Received: {model.name!r}, whose inputs are {names}. A detector "
            "for images of several sizes can't be exported: build it with image_sizes=False, and give it the weights"
        )
    # The integer converter aborts the whole process on a NaN.
    broken = [v.path for v in model.variables if not np.isfinite(keras.ops.convert_to_numpy(v).astype("float32")).all()]
    if broken:
        raise ExportError(
            f"`model` must have finite weights: {model.name!r} has NaN or infinity in {len(broken)} of "
            f"{len(model.variables)}, first {', '.join(broken[:3])}. Its training has diverged"
        )
    return model


def _in_float32(operation: Any) -> Any:
    """Layer -> its copy in float32. An operation of `keras.ops` has no dtype and is returned unchanged."""
    config = operation.get_config()
    if isinstance(operation, keras.layers.Layer):
        config["dtype"] = "float32"
    return operation.__class__.from_config(config)
