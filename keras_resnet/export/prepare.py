"""Trained model -> the model that is exported: float32, inference, pixels in, probabilities out."""

from typing import Any

import keras
import numpy as np

from keras_resnet.errors import ExportError
from keras_resnet.export.formats import INPUT_NAME, OUTPUT_NAME


def prepare(model: keras.Model) -> keras.Model:
    """Classifier of any dtype policy -> the same classifier in float32: `image` `[N, H, W, C]` -> `[N, classes]`.

    A mixed-precision model would export as 16-bit operations that TFLite and ONNX Runtime can't run; its variables are
    float32 already. Logits get a softmax, so that every artifact gives probabilities.

    Raises:
        ExportError: The model is not a classifier of this package's kind, or has no preprocessing layer.
    """
    _check(model)
    [source_input] = model.inputs
    image = keras.Input(source_input.shape[1:], dtype="float32", name=INPUT_NAME)
    float32 = keras.models.clone_model(model, input_tensors=image, clone_function=_float32_layer)
    float32.set_weights(model.get_weights())
    probabilities = float32.outputs[0]
    if _gives_logits(model):
        probabilities = keras.layers.Softmax(name=OUTPUT_NAME)(probabilities)
    return keras.Model(float32.input, probabilities, name=model.name)


def check_prepared(model: keras.Model, prepared: keras.Model, images: np.ndarray) -> None:
    """Compares the prepared model with its source on pixels `[N, H, W, C]`.

    Raises:
        ExportError: They differ by more than the source's own precision.
    """
    source = np.asarray(model.predict(images, verbose=0), dtype="float32")
    if _gives_logits(model):
        source = np.asarray(keras.ops.convert_to_numpy(keras.ops.softmax(source)))
    answers = prepared.predict(images, verbose=0)
    error = float(np.max(np.abs(answers - source)) / np.max(np.abs(source)))
    # 16-bit activations keep 8 (bfloat16) or 11 (float16) bits of each value.
    tolerance = 1e-5 if _is_float32(model) else 0.2
    if not error <= tolerance:
        raise ExportError(
            f"model {model.name!r} rebuilt in float32 differs from itself by a relative error of {error:.2g}, "
            f"where at most {tolerance:g} is allowed: a layer of it does not keep its state in its weights"
        )


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model) or not hasattr(model, "inputs") or not model.inputs:
        raise ExportError(f"`model` must be a built functional Keras model. Received: {model!r}")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ExportError(
            f"`model` must have one input and one output. Received: {model.name!r} with {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs"
        )
    if len(model.inputs[0].shape) != 4 or len(model.outputs[0].shape) != 2:
        raise ExportError(
            "`model` must map images [N, H, W, C] to classes [N, classes]: build it with include_top=True. "
            f"Received: {model.name!r}, {model.inputs[0].shape} -> {model.outputs[0].shape}"
        )
    if "preprocessing" not in [layer.name for layer in model.layers]:
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


def _gives_logits(model: keras.Model) -> bool:
    """Whether the last layer ends without a nonlinearity."""
    activation = getattr(model.layers[-1], "activation", None)
    return activation is not None and activation.__name__ == "linear"


def _is_float32(model: keras.Model) -> bool:
    return all(layer.compute_dtype == "float32" for layer in model.layers)


def _float32_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})
