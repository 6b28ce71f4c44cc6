"""What the images of a task show, on its way through the pipeline: one row for each task.

A target is one tensor for each image: its class, or its mask. The pipeline treats all alike, by these functions.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_resnet.data.augment import AUGMENTATION, Augmentation
from keras_resnet.errors import ArgumentError
from keras_resnet.labels import VOID

if TYPE_CHECKING:
    import tensorflow as tf


class Target(NamedTuple):
    """What differs between the tasks."""

    task: str  # its name in `tasks.TASKS`
    title: str  # in words
    spec: "Callable[[int], tf.TensorSpec]"  # pixels a side of the training image -> of its target
    cut: "Callable[[tf.Tensor, tf.Tensor, tf.Tensor, int], tf.Tensor]"  # see `_cut_mask`
    mirrored: "Callable[[tf.Tensor], tf.Tensor]"  # left to right
    exact: bool  # whether it has places, so that the part of the image must be taken to the pixel
    refused: tuple[str, ...]  # augmentation that has no meaning for it
    crops: tuple[str, ...]  # those that have a meaning


def _unchanged(label: "tf.Tensor", *_: object) -> "tf.Tensor":
    return label


def _label_spec(size: int) -> "tf.TensorSpec":
    import tensorflow as tf

    return tf.TensorSpec([], tf.int32)


def _mask_spec(size: int) -> "tf.TensorSpec":
    import tensorflow as tf

    return tf.TensorSpec([size, size], tf.uint8)


def _mirrored_mask(mask: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    return tf.reverse(mask, [1])


def _cut_mask(mask: "tf.Tensor", box: "tf.Tensor", shape: "tf.Tensor", size: int) -> "tf.Tensor":
    """uint8 `[H, W]`, top, left, height and width of a part, H and W of the image, size -> uint8 `[size, size]`.

    The nearest pixel, by the half-pixel centres of the image's bilinear resize; void outside of the mask. It fails
    where the mask's shape is not its image's.
    """
    import tensorflow as tf

    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(tf.shape(mask) == shape), ["not of one size"])]):
        centres = 2 * tf.range(size) + 1  # in halves of a pixel
    for axis in (0, 1):
        places = box[axis] + centres * box[2 + axis] // (2 * size)
        inside = (places >= 0) & (places < shape[axis])
        mask = tf.gather(mask, tf.clip_by_value(places, 0, shape[axis] - 1), axis=axis)
        mask = tf.where(inside[:, None] if axis == 0 else inside, mask, np.uint8(VOID))
    return mask


def _refused(task: str) -> tuple[str, ...]:
    """A recipe's task -> the augmentation that it does not have."""
    return tuple(name for name, setting in AUGMENTATION.items() if not setting.suits(task))


LABEL = Target(
    "classify",
    "classification",
    spec=_label_spec,
    cut=_unchanged,
    mirrored=_unchanged,
    exact=False,
    refused=_refused("classify"),
    crops=AUGMENTATION["crop"].choices_for("classify"),
)

MASK = Target(
    "segment",
    "segmentation",
    spec=_mask_spec,
    cut=_cut_mask,
    mirrored=_mirrored_mask,
    exact=True,
    refused=_refused("segment"),
    crops=AUGMENTATION["crop"].choices_for("segment"),
)


def check_augmentation(target: Target, augmentation: Augmentation) -> None:
    """Raises:
    ArgumentError: An augmentation that the task does not have.
    """
    wrong = [name for name in target.refused if getattr(augmentation, name)]
    if wrong:
        settings = ", ".join(f"{name} = {getattr(augmentation, name)}" for name in wrong)
        raise ArgumentError(
            f"{' and '.join(f'`{name}`' for name in wrong)} must be 0 for {target.title}. Received: {settings}"
        )
    if augmentation.crop not in target.crops:
        raise ArgumentError(
            f"`crop` must be one of {', '.join(target.crops)} for {target.title}. "
            f"Received: crop = {augmentation.crop!r}"
        )
