"""The target of segmentation: the class of every pixel, in the pipeline and in packed sets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_resnet.data.base import fingerprint_of
from keras_resnet.data.targets import Target
from keras_resnet.labels import VOID
from keras_resnet.tasks.segment.masks import count_labels, encode_mask, fit_mask
from keras_resnet.tasks.segment.settings import LACKS
from keras_resnet.variants import Contract, WholeImage

if TYPE_CHECKING:
    import tensorflow as tf


def _cut_mask(mask: "tf.Tensor", box: "tf.Tensor", shape: "tf.Tensor", size: int) -> "tf.Tensor":
    """uint8 `[H, W]`, top, left, height and width of a part, H and W of the image, size -> uint8 `[size, size]`.

    Each pixel takes the nearest pixel of the mask, by the half-pixel centres of the image's bilinear resize, and is
    void outside of the mask. The function fails if the mask and the image differ in shape.
    """
    import tensorflow as tf

    from keras_resnet.data.crop import nearest_of_part

    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(tf.shape(mask) == shape), ["not of one size"])]):
        return nearest_of_part(tf.identity(mask), box, shape, size, np.uint8(VOID))


def _mirrored(mask: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    return tf.reverse(mask, [1])


def _fit(mask: np.ndarray, contract: Contract) -> np.ndarray:
    if not isinstance(contract, WholeImage):
        raise TypeError(f"`contract` must be a WholeImage for segmentation. Received: {contract!r}")
    return fit_mask(mask, contract)


def _fingerprint(names: Sequence[str], index: Any, classes: int) -> str:
    from keras_resnet.tasks.segment.legend import packed_legend

    return fingerprint_of([*names, *names], packed_legend(np.arange(classes)).labels)


MASKS = Target(
    "segment",
    "segmentation",
    dtype="uint8",
    shape=lambda height, width: (height, width),
    exact=True,
    cut=_cut_mask,
    mirrored=_mirrored,
    fit=_fit,
    shares=None,
    columns=("mask_offset", "mask_length"),
    feature="mask",
    packed=encode_mask,
    counts=lambda mask, classes: count_labels(mask)[:classes],
    fingerprint=_fingerprint,
    refused=LACKS,
)
