"""Folded model, calibration images -> model with kernels rounded to the grid of 8-bit integers.

The values of a kernel are rounded one after the other, and later values compensate the error of each, as far as the
layer's inputs are correlated, as neighbouring pixels and channels are (Frantar et al. 2022, arXiv 2210.17323). The bias
then compensates the mean of the remaining error (Nagel et al. 2019, arXiv 1906.04721, section 4.2).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_resnet.compress.fake_quant import grid_step, rounded
from keras_resnet.detection_layers.base import BoxLayer
from keras_resnet.export.images import float_batches
from keras_resnet.graph import rebuild

POSITIONS = 256  # largest number of sampled positions in an image
BOXES = 16  # largest number of boxes of an image in whose parts of the maps a convolution's positions are sampled
MOST_VALUES = 8192  # moments of more inputs, as of a detector's first dense layer, would take minutes and gigabytes
SAMPLES_PER_VALUE = 8  # with fewer samples, corrections would overfit the calibration images
DAMPING = 0.01  # share of the mean square, which avoids a division by zero for inputs that are always zero
ROWS_AT_ONCE = 128  # rows of a kernel whose errors are passed on together


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
    return float_batches(images, 1 if any(isinstance(layer, BoxLayer) for layer in model.layers) else None)


def _observe(model: keras.Model, chosen: Sequence[layers.Layer], images: np.ndarray) -> list[_Inputs]:
    view = keras.Model(model.input, [layer.input for layer in chosen])
    counts = [0] * len(chosen)
    sums: list[np.ndarray] = [np.zeros(_values(layer)) for layer in chosen]
    products: list[np.ndarray | None] = [None] * len(chosen)
    for batch in batches_for(model, images):
        for index, (layer, read) in enumerate(zip(chosen, view(batch), strict=True)):
            patches = _patches(layer, read, len(batch))
            values = _values(layer)
            is_enough = len(patches) // len(batch) * len(images) >= SAMPLES_PER_VALUE * values
            if not counts[index] and is_enough and values <= MOST_VALUES:
                products[index] = np.zeros((values, values))
            counts[index] += len(patches)
            sums[index] += np.asarray(tf.reduce_sum(patches, 0), "float64")
            product = products[index]
            if product is not None:
                product += np.asarray(tf.matmul(patches, patches, transpose_a=True), "float64")
    return [
        _Inputs(total / count, None if product is None else product / count)
        for total, product, count in zip(sums, products, counts, strict=True)
    ]


def _values(layer: layers.Layer) -> int:
    return int(np.prod(layer.kernel.shape[:-1]))


def _patches(layer: layers.Layer, read: tf.Tensor, images: int) -> tf.Tensor:
    """Input of a layer for so many images -> `[samples, values]`, in the order of the kernel's rows.

    Each image yields as many samples, at most `POSITIONS`. The heads of a detector read many boxes of an image.
    """
    if isinstance(layer, layers.Dense):
        patches = read
    else:
        boxes = tf.reshape(read, (images, -1, *read.shape[1:]))
        read = tf.reshape(boxes[:, :: -(-boxes.shape[1] // BOXES)], (-1, *read.shape[1:]))
        patches = tf.image.extract_patches(
            read, (1, *layer.kernel_size, 1), (1, *layer.strides, 1), (1, *layer.dilation_rate, 1),
            layer.padding.upper(),
        )  # fmt: skip
    patches = tf.reshape(patches, (images, -1, patches.shape[-1]))
    return tf.reshape(patches[:, :: -(-patches.shape[1] // POSITIONS)], (-1, patches.shape[-1]))


def rounded_in_turn(kernel: np.ndarray, moments: np.ndarray, steps: int) -> np.ndarray:
    """Kernel `[..., out]`, moments of its inputs -> kernel rounded to its grid.

    The largest value of each channel stays at the end of the grid, so that the grid can be recomputed from the kernel.
    """
    step = grid_step(kernel.astype("float64"), steps)
    rest = (kernel / step).reshape(-1, kernel.shape[-1])  # values in units of a step that are still to be rounded
    ends = np.where(np.abs(rest) > steps * (1 - 1e-9), np.sign(rest) * steps, np.nan)
    damping = DAMPING * np.trace(moments) / len(moments) or 1.0  # for inputs that are all zero
    damped = moments + damping * np.eye(len(moments))
    shares = np.linalg.cholesky(np.linalg.inv(damped)).T  # row i: shares of value i's error for later values
    integers = np.empty_like(rest)
    for start in range(0, len(rest), ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, len(rest))
        losses = np.empty((stop - start, rest.shape[1]))
        for row in range(start, stop):
            nearest = np.clip(np.round(rest[row]), -steps, steps)
            integers[row] = np.where(np.isnan(ends[row]), nearest, ends[row])
            losses[row - start] = (rest[row] - integers[row]) / shares[row, row]
            rest[row + 1 : stop] -= np.outer(shares[row, row + 1 : stop], losses[row - start])
        rest[stop:] -= shares[start:stop, stop:].T @ losses
    return (integers.reshape(kernel.shape) * step).astype("float32")
