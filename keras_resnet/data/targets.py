"""Targets of images, on their way through the pipeline and into packed sets.

A target is one tensor for each image: its class, its classes, or its mask. Each task's folder has a `Target` with the
functions by which the pipeline handles the targets of the task.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_resnet.data.augment import AUGMENTATION, Augmentation
from keras_resnet.errors import ArgumentError
from keras_resnet.variants import Contract

if TYPE_CHECKING:
    import tensorflow as tf

Side = int | None


class Target(NamedTuple):
    """Properties and functions of a task's targets."""

    task: str  # its name in `tasks.TASKS`
    title: str  # name of the task in words
    dtype: str
    shape: Callable[[Side, Side], tuple[Any, ...]]  # height and width of the pixels -> shape of a target
    exact: bool  # whether a target has places, so that crops must be exact to the pixel
    # Target of the whole image, top, left, height and width of a part, H and W of the image, size -> target of the
    # part, resized to `[size, size]`. The function fails if the target does not fit the image.
    cut: "Callable[[tf.Tensor, tf.Tensor, tf.Tensor, int], tf.Tensor]"
    mirrored: "Callable[[tf.Tensor], tf.Tensor]"  # target -> target mirrored from left to right
    fit: Callable[[np.ndarray, Contract], np.ndarray]  # target of the whole image -> target of the evaluated pixels
    # Targets `[B, ...]`, number of classes -> shares of the classes float32 `[B, classes]`, which can be mixed,
    # smoothed and weighted; None where a target has no such shares.
    shares: "Callable[[tf.Tensor, int], tf.Tensor] | None"
    columns: tuple[str, ...]  # columns in the index of a packed set
    feature: str  # name of the target's feature in the records
    packed: Callable[[np.ndarray], bytes | int]  # target -> content of the feature
    counts: Callable[[np.ndarray, int], np.ndarray]  # target, number of classes -> int64 `[classes]`
    fingerprint: Callable[[Sequence[str], Any, int], str]  # names, arrays of the index, number of classes -> SHA-256
    refused: tuple[str, ...] = ()  # augmentation settings without a meaning for the target

    def spec(self, size: int) -> "tf.TensorSpec":
        """Side of the training image in pixels -> shape of its target."""
        import tensorflow as tf

        return tf.TensorSpec(self.shape(size, size), self.dtype)

    @property
    def crops(self) -> tuple[str, ...]:
        """Values of `crop` that have a meaning for the target."""
        return AUGMENTATION["crop"].choices_for(self.task)


def unchanged(target: "tf.Tensor", *_: object) -> "tf.Tensor":
    """Target without places -> unchanged target, which is true for every part of the image."""
    return target


def check_augmentation(target: Target, augmentation: Augmentation) -> None:
    """Raises:
    ArgumentError: An augmentation setting that has no meaning for the task.
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
