"""A network that is ready for images: a Keras model or an artifact, with its task, class names and contract."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.errors import ImageError, WeightsError
from keras_resnet.preprocessing import decode_image, name_of
from keras_resnet.tasks.base import Asked, Task
from keras_resnet.variants import Contract
from keras_resnet.whole_images import whole_image

BATCH_SIZE = 16  # default for networks of free batch size

Image = str | os.PathLike[str] | bytes | np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A network that predicts on images.

    `predict` takes image files or pixels of any size. `run` takes pixels of the network's input size, uint8
    `[N, H, W, 3]`, and returns arrays `[N, ...]` by the names of the network's outputs.
    """

    name: str  # name in messages
    task: Task
    class_names: list[str] | None
    contract: Contract  # way from image files to the pixels of `run`
    classes: int
    run: Callable[[np.ndarray], Answer]
    task_facts: Mapping[str, Any] = field(default_factory=dict)  # facts that only its task knows
    read_as: str | None = None  # how its task was read where nobody stated it, in words

    @property
    def asked(self) -> Asked:
        """The network in the form that its task's functions take."""
        return Asked(self.name, self._run_checked, self.contract, self.class_names, self.classes, self.task_facts)

    def _run_checked(self, pixels: np.ndarray) -> Answer:
        """-> answers of `run`.

        Raises:
            WeightsError: An answer is NaN or infinite.
        """
        answer = self.run(pixels)
        for values in answer.values():
            wrong = [row for row in range(len(values)) if not np.isfinite(values[row]).all()]
            if wrong:
                raise WeightsError(
                    f"{self.name}: answers with NaN or infinity on {len(wrong)} of {len(values)} images. Its weights "
                    "are damaged, or its training has diverged"
                )
        return answer

    def predict(self, images: Sequence[Image], batch_size: int = BATCH_SIZE, **options: Any) -> list[Answer]:
        """Image files, encoded images or pixels uint8 RGB `[H, W, 3]` -> answer for each image.

        A classifier answers `{"probabilities": [classes]}`. A segmentation network answers
        `{"probabilities": [H, W, classes]}` at the image's own height and width. A detector answers `{"boxes": [D, 4],
        "scores": [D], "labels": [D]}` in pixels of the image, the best first, and maybe `"masks": [D, 28, 28]`.

        Args:
            batch_size: Largest number of images that the network takes at a time.
            options: Options of the task's `answers`: `window` and `longest_side` for segmentation, `window` for
                detection.

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
        """One image -> prepared image for the task's `answers`.

        Raises:
            ImageError: The image can't be read; the message starts with its name.
        """
        if isinstance(image, np.ndarray):
            return self.task.prepare(image, self.contract)
        with whole_image():
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
