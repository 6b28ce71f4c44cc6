"""Network, images with known targets -> evaluation, by one loop for all tasks and runtimes."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.data.base import Source
from keras_resnet.data.problems import reason_of
from keras_resnet.errors import ImageError
from keras_resnet.predictor import Predictor
from keras_resnet.read_ahead import read_ahead
from keras_resnet.whole_images import whole_image

EVALUATION_BATCH_SIZE = 64

Tell = Callable[[str, str], None]  # name of an image, reason why it can't be read


class ReadImage(NamedTuple):
    """One image on its way to the network."""

    source: Source
    place: int  # index in the source
    pixels: np.ndarray  # result of the task's `prepare`
    target: np.ndarray


def evaluate(
    predictor: Predictor,
    sources: Sequence[Source],
    *,
    batch_size: int = EVALUATION_BATCH_SIZE,
    unreadable: Tell | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Network, sources from its task's `open_sources` -> `tasks.base.Evaluation`; None if there is no image.

    Args:
        batch_size: Largest number of images that the network takes at a time.
        unreadable: Called for each unreadable image, which is left out. Without it, an unreadable image is an error.
        progress: Called with the number of finished images and the number of all images.
        options: Values of the task's options of `evaluate`.

    Raises:
        ImageError: An image can't be read.
    """
    task, asked = predictor.task, predictor.asked
    collector, added = task.collector(asked, sources, **options), False
    size = task.batch_size(predictor.contract, batch_size)
    places = [(source, index) for source in sources for index in range(source.count)]
    images = read_ahead(places, lambda place: _read(predictor, *place), 2 * size)
    progress(0, len(places))
    for start in range(0, len(places), size):
        batch = _readable(itertools.islice(images, size), places[start : start + size], unreadable)
        if batch:
            answers = task.answers(asked, [image.pixels for image in batch], **task.evaluated)
            for image, answer in zip(batch, answers, strict=True):
                collector.add(*image, answer)
            added = True
        progress(min(start + size, len(places)), len(places))
    return collector.finish() if added else None


def _read(predictor: Predictor, source: Source, index: int) -> ReadImage:
    with whole_image():
        decoded = source.decode(index)
        pixels = decoded.pixels if source.ready else predictor.task.prepare(decoded.pixels, predictor.contract)
    return ReadImage(source, index, pixels, decoded.target)


def _readable(
    images: Iterator[Future[ReadImage]], places: Sequence[tuple[Source, int]], unreadable: Tell | None
) -> list[ReadImage]:
    batch = []
    for image, (source, index) in zip(images, places, strict=True):
        try:
            batch.append(image.result())
        except ImageError as error:
            name = source.path_of(index)
            if unreadable is None:
                raise ImageError(f"{name}: {reason_of(error)}") from error
            unreadable(name, reason_of(error))
    return batch
