"""Folded model, calibration images -> model with kernels rounded to the grid of 8-bit integers.

The values of a kernel are rounded one after the other, and later values compensate the error of each, as far as the
layer's inputs are correlated, as neighbouring pixels and channels are (Frantar et al. 2022, arXiv 2210.17323). The bias
then compensates the mean of the remaining error (Nagel et al. 2019, arXiv 1906.04721, section 4.2).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.lib.stride_tricks import sliding_window_view

from keras_resnet import inference
from keras_resnet.compress.fake_quant import grid_step, rounded
from keras_resnet.detection_layers.base import BoxLayer
from keras_resnet.export.images import batch_size, float_batches
from keras_resnet.graph import rebuild

POSITIONS = 256  # largest number of sampled positions in an image
BOXES = 16  # largest number of boxes of an image in whose parts of the maps a convolution's positions are sampled
MOST_VALUES = 8192  # moments of more inputs, as of a detector's first dense layer, would take minutes and gigabytes
SAMPLES_PER_VALUE = 8  # with fewer samples, corrections would overfit the calibration images
DAMPING = 0.01  # share of the mean square, which avoids a division by zero for inputs that are always zero
COLUMNS_AT_ONCE = 256  # columns whose products with themselves and later columns are computed together
ROWS_AT_ONCE = 128  # rows of a kernel that are given the errors of all earlier rows together


class _Inputs(NamedTuple):
    """Statistics over the calibration images of the inputs at one position of a layer's output, `[values]`."""

    mean: np.ndarray  # `[values]`
    moments: np.ndarray | None  # `[values, values]`, mean of products; None if there are too few samples


def with_rounded_kernels(model: keras.Model, images: np.ndarray, keep_float: Sequence[str], steps: int) -> keras.Model:
    """Folded model, uint8 `[N, H, W, C]`, integers on either side of zero -> model with rounded kernels."""
    kinds = (layers.Conv2D, layers.Dense)
    chosen = [
        layer
        for layer in model.layers
        if isinstance(layer, kinds) and layer.name not in keep_float and getattr(layer, "groups", 1) == 1
    ]
    weights = {}
    for layer, inputs in zip(chosen, _observe(model, chosen, images), strict=True):
        kernel, bias = layer.get_weights()
        after = rounded(kernel, steps) if inputs.moments is None else rounded_in_turn(kernel, inputs.moments, steps)
        loss = (after.astype("float64") - kernel).reshape(-1, kernel.shape[-1])
        weights[layer.name] = [after, bias - inputs.mean @ loss]
    return rebuild(model, weights=weights)


def batches_for(model: keras.Model, images: np.ndarray) -> Iterator[np.ndarray]:
    """Model, uint8 `[N, H, W, C]` -> batches whose inner values fit into memory: a detector has many boxes an image."""
    return float_batches(images, _batch_size(model, images))


def observed(
    model: keras.Model, tensors: Sequence[Any], images: np.ndarray
) -> Iterator[tuple[int, Sequence[np.ndarray]]]:
    """Model, some of its tensors, uint8 `[N, H, W, C]` -> number of images and these tensors' values, by batches.

    The graph is traced once. Without that, each operation would write its result to memory before the next reads it.
    """
    size = _batch_size(model, images)
    batches = inference.batches(keras.Model(model.input, list(tensors)), images, size)
    for start, values in zip(range(0, len(images), size), batches, strict=True):
        yield len(images[start : start + size]), values


def _batch_size(model: keras.Model, images: np.ndarray) -> int:
    return 1 if any(isinstance(layer, BoxLayer) for layer in model.layers) else batch_size(images)


def _observe(model: keras.Model, chosen: Sequence[layers.Layer], images: np.ndarray) -> list[_Inputs]:
    counts = [0] * len(chosen)
    sums: list[np.ndarray] = [np.zeros(_values(layer)) for layer in chosen]
    products: list[np.ndarray | None] = [None] * len(chosen)
    for number, inputs in observed(model, [layer.input for layer in chosen], images):
        for index, (layer, read) in enumerate(zip(chosen, inputs, strict=True)):
            patches = _patches(layer, read, number)
            values = _values(layer)
            is_enough = len(patches) // number * len(images) >= SAMPLES_PER_VALUE * values
            if not counts[index] and is_enough and values <= MOST_VALUES:
                products[index] = np.zeros((values, values))
            counts[index] += len(patches)
            sums[index] += patches.sum(axis=0, dtype="float64")
            product = products[index]
            if product is not None:
                _add_products(product, patches)
    return [
        _Inputs(total / count, None if product is None else _mirrored(product) / count)
        for total, product, count in zip(sums, products, counts, strict=True)
    ]


