"""The target of tagging: an image's classes, in the pipeline and in packed sets."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.data.base import fingerprint_of
from keras_resnet.data.targets import Target, unchanged
from keras_resnet.variants import Contract, InputContract


def _fit(tags: np.ndarray, contract: Contract) -> np.ndarray:
    if not isinstance(contract, InputContract):
        raise TypeError(f"`contract` must be an InputContract for tagging. Received: {contract!r}")
    return tags


def _shares(tags: Any, classes: int) -> Any:
    """uint8 `[B, classes]` -> float32 `[B, classes]`."""
    import tensorflow as tf

    return tf.ensure_shape(tf.cast(tags, tf.float32), [None, classes])


def _fingerprint(names: Sequence[str], index: Any, classes: int) -> str:
    # The index does not hold the tags; the size of each shard is checked when it is opened.
    return fingerprint_of(names, index["tags_offset"])


TAGS = Target(
    "tag",
    "tagging",
    dtype="uint8",
    shape=lambda height, width: (None,),  # `tags_of` fills in the number of classes
    exact=False,
    cut=unchanged,
    mirrored=unchanged,
    fit=_fit,
    shares=_shares,
    columns=("tags_offset", "tags_length"),
    feature="tags",
    packed=lambda tags: tags.astype("uint8").tobytes(),  # a byte for each class, 0 or 1
    counts=lambda tags, classes: tags.astype("int64"),
    fingerprint=_fingerprint,
    refused=("label_smoothing",),
)


@functools.cache  # the pipeline keeps its traced functions for each target object
def tags_of(classes: int) -> Target:
    """Number of classes -> `TAGS` for this number."""
    return TAGS._replace(shape=lambda height, width: (classes,))
