"""Pixels -> the values that enter a model's first convolution: how a model normalises its pixels."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from keras_resnet.errors import ArgumentError
from keras_resnet.graph import consumers

# Operations that move, cut or choose pixels. All others compute values from them.
_MOVES: Any = (
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.CenterCrop,
    layers.RandomCrop,
    layers.Resizing,
    layers.Dropout,
    layers.Reshape,
    layers.Flatten,
    layers.Permute,
    layers.Identity,
)
_MOVING_OPERATIONS = ("GetItem", "Flip", "Transpose", "Pad", "Reshape", "Cast", "Stack", "ConvertToTensor", "Identity")
_KERNELS: Any = (
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
    layers.Dense,
    layers.EinsumDense,
)
MOST_TIMES = 40  # a forgotten division by 255 or by ImageNet's deviation makes values at least 58 times too large
SMALL_ERROR = 1e-4  # share of the largest value


class PixelMap(NamedTuple):
    """An affine function of each pixel by itself: `matrix @ pixel + offset`."""

    last: Any  # operation that yields the normalised pixels
    matrix: np.ndarray  # `[channels, channels]`
    offset: np.ndarray  # `[channels]`


def first_kernel(model: keras.Model) -> Any:
    """Flat functional model -> its first layer with a kernel, such as the stem's convolution; None: it has none."""
    return next((op for op in model.operations if isinstance(op, _KERNELS)), None)


def pixel_map(model: keras.Model) -> PixelMap | None:
    """Flat functional model -> what it computes from pixels before its first convolution.

    None: it computes nothing, or values that depend on more than one pixel.
    """
    end = _normalised(model)
    if end is None or isinstance(end._keras_history.operation, layers.InputLayer):
        return None
    last, channels = end._keras_history.operation, model.inputs[0].shape[-1]
    if isinstance(last, layers.Rescaling) and isinstance(last.input._keras_history.operation, layers.InputLayer):
        scale, offset = (np.broadcast_to(np.asarray(v, "float64"), channels) for v in (last.scale, last.offset))
        return PixelMap(last, np.diag(scale), offset)
    view = keras.Model(model.inputs[0], end)
    sides = [side or 8 for side in model.inputs[0].shape[1:3]]
    noise = np.random.default_rng(0).integers(0, 256, (2, *sides, channels)).astype("float32")
    units = np.concatenate([np.zeros((1, channels)), 128 * np.eye(channels)]).astype("float32")
    answers = keras.ops.convert_to_numpy(view(np.broadcast_to(units[:, None, None], (len(units), *sides, channels))))
    answers = answers[:, 0, 0].astype("float64")
    offset, matrix = answers[0], (answers[1:] - answers[0]).T / 128
    measured = keras.ops.convert_to_numpy(view(noise)).astype("float64")
    if measured.shape != (2, *sides, len(offset)) or matrix.shape != (channels, channels):
        return None
    error = np.abs(noise @ matrix.T + offset - measured).max()
    fits = error <= SMALL_ERROR * np.abs(measured).max() and np.linalg.matrix_rank(matrix) == channels
    return PixelMap(last, matrix, offset) if fits else None


def check_normalises(model: keras.Model, name: str) -> None:
    """Checks that a flat functional model computes something on its pixels before its first convolution.

    Raises:
        ArgumentError: It computes nothing; the message has the lines that put the normalisation inside.
    """
    kernel = first_kernel(model)
    if kernel is None:
        return
    if not any(_computes(op) for op in _before(model, kernel)):
        raise ArgumentError(
            f"{name} must take raw pixels 0..255, but it computes nothing on its input before the layer "
            f"{kernel.name!r}. {_CURE}",
            f"    image = keras.Input({tuple(model.inputs[0].shape[1:])})",
            *_CURE_LINES,
        )


def doubt_about_scale(model: keras.Model) -> str | None:
    """Flat functional model -> a sentence, if its first BatchNorm has seen values of another scale in training.

    This is no proof that a wrong normalisation is inside: the statistics of a network that was never trained can have
    any scale.
    """
    kernel = first_kernel(model)
    times = None if kernel is None else _times_larger(model, kernel)
    if times is None or 1 / MOST_TIMES < times < MOST_TIMES:
        return None
    found = f"{times:.0f} times as large as what" if times > 1 else f"{1 / times:.0f} times smaller than what"
    return (
        f"on pixels 0..255, the values behind the layer {kernel.name!r} are {found} its BatchNorm has seen in "
        "training; check that the normalisation of its training is inside the model, and only once"
    )


_CURE = (
    "Put the normalisation of its training inside, in three lines (Rescaling(1.0) if it was trained on raw pixels; "
    "for keras.applications, its preprocess_input instead of Rescaling):"
)
_CURE_LINES = (
    "    outputs = model(keras.layers.Rescaling(1 / 255)(image))",
    '    keras.Model(image, outputs).save("with_normalisation.keras")',
)


def _normalised(model: keras.Model) -> Any:
    """-> tensor of the normalised pixels, before any padding; None: the model has no layer with a kernel."""
    kernel = first_kernel(model)
    if kernel is None or not isinstance(kernel.input, keras.KerasTensor):
        return None
    tensor = kernel.input
    while isinstance(tensor._keras_history.operation, layers.ZeroPadding2D):
        tensor = tensor._keras_history.operation.input
    return tensor


def _before(model: keras.Model, kernel: Any) -> list[Any]:
    """-> operations between the image and a layer."""
    found: list[Any] = []
    waiting = list(keras.tree.flatten(kernel.input))
    while waiting:
        operation = waiting.pop()._keras_history.operation
        if not isinstance(operation, layers.InputLayer) and operation not in found:
            found.append(operation)
            waiting += keras.tree.flatten(operation.input)
    return found


def _computes(op: Any) -> bool:
    return not isinstance(op, _MOVES) and type(op).__name__ not in _MOVING_OPERATIONS


def _times_larger(model: keras.Model, kernel: Any) -> float | None:
    """-> deviation behind the first layer on pictures, divided by the deviation that its BatchNorm has seen.

    None: no BatchNorm follows, or it has never been trained.
    """
    following = consumers(model)[kernel.name]
    if len(following) != 1 or not isinstance(following[0], layers.BatchNormalization):
        return None
    norm = following[0]
    mean, variance = (keras.ops.convert_to_numpy(v) for v in (norm.moving_mean, norm.moving_variance))
    if not mean.any() and (variance == 1).all():
        return None
    height, width = (side or 64 for side in model.inputs[0].shape[1:3])
    coarse = np.random.default_rng(0).uniform(0, 255, (8, 6, 6, model.inputs[0].shape[-1]))
    pictures = keras.ops.clip(keras.ops.image.resize(coarse, (height, width), interpolation="bicubic"), 0, 255)
    values = keras.ops.convert_to_numpy(keras.Model(model.inputs[0], norm.input)(pictures))
    deviation = values.std(axis=tuple(range(values.ndim - 1)))
    return float(np.median(deviation / np.sqrt(variance + norm.epsilon)))
