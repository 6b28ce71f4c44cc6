"""What a writer is given: the model as it is deployed, and what was chosen for its file."""

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
    """`[N, H, W, classes]` -> the class of the largest, uint8 `[N, H, W]`."""

    def call(self, inputs: Any) -> Any:
        # Not keras.ops.argmax, which looks at the bits of zeros: no converter has an operator for that.
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
    contract: Contract | None  # how image files become its pixels
    class_names: Sequence[str] | None
    description: dict[str, Any]  # what the file says about itself
    scratch: Path  # folder for what the writer needs on the way
    calibration: np.ndarray | None = None  # uint8 `[N, H, W, C]`
    quantize: Callable[[int], Quantized] | None = None  # steps of a kernel on either side of zero -> what int8 needs

    def finished(self, model: keras.Model) -> keras.Model:
        """Model in the state in which the file is written -> the same with the file's output.

        The class of each pixel is that of the largest logit: the file does without the softmax.
        """
        if not self.row.output.decides:
            return model
        last = model.outputs[0]._keras_history.operation
        scores = last.input if is_softmax(last) else model.outputs[0]
        return keras.Model(model.inputs, ArgMax(name=self.row.output.name)(scores), name=model.name)

    def quantized(self, weight_steps: int = 127) -> Quantized:
        """-> rounded kernels and ranges; formats of one export share them."""
        if self.quantize is None:
            raise ValueError(f"{self.row.name} is not written from a quantized model")
        return self.quantize(weight_steps)
