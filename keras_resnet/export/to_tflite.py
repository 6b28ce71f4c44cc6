"""Prepared model -> TFLite, in float32 or in integers alone."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.export.to_savedmodel import write_savedmodel


def to_tflite(model: keras.Model, path: Path) -> None:
    """Prepared model -> float32 TFLite file, batch 1: image float32 -> probabilities float32."""
    with tempfile.TemporaryDirectory() as folder:
        path.write_bytes(_converter(model, folder).convert())


def to_tflite_int8(model: keras.Model, path: Path, calibration: np.ndarray) -> None:
    """Prepared model, pixels uint8 `[N, H, W, C]` -> integer TFLite file, batch 1: uint8 pixels -> uint8 probabilities.

    Weights per channel, activations per tensor with the ranges (minimum and maximum) seen on the calibration images.
    The input's range is 0..255 whatever they hold, so that a byte of a picture is a byte of the input.
    """
    whole_range = calibration[:1].copy()
    whole_range[0, 0, 0], whole_range[0, 0, 1] = 0, 255
    calibration = np.concatenate([calibration, whole_range])
    with tempfile.TemporaryDirectory() as folder:
        converter = _converter(model, folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8
        path.write_bytes(converter.convert())


def _converter(model: keras.Model, folder: str) -> tf.lite.TFLiteConverter:
    """The route through a SavedModel of raw variables: it keeps the weights and gives the file a signature."""
    write_savedmodel(model, Path(folder), batch_size=1)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # a missing kernel is an error, not Flex
    return converter
