"""The job of a writer: the model to deploy, and the options of its file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.compress.rewrite import is_softmax
from keras_resnet.export.formats import Format, Options
from keras_resnet.export.quantize import Quantized
from keras_resnet.tasks.base import Task
from keras_resnet.variants import Contract


class ArgMax(keras.layers.Layer):
    """Scores `[N, H, W, classes]` -> class with the largest score, uint8 `[N, H, W]`."""

    def call(self, inputs: Any) -> Any:
        # keras.ops.argmax examines the sign bits of zeros, for which no converter has an operator.
        return tf.cast(tf.argmax(inputs, axis=-1, output_type=tf.int32), tf.uint8)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape[:-1], "uint8")


@dataclass(frozen=True)
class Job:
    """One file to write."""

    row: Format
    options: Options
    task: Task
    model: keras.Model  # folded
    contract: Contract | None  # way from image files to its pixels
    class_names: Sequence[str] | None
    description: dict[str, Any]  # description for the file
    scratch: Path  # folder for intermediate files
    calibration: np.ndarray | None = None  # uint8 `[N, H, W, C]`
    quantize: Callable[[int], Quantized] | None = None  # kernel steps on either side of zero -> quantized model

    def finished(self, model: keras.Model) -> keras.Model:
        """Model to write -> model with the output of the file.

        For `mask`, the class of a pixel is the class of the largest logit, so that the file needs no softmax.
        """
        if not self.row.output.decides:
            return model
        last = model.outputs[0]._keras_history.operation
        scores = last.input if is_softmax(last) else model.outputs[0]
        return keras.Model(model.inputs, ArgMax(name=self.row.output.name)(scores), name=model.name)

    def quantized(self, weight_steps: int = 127) -> Quantized:
        """-> rounded kernels and ranges, which the formats of one export share."""
        if self.quantize is None:
            raise ValueError(f"{self.row.name} can't be written from a quantized model")
        return self.quantize(weight_steps)
