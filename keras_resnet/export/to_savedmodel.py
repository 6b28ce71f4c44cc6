"""Prepared model -> SavedModel with one copy of the weights."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.export.formats import INPUT_NAME, OUTPUT_NAME


def to_savedmodel(model: keras.Model, folder: Path) -> None:
    """Prepared model -> SavedModel `folder` with the signature `serving_default`: image -> probabilities, any batch."""
    write_savedmodel(model, folder, batch_size=None)


def write_savedmodel(model: keras.Model, folder: Path, batch_size: int | None) -> None:
    """Prepared model -> SavedModel `folder`; the TFLite converter reads one of batch size 1."""
    serving = _Serving(model, batch_size)
    tf.saved_model.save(serving, str(folder), signatures={"serving_default": serving.serve})


def serving_function(model: keras.Model, batch_size: int | None) -> Any:
    """Prepared model -> `tf.function` with the names and shapes of the contract."""
    shape = (batch_size, *model.inputs[0].shape[1:])
    return tf.function(
        lambda image: {OUTPUT_NAME: model(image, training=False)},
        input_signature=[tf.TensorSpec(shape, tf.float32, name=INPUT_NAME)],
    )


class _Serving(tf.Module):
    """Holds the raw variables and not the Keras model.

    A tracked Keras model writes every weight twice, and the TFLite converter then loses them all without a warning.
    """

    def __init__(self, model: keras.Model, batch_size: int | None):
        super().__init__()
        self.weights = [variable.value for variable in model.variables]
        self.serve = serving_function(model, batch_size)
