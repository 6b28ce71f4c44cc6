"""A network that is ready for images: a model of Keras or an artifact, with its task, its classes and its pixels."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.errors import ImageError
from keras_resnet.preprocessing import decode_image, name_of
from keras_resnet.tasks.base import Asked, Task
from keras_resnet.variants import Contract

BATCH_SIZE = 16  # where a network leaves it free

Image = str | os.PathLike[str] | bytes | np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A network that answers for images.

    `predict` takes images as people have them. `run` takes pixels as the network itself does, uint8 `[N, H, W, 3]`, and
    gives arrays `[N, ...]` by the names of the network's outputs.
    """

    name: str  # what messages call it
    task: Task
    class_names: list[str] | None
    contract: Contract  # how image files become the pixels of `run`
    classes: int
    run: Callable[[np.ndarray], Answer]
    task_facts: Mapping[str, Any] = field(default_factory=dict)  # what its task alone knows of

    @property
    def asked(self) -> Asked:
        """The network as its task sees it."""
        return Asked(self.name, self.run, self.contract, self.class_names, self.classes, self.task_facts)

    def predict(self, images: Sequence[Image], batch_size: int = BATCH_SIZE, **options: Any) -> list[Answer]:
        """Image files, encoded images or pixels uint8 RGB `[H, W, 3]` -> an answer for each.

        A classifier answers `{"probabilities": [classes]}`, a segmentation network `{"probabilities": [H, W, classes]}`
        for the pixels of the image as it is.

        Args:
            batch_size: Images that the network takes at a time, at most.
            options: Of the task's `answers`. A segmentation network has `window` and `longest_side`.

        Raises:
            ImageError: A file can't be read.
        """
        size = self.task.batch_size(self.contract, batch_size)
        return [
            answer
            for batch in _batches(map(self.read, images), size)
            for answer in self.task.answers(self.asked, batch, **options)
        ]

    def read(self, image: Image) -> np.ndarray:
        """One image -> what the task's `answers` takes.

        Raises:
            ImageError: It can't be read; the message starts with its name.
        """
        if isinstance(image, np.ndarray):
            return self.task.prepare(image, self.contract)
        pixels = decode_image(image)
        try:
            return self.task.prepare(pixels, self.contract)
        except ImageError as error:
            raise ImageError(f"{name_of(image)}: {error}") from error


def _batches(images: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
