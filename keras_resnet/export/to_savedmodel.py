"""Folded model -> SavedModel with one copy of the weights and three signatures."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import keras
import tensorflow as tf

from keras_resnet import layer_names
from keras_resnet.answers import IMAGE, PROBABILITIES
from keras_resnet.backbone import level_outputs
from keras_resnet.export.description import asset_files
from keras_resnet.export.job import Job
from keras_resnet.tasks.base import Task
from keras_resnet.variants import Contract, InputContract

TOP = 5


def to_savedmodel(job: Job, folder: Path) -> None:
    """Folded model -> SavedModel `folder`, any batch.

    Signatures: `serving_default` (pixels float32 -> probabilities), `features` (pixels -> C2 to C5 and the pooled
    `embedding`) and, where image files can become the model's pixels, `serve_jpeg` (encoded JPEG or PNG `[N]` ->
    probabilities, the five most probable classes and their labels). The function `serve` takes uint8 pixels too. A
    detector's file has its outputs instead of probabilities.
    """
    with TemporaryDirectory(dir=job.scratch) as assets:
        model = job.finished(job.model)
        name = job.row.output.name
        module = _Serving(model, name)
        module.assets = [tf.saved_model.Asset(str(path)) for path in asset_files(Path(assets), job.description)]
        for dtype in (tf.float32, tf.uint8):
            module.serve.get_concrete_function(tf.TensorSpec((None, *job.model.inputs[0].shape[1:]), dtype, name=IMAGE))
        signatures = {
            "serving_default": serving_function(model, name, None),
            "features": _features_function(job.model),
        }
        if takes_image_files(job.task, job.model, job.contract):
            classes = job.model.outputs[0].shape[-1]
            names = job.class_names or [f"class {index}" for index in range(classes)]
            signatures["serve_jpeg"] = _encoded_function(job.model, cast(InputContract, job.contract), names)
        tf.saved_model.save(module, str(folder), signatures=signatures)


def takes_image_files(task: Task, model: keras.Model, contract: Contract | None) -> bool:
    """-> whether the SavedModel has the signature `serve_jpeg`."""
    return task.single_answer and contract is not None and model.inputs[0].shape[-1] == 3


def write_savedmodel(
    model: keras.Model, folder: Path, batch_size: int | None, output_name: str = PROBABILITIES
) -> None:
    """Model -> SavedModel `folder` with only `serving_default`. The TFLite converter needs batch size 1."""
    signatures = {"serving_default": serving_function(model, output_name, batch_size)}
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

    return tf.function(serve, input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])


def decode(encoded: Any, contract: InputContract) -> Any:
    """Encoded image -> pixels float32 `[size, size, 3]`, like `preprocessing.load_image`.

    TensorFlow has no reader of EXIF orientation, and its resize differs from Pillow's by at most a few grey levels.
    """
    is_jpeg, is_png = tf.io.is_jpeg(encoded), tf.strings.substr(encoded, 0, 4) == b"\x89PNG"
    message = "image_bytes must hold complete JPEG or PNG files. Received: bytes of another format"
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg | is_png, [message])]):
        image = tf.cond(
            is_jpeg,
            lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
            lambda: _over_white(tf.io.decode_png(encoded, channels=4)),
        )
    size = tf.cast(tf.shape(image)[:2], tf.float64)
    resized = tf.cast(contract.resize * size / tf.reduce_min(size), tf.int32)  # truncates, as torchvision does
    image = tf.image.resize(image, resized, contract.interpolation, antialias=True)
    corner = tf.cast(tf.round((resized - contract.size) / 2), tf.int32)  # rounds half to even
    image = tf.image.crop_to_bounding_box(image, corner[0], corner[1], contract.size, contract.size)
    return tf.clip_by_value(tf.round(image), 0, 255)


def _over_white(image: Any) -> Any:
    """uint8 RGBA `[H, W, 4]` -> uint8 RGB `[H, W, 3]`."""
    colour, alpha = tf.cast(image[..., :3], tf.float32), tf.cast(image[..., 3:], tf.float32) / 255
    return tf.cast(tf.round(colour * alpha + 255 * (1 - alpha)), tf.uint8)
