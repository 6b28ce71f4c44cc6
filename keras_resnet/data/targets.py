"""What the images of a task show, on its way through the pipeline and into packed sets.

A target is one tensor for each image: its class, or its mask. What differs is a `Target`, which each task's folder has;
the pipeline treats all alike, by its functions.
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
    """What differs between the tasks."""

    task: str  # its name in `tasks.TASKS`
    title: str  # in words
    dtype: str
    shape: Callable[[Side, Side], tuple[Any, ...]]  # height and width of the pixels -> shape of one target
    exact: bool  # whether it has places, so that the part of the image must be taken to the pixel
    # Target of the whole image, top, left, height and width of a part, H and W of the image, size -> target of the
    # part, resized to `[size, size]`. It fails where the target is not one of the image's.
    cut: "Callable[[tf.Tensor, tf.Tensor, tf.Tensor, int], tf.Tensor]"
    mirrored: "Callable[[tf.Tensor], tf.Tensor]"  # left to right
    fit: Callable[[np.ndarray, Contract], np.ndarray]  # target of the whole image -> of the pixels of an evaluation
    # Targets `[B, ...]`, number of classes -> shares of the classes float32 `[B, classes]`, which can be mixed,
    # smoothed and weighted; None where a target has no such shares.
    shares: "Callable[[tf.Tensor, int], tf.Tensor] | None"
    columns: tuple[str, ...]  # of the index of a packed set
    feature: str  # of its records
    packed: Callable[[np.ndarray], bytes | int]  # target -> what the feature holds
    counts: Callable[[np.ndarray, int], np.ndarray]  # target, number of classes -> int64 `[classes]`
    fingerprint: Callable[[Sequence[str], Any, int], str]  # names, arrays of the index, number of classes -> SHA-256
    refused: tuple[str, ...] = ()  # augmentation that has no meaning for it

    def spec(self, size: int) -> "tf.TensorSpec":
        """Pixels a side of the training image -> of its target."""
        import tensorflow as tf

        return tf.TensorSpec(self.shape(size, size), self.dtype)

    @property
    def crops(self) -> tuple[str, ...]:
        """Crops of training images that have a meaning."""
        return AUGMENTATION["crop"].choices_for(self.task)


def unchanged(target: "tf.Tensor", *_: object) -> "tf.Tensor":
    """Target of the whole image -> that of any part of it, where it has no places."""
    return target


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
