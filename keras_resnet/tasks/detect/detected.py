"""A source of images with the objects in them."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from keras_resnet.data.base import Decoded, EncodedSource, TargetedSource, fingerprint_of
from keras_resnet.errors import ImageError
from keras_resnet.preprocessing import decode_image
from keras_resnet.tasks.detect.checked import Objects
from keras_resnet.tasks.detect.target import HEAD, make_target, objects_of

if TYPE_CHECKING:
    import tensorflow as tf


class DetectedSource(TargetedSource):
    """Images of another source, and the objects of each at the same index.

    Args:
        most_objects: Number of rows of a target; not less than the objects of any image of the set, of any split.
        instances: Index -> instance map of the image, uint16 `[H, W]`; it may raise ImageError. None: objects have only
            boxes.
        fingerprint: Of the images and all that is known of their objects.
    """

    counted = "objects"

    def __init__(
        self,
        images: EncodedSource,
        objects: Sequence[Objects],
        most_objects: int,
        instances: Callable[[int], np.ndarray] | None,
        fingerprint: Callable[[], str],
    ) -> None:
        super().__init__(images, objects_of(most_objects, instances is not None))
        self.objects, self.most_objects = objects, most_objects
        self.instances, self._fingerprint = instances, fingerprint

    @cached_property
    def fingerprint(self) -> str:
        return self._fingerprint()

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Number of objects of each class, without ignored ones, int `[classes]`."""
        counts = np.zeros(len(self.classes), np.int64)
        for each in self.objects:
            counts += np.bincount(each.classes[~each.ignored], minlength=len(self.classes))
        return counts

    def decode_target(self, index: int) -> np.ndarray:
        """Index -> target of the whole image.

        Raises:
            ImageError: The instance map can't be read.
        """
        found = self.objects[index]
        instances = None if self.instances is None else self.instances(index)
        return make_target(found.size, found.boxes, found.classes, found.ignored, self.most_objects, instances)

    def decode(self, index: int) -> Decoded:
        encoded = self.read(index)
        pixels, stated = decode_image(encoded), self.objects[index].size
        if stated != pixels.shape[:2]:
            sizes = (f"{width} x {height}" for height, width in (stated, pixels.shape[:2]))
            raise ImageError(f"its boxes are for {' pixels, but the upright image has '.join(sizes)}")
        return Decoded(encoded, pixels, self.decode_target(index))

    def locate_targets(self, indices: "tf.Tensor") -> "tf.Tensor":
        return indices

    def fetch_target(self, located: "tf.Tensor") -> "tf.Tensor":
        """Index int64 `[]` -> target of the whole image; one that states no size, and fits no image, if it can't be
        read."""
        import tensorflow as tf

        kind = self.target

        def target(index: np.ndarray) -> np.ndarray:
            try:
                return self.decode_target(int(index))
            except ImageError:
                return -np.ones(HEAD, np.float32)

        made = tf.numpy_function(target, [located], tf.float32, stateful=False)
        return tf.ensure_shape(made, [None] if self.instances is not None else kind.shape(None, None))


def fingerprint_of_objects(names: Sequence[str], objects: Sequence[Objects]) -> str:
    """Names of images, their objects -> SHA-256."""
    parts = [
        np.frombuffer(part, np.uint8)
        for each in objects
        for part in (
            each.boxes.tobytes(),
            each.classes.tobytes(),
            each.ignored.tobytes(),
            repr(each.outlines).encode("utf-8", "surrogateescape"),
        )
    ]
    return fingerprint_of(names, np.concatenate(parts or [np.zeros(0, np.uint8)]))
