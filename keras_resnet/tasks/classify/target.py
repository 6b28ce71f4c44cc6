"""The target of classification: an image's class, in the pipeline and in packed sets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_resnet.data.base import fingerprint_of
from keras_resnet.data.targets import Target, unchanged
from keras_resnet.variants import Contract, InputContract

if TYPE_CHECKING:
    import tensorflow as tf


def _fit(label: np.ndarray, contract: Contract) -> np.ndarray:
    if not isinstance(contract, InputContract):
        raise TypeError(f"`contract` must be an InputContract for classification. Received: {contract!r}")
    return label


def _one_hot(labels: "tf.Tensor", classes: int) -> "tf.Tensor":
    import tensorflow as tf

    return tf.one_hot(labels, classes)


def _fingerprint(names: Sequence[str], index: Any, classes: int) -> str:
    return fingerprint_of(names, index["label"])


LABEL = Target(
    "classify",
    "classification",
    dtype="int32",
    shape=lambda height, width: (),
    exact=False,
    cut=unchanged,
    mirrored=unchanged,
    fit=_fit,
    shares=_one_hot,
    columns=("label",),
    feature="label",
    packed=int,
    counts=lambda label, classes: np.bincount([int(label)], minlength=classes),
    fingerprint=_fingerprint,
)
