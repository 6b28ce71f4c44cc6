"""Encoded images -> pixels for a network, inside the graph of a SavedModel.

TensorFlow has no reader of EXIF orientation. The resize is Pillow's to a grey level or two in few places; of very tall
images, Pillow resizes the columns first, so that more places differ.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.answers import IMAGE_BYTES
from keras_resnet.preprocessing import MEAN_COLOUR
from keras_resnet.variants import InputContract, WholeImage

BYTES_SPEC = tf.TensorSpec((None,), tf.string, name=IMAGE_BYTES)


def decode(encoded: Any, contract: InputContract) -> Any:
    """Encoded image -> pixels float32 `[size, size, 3]`, like `preprocessing.load_image`."""
    image = _rgb(encoded)
    size = tf.cast(tf.shape(image)[:2], tf.float64)
    resized = tf.cast(contract.resize * size / tf.reduce_min(size), tf.int32)  # truncates, as torchvision does
    image = _resized(image, resized, contract.interpolation)
    corner = tf.cast(tf.round((resized - contract.size) / 2), tf.int32)  # rounds half to even
    return tf.image.crop_to_bounding_box(image, corner[0], corner[1], contract.size, contract.size)


def fit(encoded: Any, contract: WholeImage) -> tuple[Any, Any]:
    """Encoded image, contract with a size -> pixels float32 `[height, width, 3]`, like `preprocessing.fit_whole`;
    height and width of the image, int32 `[2]`.
    """
    image = _rgb(encoded)
    size = tf.shape(image)[:2]
    area = tf.cast(area_of(size[None], contract)[0], tf.int32)
    image = _resized(image, area, "bilinear")
    free = [[0, contract.height - area[0]], [0, contract.width - area[1]], [0, 0]]
    colour = np.array(MEAN_COLOUR, "float32")
    pixels = tf.pad(image - colour, free) + colour  # exact, since both are whole numbers
    return tf.ensure_shape(pixels, (contract.height, contract.width, 3)), size


def area_of(sizes: Any, contract: WholeImage) -> Any:
    """Heights and widths of images, int32 `[N, 2]` -> `WholeImage.area_of` each, float32 `[N, 2]`."""
    sides = tf.constant(contract.sides, tf.float64)
    sizes = tf.cast(sizes, tf.float64)
    scale = tf.reduce_min(sides / sizes, axis=1, keepdims=True)
    return tf.cast(tf.clip_by_value(tf.round(scale * sizes), 1, sides), tf.float32)


def _resized(image: Any, sides: Any, method: str) -> Any:
    """`[H, W, 3]`, height and width -> float32 `[height, width, 3]`: as Pillow, first the rows, rounded, and then the
    columns.
    """
    across = tf.image.resize(image, tf.stack([tf.shape(image)[0], sides[1]]), method, antialias=True)
    both = tf.image.resize(_whole_numbers(across), sides, method, antialias=True)
    return _whole_numbers(both)


def _whole_numbers(image: Any) -> Any:
    return tf.clip_by_value(tf.floor(image + 0.5), 0, 255)  # a half is rounded up, as Pillow does


def _rgb(encoded: Any) -> Any:
    """Encoded JPEG or PNG image -> uint8 `[H, W, 3]`."""
    is_jpeg, is_png = tf.io.is_jpeg(encoded), tf.strings.substr(encoded, 0, 4) == b"\x89PNG"
    message = "image_bytes must hold complete JPEG or PNG files. Received: bytes of another format"
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg | is_png, [message])]):
        return tf.cond(
            is_jpeg,
            lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
            lambda: _over_white(tf.io.decode_png(encoded, channels=4)),
        )


def _over_white(image: Any) -> Any:
    """uint8 RGBA `[H, W, 4]` -> uint8 RGB `[H, W, 3]`."""
    colour, alpha = tf.cast(image[..., :3], tf.float32), tf.cast(image[..., 3:], tf.float32) / 255
    return tf.cast(tf.round(colour * alpha + 255 * (1 - alpha)), tf.uint8)
