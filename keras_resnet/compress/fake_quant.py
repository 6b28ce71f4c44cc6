"""Trainable layers that round values to 8-bit integers (Jacob et al. 2017, arXiv 1712.05877).

The TFLite converter and tf2onnx read the ranges of these layers and write integers. Weights are symmetric, -127 to 127;
activations have a zero point. Gradients pass straight through within the range.
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from keras.quantizers import fake_quant_with_min_max_vars

SMALLEST_RANGE = 1e-6  # range of a tensor of zeros
WEIGHT_STEPS = 127  # number of steps on either side of zero


@keras.saving.register_keras_serializable("keras_resnet")
class FakeQuantize(keras.layers.Layer):
    """Activations `[N, ...]` -> activations rounded to 256 steps from `minimum` to `maximum`.

    Without a given range, training tracks one: the first batch sets it, and each later batch moves it by
    `1 - momentum`, or only widens it if `momentum` is None.
    """

    keeps_logits = True  # see `graph.output_activation`

    def __init__(
        self, minimum: float | None = None, maximum: float | None = None, momentum: float | None = 0.99, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.given = None if minimum is None or maximum is None else (float(minimum), float(maximum))
        self.momentum = momentum

    def build(self, input_shape: Any) -> None:
        # Both are zero before the first batch.
        for name, value in zip(("minimum", "maximum"), self.given or (0.0, 0.0), strict=True):
            weight = self.add_weight(
                shape=(), initializer=keras.initializers.Constant(value), trainable=False, dtype="float32", name=name
            )
            setattr(self, name, weight)

    def call(self, inputs: Any, training: bool = False) -> Any:
        minimum, maximum = ops.convert_to_tensor(self.minimum), ops.convert_to_tensor(self.maximum)
        if training and self.given is None:
            values = ops.cast(ops.stop_gradient(inputs), "float32")
            # The range includes zero, so that padding and the output of ReLU are exact.
            low, high = ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), SMALLEST_RANGE)
            if self.momentum is None:
                minimum, maximum = ops.minimum(minimum, low), ops.maximum(maximum, high)
            else:
                step = ops.where(ops.equal(minimum, maximum), 1.0, 1.0 - self.momentum)
                minimum, maximum = minimum + step * (low - minimum), maximum + step * (high - maximum)
            self.minimum.assign(minimum)
            self.maximum.assign(maximum)
        return ops.cast(fake_quant_with_min_max_vars(inputs, minimum, maximum), inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        minimum, maximum = self.given or (None, None)
        return {**super().get_config(), "minimum": minimum, "maximum": maximum, "momentum": self.momentum}


@keras.saving.register_keras_serializable("keras_resnet")
class FakeQuantizedConv2D(keras.layers.Conv2D):
    """Conv2D whose kernel is rounded to 8 bits, with one scale for each output channel.

    `input_scale` holds a factor for each input channel that the export folds into the kernel (1 / (255 std) of the
    normalisation). The kernel is rounded after multiplication with these factors, as in the integer file.
    """

    def __init__(self, *args: Any, input_scale: list[float] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.input_scale = input_scale

    def rounded_kernel(self) -> Any:
        """-> kernel `[h, w, in, out]` as the integers will represent it."""
        scale = ops.ones((1,)) if self.input_scale is None else ops.convert_to_tensor(self.input_scale, "float32")
        kernel = ops.cast(self.kernel, "float32") * scale[:, None]
        limit = ops.maximum(ops.max(ops.abs(ops.stop_gradient(kernel)), axis=(0, 1, 2)), SMALLEST_RANGE**2)
        kernel = fake_quant_with_min_max_vars(kernel, -limit, limit, narrow_range=True, axis=-1)
        return kernel / scale[:, None]

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return super().convolution_op(inputs, ops.cast(self.rounded_kernel(), inputs.dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "input_scale": self.input_scale}


@keras.saving.register_keras_serializable("keras_resnet")
class FakeQuantizedDense(keras.layers.Dense):
    """Dense layer whose kernel is rounded to 8 bits with one scale; the converter refuses several."""

    def rounded_kernel(self) -> Any:
        """-> kernel `[in, out]` as the integers will represent it."""
        kernel = ops.cast(self.kernel, "float32")
        limit = ops.maximum(ops.max(ops.abs(ops.stop_gradient(kernel))), SMALLEST_RANGE**2)
        return fake_quant_with_min_max_vars(kernel, -limit, limit, narrow_range=True)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = ops.matmul(inputs, ops.cast(self.rounded_kernel(), inputs.dtype))
        if self.bias is not None:
            x = ops.add(x, ops.cast(self.bias, x.dtype))
        return x if self.activation is None else self.activation(x)


def grid_step(kernel: np.ndarray, steps: int = WEIGHT_STEPS) -> np.ndarray:
    """Kernel `[..., out]` -> step of a grid with `steps` on either side of zero, in a shape that fits the kernel.

    A convolution has a step for each output channel; a dense kernel `[in, out]` has one step.
    """
    axes = tuple(range(kernel.ndim - 1)) if kernel.ndim > 2 else None
    return np.maximum(np.abs(kernel).max(axis=axes, keepdims=True), SMALLEST_RANGE**2) / steps


def rounded(kernel: np.ndarray, steps: int = WEIGHT_STEPS) -> np.ndarray:
    """Kernel `[..., out]` -> kernel rounded to its grid (NumPy)."""
    step = grid_step(kernel, steps)
    return (np.round(kernel / step) * step).astype("float32")
