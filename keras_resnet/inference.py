"""Keras model, pixels -> its answers, one batch after the other, without a tf.data pipeline.

`Model.predict` makes a pipeline of an array and, after the last batch, waits for the thread that tunes the pipeline. In
the worst case, the wait is as long as the prediction itself (docs/train.md, "No epoch waits").
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_resnet.answers import PROBABILITIES


def predict(model: Any, pixels: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Keras model with one output, pixels `[N, H, W, C]` -> answers `[N, ...]`, equal to `model.predict`."""
    return np.concatenate(list(batches(model, pixels, batch_size)))


def answer(model: Any, pixels: np.ndarray, batch_size: int = 32, name: str = PROBABILITIES) -> dict[str, np.ndarray]:
    """Keras model, pixels `[N, H, W, C]` -> answers by name: its dict, or its only output by `name`."""
    parts = list(batches(model, pixels, batch_size))
    if isinstance(parts[0], dict):
        return {each: np.concatenate([part[each] for part in parts]) for each in parts[0]}
    return {name: np.concatenate(parts)}


def batches(model: Any, pixels: np.ndarray, batch_size: int) -> Iterator[Any]:
    """Keras model, pixels `[N, H, W, C]` -> its answers to each batch, in the structure of its outputs."""
    trace(model, pixels.dtype.name)
    for start in range(0, len(pixels), batch_size):
        yield model.predict_on_batch(pixels[start : start + batch_size])


def trace(model: Any, dtype: str) -> None:
    """On TensorFlow, traces the model for batches of any size and pixels of this type, unless it was traced before.

    Keras itself would trace the model for the first batch size, and again for any size at a second batch size.
    """
    import keras

    if keras.backend.backend() != "tensorflow" or model.predict_function is not None or model.run_eagerly:
        return
    import tensorflow as tf

    from keras_resnet.detection_layers.roi_align import roi_align_in_xla

    model.make_predict_function()
    function: Any = model.predict_function
    with roi_align_in_xla():
        function.get_concrete_function([(tf.TensorSpec(model.inputs[0].shape, dtype),)])
