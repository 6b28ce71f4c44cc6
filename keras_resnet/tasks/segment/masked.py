"""A source of images with masks."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_resnet.data.base import Decoded, EncodedSource, TargetedSource, fingerprint_of
from keras_resnet.data.problems import reason_of
from keras_resnet.errors import ImageError
from keras_resnet.preprocessing import decode_image
from keras_resnet.tasks.segment.legend import UNKNOWN, Legend
from keras_resnet.tasks.segment.masks import count_labels, decode_mask, of_each
from keras_resnet.tasks.segment.target import MASKS

if TYPE_CHECKING:
    import tensorflow as tf

_GREY_8_BIT = b"\x08\x00"  # bytes 24 and 25 of a PNG file: bits of a sample, colour type


class MaskedSource(TargetedSource):
    """Images of one source, with masks of another source at the same indices.

    `legend` maps the masks' labels to classes.
    """

    counted = "pixels"

    def __init__(self, images: EncodedSource, masks: EncodedSource, legend: Legend) -> None:
        super().__init__(images, MASKS)
        self.masks, self.legend = masks, legend

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of([*self.names, *self.masks.names], self.legend.labels)

    def summary(self) -> dict[str, Any]:
        # The description lacks counts of the classes, for which all masks would have to be read.
        return {name: value for name, value in super().summary().items() if name != "class_counts"}

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Pixels of each class in all masks that can be read, int `[classes]`."""
        counts = np.zeros(256, np.int64)
        for counted in of_each(lambda index: count_labels(self.decode_target(index)), self.count):
            counts += counted
        return counts[: len(self.classes)]

    def decode_target(self, index: int) -> np.ndarray:
        """Index -> classes uint8 `[H, W]`.

        Raises:
            ImageError: The mask can't be read, or has labels that `legend` lacks.
        """
        try:
            return self.legend.classes_of(decode_mask(self.masks.read(index)))
        except ImageError as error:
            raise ImageError(f"its mask {self.masks.name_of(index)}: {reason_of(error)}") from error

    def decode(self, index: int) -> Decoded:
        encoded = self.read(index)
        pixels, mask = decode_image(encoded), self.decode_target(index)
        if mask.shape != pixels.shape[:2]:
            sizes = (f"{width} x {height}" for height, width in (mask.shape, pixels.shape[:2]))
            raise ImageError(
                f"its mask {self.masks.name_of(index)} has {' pixels, but the upright image has '.join(sizes)}"
            )
        return Decoded(encoded, pixels, mask)

    def locate_targets(self, indices: "tf.Tensor") -> "tf.Tensor":
        return self.masks.locate(indices)

    def fetch_target(self, located: "tf.Tensor") -> "tf.Tensor":
        """Mask of an image; `[0, 0]` if it can't be read or has labels that `legend` lacks."""
        import tensorflow as tf

        from keras_resnet.data.crop import QUICK_PIXELS

        def decode(encoded: bytes) -> np.ndarray:
            try:
                return self.legend.classes_of(decode_mask(encoded))
            except ImageError:
                return np.zeros((0, 0), np.uint8)

        def by_pillow() -> "tf.Tensor":
            return tf.ensure_shape(tf.numpy_function(decode, [encoded], tf.uint8, stateful=False), [None, None])

        def by_tensorflow() -> "tf.Tensor":
            labels = tf.io.decode_png(encoded, channels=1)[..., 0]
            classes = tf.gather(tf.constant(self.legend.labels), tf.cast(labels, tf.int32))
            return tf.cond(tf.reduce_any(classes == UNKNOWN), lambda: tf.zeros([0, 0], tf.uint8), lambda: classes)

        encoded = self.masks.fetch(located)
        is_png = tf.strings.substr(encoded, 0, 4) == b"\x89PNG"
        plain = tf.logical_and(is_png, tf.strings.substr(encoded, 24, 2) == _GREY_8_BIT)
        sides = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
        small = tf.reduce_prod(tf.cast(sides, tf.int64)) <= QUICK_PIXELS
        return tf.cond(plain & small, by_tensorflow, by_pillow)
