"""Where a network looks: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391).

The weight of a channel of C5 is the gradient of the class's logit, averaged over the positions. C5 is followed only by
an average over the positions and a dense layer, so that at each position this gradient is the class's column of the
dense kernel, divided by the number of positions. Grad-CAM is then the class activation map (Zhou et al. 2016, arXiv
1512.04150), which needs no differentiation on any backend.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_resnet import layer_names
from keras_resnet.errors import ArgumentError


def grad_cam(model: keras.Model, pixels: Any, class_index: int | Sequence[int] | None = None) -> np.ndarray:
    """Classifier, pixels 0..255 `[N, H, W, C]` -> heatmap float32 `[N, H, W]` in 0..1 of what speaks for a class.

    The largest value of each image is 1. If nothing in the image speaks for the class, all values are 0.

    Args:
        model: A network of this package with its head; it may end in probabilities or logits.
        pixels: Pixels of the model's input size.
        class_index: One class for all images, or a class for each image. Default: each image's most probable class.

    Raises:
        ArgumentError: The model has no classification head, or the class does not exist.
    """
    head = _head(model)
    images = np.asarray(pixels)
    if images.ndim != 4 or len(images) == 0:
        raise ArgumentError(f"`pixels` must be an array [N, H, W, C]. Received: shape {list(images.shape)}")
    pooled = model.get_layer(layer_names.POOL).input
    maps, outputs = keras.Model(model.input, [pooled, model.output])(images, training=False)
    c5 = keras.ops.convert_to_numpy(maps).astype(np.float32)  # [N, h, w, channels]
    best = keras.ops.convert_to_numpy(outputs).argmax(axis=1)
    classes = _classes(class_index, best, head.units)

    kernel = keras.ops.convert_to_numpy(head.kernel).astype(np.float32)  # [channels, classes]
    weights = kernel[:, classes] / (c5.shape[1] * c5.shape[2])  # [channels, N]: the gradient at each position
    heat = np.maximum(np.einsum("nhwc,cn->nhw", c5, weights), 0)
    heat = keras.ops.image.resize(heat[..., None], images.shape[1:3], interpolation="bilinear")
    heat = keras.ops.convert_to_numpy(heat)[..., 0]
    largest = heat.max(axis=(1, 2), keepdims=True)
    return np.divide(heat, largest, out=np.zeros_like(heat), where=largest > 0)


def _head(model: keras.Model) -> layers.Dense:
    """Classifier -> its dense layer "logits", if only average pooling lies between C5 and this layer."""
    by_name = {layer.name: layer for layer in getattr(model, "layers", [])}
    pool, head, last = (by_name.get(name) for name in layer_names.CLASSIFIER_HEAD)
    if not (
        isinstance(pool, layers.GlobalAveragePooling2D)
        and head is not None
        and type(head) is layers.Dense  # a derived layer may compute something else
        and head.activation is keras.activations.linear
        and head.input is pool.output
        and (last is None or (isinstance(last, layers.Activation) and last.input is head.output))
        and len(model.outputs) == 1
        and model.outputs[0] is (head if last is None else last).output
    ):
        raise ArgumentError(
            "`model` must be a classifier of this package, which ends in the layers 'pool', 'logits' and, where it has "
            f"an activation, 'probabilities'. Received: {getattr(model, 'name', model)!r} with the layers "
            f"{list(by_name)[-3:]} at its end"
        )
    return head


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
