"""Keras model, pixels -> its answers, one batch after the other, without a tf.data pipeline.

`Model.predict` makes a pipeline of an array and, when the last batch is done, waits for the thread that tunes it: as
long, in the worst case, as the prediction itself took (docs/train.md, "No epoch waits").
"""

from typing import Any

import numpy as np

from keras_resnet.answers import PROBABILITIES


def predict(model: Any, pixels: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Keras model with one output, pixels `[N, H, W, C]` -> answers `[N, ...]`, those of `model.predict`."""
    trace(model, pixels.dtype.name)
    starts = range(0, len(pixels), batch_size)
    return np.concatenate([model.predict_on_batch(pixels[start : start + batch_size]) for start in starts])


def answer(model: Any, pixels: np.ndarray, batch_size: int = 32) -> dict[str, np.ndarray]:
    """As `predict`, of a model that gives probabilities -> its answer, by the name that an artifact's output has."""
    return {PROBABILITIES: predict(model, pixels, batch_size)}


def trace(model: Any, dtype: str) -> None:
    """Traces the model on TensorFlow, unless it has been, for batches of any size of pixels of that type.

    By itself, Keras would trace it for the first size that it sees, and for any size when it sees a second one.
    """
    import keras

    if keras.backend.backend() != "tensorflow" or model.predict_function is not None or model.run_eagerly:
        return
    import tensorflow as tf

    model.make_predict_function()
    function: Any = model.predict_function
    function.get_concrete_function([(tf.TensorSpec(model.inputs[0].shape, dtype),)])
