"""A source of images with any number of classes each."""

from functools import cached_property
from typing import Any

import numpy as np

from keras_resnet.data.base import Decoded, EncodedSource, TargetedSource
from keras_resnet.preprocessing import decode_image
from keras_resnet.tasks.tag.target import tags_of


class TaggedSource(TargetedSource):
    """Images of another source, and the classes of each, uint8 `[N, classes]`, 0 or 1."""

    def __init__(self, images: EncodedSource, tags: np.ndarray, fingerprint: str) -> None:
        super().__init__(images, tags_of(len(images.classes)))
        self.tags, self._fingerprint = tags, fingerprint

    @cached_property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Number of images that have each class, int `[classes]`."""
        return self.tags.sum(axis=0, dtype="int64")

    def decode(self, index: int) -> Decoded:
        encoded = self.read(index)
        return Decoded(encoded, decode_image(encoded), self.tags[index])

    def locate_targets(self, indices: Any) -> Any:
        """int64 `[n]` -> uint8 `[n, classes]`."""
        import tensorflow as tf

        return tf.gather(self._graph_tags, indices)

    @cached_property
    def _graph_tags(self) -> Any:
        import tensorflow as tf

        with tf.device("CPU"), tf.init_scope():
            return tf.constant(self.tags)
