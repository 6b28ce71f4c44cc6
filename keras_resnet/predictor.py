"""A network that is ready for images: a Keras model or an artifact, with its task, class names and contract."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.errors import ArgumentError, ImageError, WeightsError
from keras_resnet.preprocessing import decode_image, name_of
from keras_resnet.tasks.base import Asked, Task
from keras_resnet.tasks.image_rows import image_row, unreadable_row
from keras_resnet.variants import Contract
from keras_resnet.whole_images import whole_image

BATCH_SIZE = 16  # default for networks of free batch size

Image = str | os.PathLike[str] | bytes | np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A network that predicts on images.

    `predict` takes image files or pixels of any size. `run` takes pixels of the network's input size, uint8
    `[N, H, W, 3]`, and returns arrays `[N, ...]` by the names of the network's outputs.

    A predictor that `keras_resnet.load` opened can be pickled. The pickle holds the absolute path of its file and the
    arguments of `load`, and the process that reads it opens the file again.
    """

    name: str  # name in messages
    task: Task
    class_names: list[str] | None
    contract: Contract  # way from image files to the pixels of `run`
    classes: int
    run: Callable[[np.ndarray], Answer]
    task_facts: Mapping[str, Any] = field(default_factory=dict)  # facts that only its task knows
    read_as: str | None = None  # how its task was read where nobody stated it, in words
    reopen: Callable[[], "Predictor"] | None = None  # opens its file again; None: it was made from a model in memory

    def __reduce__(self) -> tuple[Callable[[], "Predictor"], tuple[()]]:
        if self.reopen is None:
            raise ArgumentError(
                f"{self.name}: a predictor is pickled by the path of its file, and this one was made from a model in "
                "memory. Save the model with keras_resnet.model_files.save_model, and open it with keras_resnet.load"
            )
        return self.reopen, ()

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

    def rows(self, images: Sequence[Image], batch_size: int = BATCH_SIZE) -> list[dict[str, Any]]:
        """Image files, encoded images or pixels uint8 RGB `[H, W, 3]` -> one row for each, in their order.

        Each row has the columns of `tasks.image_rows.COLUMNS`: the cells of `keras-resnet predict --json`, a detector's
        `objects`, and the `mask` of a segmentation network as a PNG file. An image that can't be read has the reason in
        `error`, and None in all other columns.

        Args:
            batch_size: Largest number of images that the network takes at a time.
        """
        size = self.task.batch_size(self.contract, batch_size)
        return [row for start in range(0, len(images), size) for row in self._rows(images[start : start + size])]

    def _rows(self, images: Sequence[Image]) -> list[dict[str, Any]]:
        """At most a batch of images -> their rows."""
        read = [self._read_or_reason(image) for image in images]
        batch = [each for each in read if not isinstance(each, str)]
        answers = iter(self.answers(batch) if batch else [])
        return [unreadable_row(each) if isinstance(each, str) else self.row(each, next(answers)) for each in read]

    def _read_or_reason(self, image: Image) -> np.ndarray | str:
        try:
            return self.read(image)
        except ImageError as error:
            return str(error) if isinstance(image, np.ndarray) else str(error).removeprefix(f"{name_of(image)}: ")

    def answers(self, batch: Sequence[np.ndarray]) -> list[Answer]:
        """At most a batch of images from `read` -> answer for each, by the defaults of `keras-resnet predict`."""
        options, _ = self._default_options()
        return self.task.answers(self.asked, batch, **options)

    def row(self, pixels: np.ndarray, answer: Answer) -> dict[str, Any]:
        """One image from `read`, its answer from `answers` -> its row, as in `rows`."""
        _, options = self._default_options()
        return image_row(self.task, self.asked, pixels, answer, options)

    def _default_options(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """-> the defaults of `keras-resnet predict`: options of the task's `answers`, options of its `rows`."""
        return self.task.read_options(dict.fromkeys(self.task.options("predict")))

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