def _add_products(product: np.ndarray, patches: np.ndarray) -> None:
    """Adds the products of all pairs of columns of `[samples, values]` to the upper triangle of `[values, values]`."""
    for start in range(0, len(product), COLUMNS_AT_ONCE):
        columns = patches[:, start : start + COLUMNS_AT_ONCE]
        product[start : start + COLUMNS_AT_ONCE, start:] += columns.T @ patches[:, start:]


def _mirrored(product: np.ndarray) -> np.ndarray:
    """Square matrix -> symmetric one with its upper triangle."""
    upper = np.triu(product)
    return upper + np.triu(product, 1).T


def _values(layer: layers.Layer) -> int:
    return int(np.prod(layer.kernel.shape[:-1]))


def _patches(layer: layers.Layer, read: np.ndarray, images: int) -> np.ndarray:
    """Input of a layer for so many images -> `[samples, values]`, in the order of the kernel's rows.

    Each image yields as many samples, at most `POSITIONS`. The heads of a detector read many boxes of an image.
    """
    if isinstance(layer, layers.Dense):
        rows = read.reshape(images, -1, read.shape[-1])
        return rows[:, :: -(-rows.shape[1] // POSITIONS)].reshape(-1, read.shape[-1])
    boxes = read.reshape(images, -1, *read.shape[1:])[:, :: -(-(len(read) // images) // BOXES)]
    maps = _padded(layer, boxes.reshape(-1, *read.shape[1:]))
    (high, wide), (down, right) = layer.kernel_size, layer.dilation_rate
    windows = sliding_window_view(maps, ((high - 1) * down + 1, (wide - 1) * right + 1), axis=(1, 2))
    windows = windows[:, :: layer.strides[0], :: layer.strides[1], :, ::down, ::right]
    rows, columns = windows.shape[1:3]
    in_image = np.arange(0, boxes.shape[1] * rows * columns, -(-boxes.shape[1] * rows * columns // POSITIONS))
    number = (np.arange(images)[:, None] * boxes.shape[1] + in_image // (rows * columns)).ravel()
    row, column = np.divmod(np.tile(in_image % (rows * columns), images), columns)
    # The channels are the last axis in memory, too, so that they are copied together.
    return np.moveaxis(windows, 3, -1)[number, row, column].reshape(len(number), -1)


def _padded(layer: layers.Layer, maps: np.ndarray) -> np.ndarray:
    """Maps `[N, H, W, C]` -> maps with the zeros around them that the layer's padding adds, as TensorFlow does."""
    if layer.padding == "valid":
        return maps
    widths = [(0, 0)]
    for side, length, stride, rate in zip(
        maps.shape[1:3], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        zeros = max((-(-side // stride) - 1) * stride + (length - 1) * rate + 1 - side, 0)
        widths.append((zeros // 2, zeros - zeros // 2))
    return np.pad(maps, (*widths, (0, 0)))


def rounded_in_turn(kernel: np.ndarray, moments: np.ndarray, steps: int) -> np.ndarray:
    """Kernel `[..., out]`, moments of its inputs -> kernel rounded to its grid.

    The largest value of each channel stays at the end of the grid, so that the grid can be recomputed from the kernel.
    Instead of the inverse of the moments, their factors are used: the integers are equal (Chee et al. 2023, arXiv
    2307.13304, section 4), for a fifth of the products.
    """
    step = grid_step(kernel.astype("float64"), steps)
    exact = (kernel / step).reshape(-1, kernel.shape[-1])  # values in units of a step
    is_end = np.abs(exact) > steps * (1 - 1e-9)
    damping = DAMPING * np.trace(moments) / len(moments) or 1.0  # for inputs that are all zero
    damped = moments + damping * np.eye(len(moments))
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]  # damped = upper @ upper.T
    shares = np.ascontiguousarray((upper / np.diagonal(upper)).T)  # row i: shares of earlier values' errors for value i
    errors = np.zeros_like(exact)
    for start in range(0, len(exact), ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, len(exact))
        wanted = exact[start:stop] + shares[start:stop, :start] @ errors[:start]
        for row in range(start, stop):
            value = wanted[row - start] + shares[row, start:row] @ errors[start:row]
            nearest = np.clip(np.rint(value), -steps, steps)
            errors[row] = exact[row] - np.where(is_end[row], np.rint(exact[row]), nearest)
    return (np.rint(exact - errors).reshape(kernel.shape) * step).astype("float32")
