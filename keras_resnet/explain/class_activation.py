"""Where a classifier looks: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391).

The weight of a channel of C5 is the gradient of the class's logit, averaged over the positions. C5 is followed only by
an average over the positions, dense layers and ReLU, so that the gradient is a product of their kernels, without the
columns where a ReLU is zero, divided by the number of positions. For one dense layer, Grad-CAM is the class activation
map (Zhou et al. 2016, arXiv 1512.04150). No backend needs to differentiate.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_resnet.errors import ArgumentError
from keras_resnet.graph import output_activation
from keras_resnet.tasks.interpret import interpret


def grad_cam(model: keras.Model, pixels: Any, class_index: int | Sequence[int] | None = None) -> np.ndarray:
    """Classifier, pixels 0..255 `[N, H, W, C]` -> heatmap float32 `[N, H, W]` in 0..1 of what speaks for a class.

    The largest value of each image is 1. If nothing in the image speaks for the class, all values are 0.

    Args:
        model: A network of this package, or a functional model of your own, whose last feature map is averaged and read
            by dense layers; it may end in probabilities or logits.
        pixels: Pixels of the model's input size.
        class_index: One class for all images, or a class for each image. Default: each image's most probable class.

    Raises:
        ArgumentError: The model has no classification head, or the class does not exist.
    """
    model = interpret(model)
    pool, head = _pool_and_head(model)
    images = np.asarray(pixels)
    if images.ndim != 4 or len(images) == 0:
        raise ArgumentError(f"`pixels` must be an array [N, H, W, C]. Received: shape {list(images.shape)}")
    maps, outputs = keras.Model(model.input, [pool.input, model.output])(images, training=False)
    c5 = keras.ops.convert_to_numpy(maps).astype(np.float32)  # [N, h, w, channels]
    best = keras.ops.convert_to_numpy(outputs).argmax(axis=1)
    classes = _classes(class_index, best, model.outputs[0].shape[-1])

    weights = _gradient(head, c5.mean(axis=(1, 2)), classes) / (c5.shape[1] * c5.shape[2])  # [N, channels]
    heat = np.maximum(np.einsum("nhwc,nc->nhw", c5, weights), 0)
    heat = keras.ops.image.resize(heat[..., None], images.shape[1:3], interpolation="bilinear")
    heat = keras.ops.convert_to_numpy(heat)[..., 0]
    largest = heat.max(axis=(1, 2), keepdims=True)
    return np.divide(heat, largest, out=np.zeros_like(heat), where=largest > 0)


def _pool_and_head(model: keras.Model) -> tuple[Any, list[Any]]:
    """Classifier -> its average over the positions, and the dense layers and ReLU between this average and the logits.

    Raises:
        ArgumentError: Something else lies between them.
    """
    op = output_activation(model)[1]
    if not isinstance(op, layers.Dense):  # the activation
        op = keras.tree.flatten(op.input)[0]._keras_history.operation
    head: list[Any] = []
    while type(op) in (layers.Dense, layers.ReLU, layers.Dropout):  # a derived layer may compute something else
        head.insert(0, op)
        op = op.input._keras_history.operation
    if not isinstance(op, layers.GlobalAveragePooling2D) or not any(type(layer) is layers.Dense for layer in head):
        raise ArgumentError(
            "`model` must be a classifier whose last feature map is averaged (GlobalAveragePooling2D) and then read by "
            f"dense layers. Received: {model.name!r} with the layers {[layer.name for layer in model.layers][-3:]} at "
            "its end"
        )
    return op, head


def _gradient(head: Sequence[Any], pooled: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Layers of the head, averages `[N, channels]`, class of each image -> gradient of its logit, `[N, channels]`."""
    factors: list[np.ndarray] = []  # kernel [in, out] of a dense layer, or [N, values], 1 where a ReLU passes its input
    values = pooled
    for layer in head:
        if type(layer) is layers.Dense:
            factors.append(keras.ops.convert_to_numpy(layer.kernel).astype(np.float32))
            bias = 0 if layer.bias is None else keras.ops.convert_to_numpy(layer.bias)
            values = values @ factors[-1] + bias
        elif type(layer) is layers.ReLU:
            after = keras.ops.convert_to_numpy(layer(values))
            factors.append((after == values).astype(np.float32))
            values = after
    gradient = np.eye(values.shape[1], dtype=np.float32)[classes]
    computing = [layer for layer in head if type(layer) is not layers.Dropout]
    for layer, factor in zip(reversed(computing), reversed(factors), strict=True):
        gradient = gradient @ factor.T if type(layer) is layers.Dense else gradient * factor
    return gradient


def _classes(class_index: int | Sequence[int] | None, best: np.ndarray, count: int) -> np.ndarray:
    """Argument as given, most probable class of each image -> class for each image."""
    if class_index is None:
        return best
    classes = np.asarray(class_index)
    if classes.shape not in ((), best.shape) or not np.issubdtype(classes.dtype, np.integer):
        raise ArgumentError(
            f"`class_index` must be an integer, or an integer for each of the {len(best)} images. "
            f"Received: class_index={class_index!r}"
        )
    if classes.min() < 0 or classes.max() >= count:
        raise ArgumentError(f"`class_index` must lie in 0..{count - 1}. Received: class_index={class_index!r}")
    return np.broadcast_to(classes, best.shape)
