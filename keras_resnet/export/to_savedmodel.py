"""Folded model -> SavedModel with one copy of the weights and several signatures."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import keras
import tensorflow as tf

from keras_resnet import layer_names
from keras_resnet.answers import DEFAULT_SIGNATURE, FILES_SIGNATURE, IMAGE, PIXELS_SIGNATURE, PROBABILITIES
from keras_resnet.backbone import level_outputs
from keras_resnet.export.description import asset_files
from keras_resnet.export.encoded_images import BYTES_SPEC, decode
from keras_resnet.export.job import Job
from keras_resnet.export.objects_in_files import objects_function
from keras_resnet.tasks.base import Task
from keras_resnet.variants import Contract, InputContract, WholeImage

TOP = 5


def to_savedmodel(job: Job, folder: Path) -> None:
    """Folded model -> SavedModel `folder`, any batch.

    Signatures: `serving_default` (pixels float32 -> probabilities), `features` (pixels -> C2 to C5 and the pooled
    `embedding`) and, where image files can become the model's pixels, `serve_jpeg` (encoded JPEG or PNG `[N]` ->
    probabilities, the five most probable classes and their labels). The function `serve` takes uint8 pixels too. A
    detector's file has its outputs instead of probabilities, and `serve_jpeg` gives boxes in pixels of the image file.
    With the default signature `jpeg`, `serving_default` is `serve_jpeg`, and `serve_pixels` takes the pixels.
    """
    with TemporaryDirectory(dir=job.scratch) as assets:
        model = job.finished(job.model)
        name = job.row.output.name
        module = _Serving(model, name)
        module.assets = [tf.saved_model.Asset(str(path)) for path in asset_files(Path(assets), job.description)]
        for dtype in (tf.float32, tf.uint8):
            module.serve.get_concrete_function(tf.TensorSpec((None, *job.model.inputs[0].shape[1:]), dtype, name=IMAGE))
        pixels = serving_function(model, name, None)
        signatures = {DEFAULT_SIGNATURE: pixels, "features": _features_function(job.model)}
        served = served_from_files(job.task, job.model, job.contract)
        if served == "objects":
            signatures[FILES_SIGNATURE] = objects_function(job.model, cast(WholeImage, job.contract))
        elif served == "classes":
            classes = job.model.outputs[0].shape[-1]
            names = job.class_names or [f"class {index}" for index in range(classes)]
            signatures[FILES_SIGNATURE] = _encoded_function(job.model, cast(InputContract, job.contract), names)
        if job.row.default_signature == "jpeg":
            signatures |= {DEFAULT_SIGNATURE: signatures[FILES_SIGNATURE], PIXELS_SIGNATURE: pixels}
        tf.saved_model.save(module, str(folder), signatures=signatures)


def served_from_files(task: Task, model: keras.Model, contract: Contract | None) -> str | None:
    """-> what the signature `serve_jpeg` gives, as `Task.served_from_files` names it; None: there is none."""
    return task.served_from_files(model) if contract is not None and model.inputs[0].shape[-1] == 3 else None


def write_savedmodel(
    model: keras.Model, folder: Path, batch_size: int | None, output_name: str = PROBABILITIES
) -> None:
    """Model -> SavedModel `folder` with only `serving_default`. The TFLite converter needs batch size 1."""
    signatures = {DEFAULT_SIGNATURE: serving_function(model, output_name, batch_size)}
    tf.saved_model.save(_Serving(model, output_name), str(folder), signatures=signatures)


def serving_function(model: keras.Model, output_name: str, batch_size: int | None) -> Any:
    """Model, name of its output if it has only one -> `tf.function` with the names and shapes of the contract."""
    shape = (batch_size, *model.inputs[0].shape[1:])
    return tf.function(
        lambda image: _by_name(model(image, training=False), output_name),
        input_signature=[tf.TensorSpec(shape, tf.float32, name=IMAGE)],
    )


class _Serving(tf.Module):
    """Holds the raw variables instead of the Keras model.

    A tracked Keras model writes every weight twice, and the TFLite converter then loses them all without a warning.
    """

    assets: list[Any]

    def __init__(self, model: keras.Model, output_name: str):
        super().__init__()
        self.weights = [variable.value for variable in model.variables]
        self.serve = tf.function(lambda image: _by_name(model(tf.cast(image, tf.float32), training=False), output_name))


def _by_name(answer: Any, output_name: str) -> dict[str, Any]:
    """Answer of a Keras model -> tensors by the names of the file's outputs."""
    return answer if isinstance(answer, dict) else {output_name: answer}


def feature_outputs(model: keras.Model) -> dict[str, Any]:
    """Folded model -> the last output of each stage, by its level, and the pooled `embedding` `[N, channels]`."""
    pooled = [layer.output for layer in model.layers if layer.name == layer_names.POOL]
    return {**level_outputs(model), **({"embedding": pooled[0]} if pooled else {})}


def _features_function(model: keras.Model) -> Any:
    """-> `tf.function`: pixels `[N, H, W, C]` -> `feature_outputs`."""
    features = keras.Model(model.input, feature_outputs(model))
    return tf.function(
        lambda image: features(image, training=False),
        input_signature=[tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32, name=IMAGE)],
    )


def _encoded_function(model: keras.Model, contract: InputContract, class_names: Sequence[str]) -> Any:
    """-> `tf.function`: encoded images, strings `[N]` -> probabilities, top indices and labels."""
    names = tf.constant(list(class_names))
    top = min(TOP, len(class_names))

    def serve(image_bytes: Any) -> dict[str, Any]:
        spec = tf.TensorSpec((contract.size, contract.size, 3), tf.float32)
        pixels = tf.map_fn(lambda encoded: decode(encoded, contract), image_bytes, fn_output_signature=spec)
        probabilities = model(pixels, training=False)
        indices = tf.math.top_k(probabilities, top).indices
        return {PROBABILITIES: probabilities, "indices": indices, "labels": tf.gather(names, indices)}

    return tf.function(serve, input_signature=[BYTES_SPEC])
