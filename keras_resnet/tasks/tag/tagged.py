"""A source of images with any number of classes each."""

from functools import cached_property
from typing import Any

import numpy as np

from keras_resnet.data.base import Decoded, EncodedSource
from keras_resnet.preprocessing import decode_image
from keras_resnet.tasks.tag.target import tags_of


class TaggedSource(EncodedSource):
    """Images of another source, and the classes of each, uint8 `[N, classes]`, 0 or 1."""

    def __init__(self, images: EncodedSource, tags: np.ndarray, fingerprint: str) -> None:
        target = tags_of(len(images.classes))
        super().__init__(images.path, images.split, images.classes, images.names, None, images.held_out, target=target)
        self.kind, self.images, self.tags, self._fingerprint = images.kind, images, tags, fingerprint

    def path_of(self, index: int) -> str:
        return self.images.path_of(index)

    def read(self, index: int) -> bytes:
        return self.images.read(index)

    def locate(self, indices: Any) -> Any:
        return self.images.locate(indices)

    def fetch(self, located: Any) -> Any:
        return self.images.fetch(located)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return self.images.order(seed, epoch)

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
