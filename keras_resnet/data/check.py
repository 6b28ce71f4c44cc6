"""A first pass over a set of images: unreadable files, unusual files, and sizes."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_resnet.data.arrays import ArraySource
from keras_resnet.data.base import EncodedSource, Source
from keras_resnet.data.crop import describe_unusual
from keras_resnet.data.problems import Problem, reason_of
from keras_resnet.errors import ImageError

IN_TURN = 1024  # number of images whose results are awaited at a time
PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)


@dataclass(frozen=True)
class Checked:
    """Result of decoding one image."""

    encoded: bytes | None  # None: the image can't be used
    target: np.ndarray | None
    size: tuple[int, int]  # height, width in pixels
    problem: Problem | None

    @property
    def digest(self) -> str | None:
        """Hash of the file, which finds images that are equal."""
        return None if self.encoded is None else hashlib.blake2b(self.encoded, digest_size=16).hexdigest()


class Look(NamedTuple):
    """What a pass over a source found."""

    sizes: np.ndarray  # height and width of each image that can be used, [n, 2]
    problems: list[Problem]  # by name
    names: dict[str, str]  # hash of a file -> the first image with it


def check_image(source: EncodedSource, index: int) -> Checked:
    """Index of an image -> its bytes, target, size and problem."""
    name = source.name_of(index)
    try:
        encoded, pixels, target = source.decode(index)
    except ImageError as error:
        return Checked(None, None, (0, 0), Problem(name, reason_of(error), used=False))
    notes = describe_unusual(encoded)
    return Checked(encoded, target, pixels.shape[:2], Problem(name, notes, used=True) if notes else None)


def check_source(source: Source, progress: Callable[[int, int], None]) -> Look:
    """Source -> what a pass over all of its images finds."""
    if isinstance(source, ArraySource):
        return Look(np.tile(source.images.shape[1:3], (source.count, 1)), [], {})
    sizes, problems = [], []
    names: dict[str, str] = {}
    for done, (size, problem, digest) in enumerate(_checked(source), start=1):  # type: ignore[arg-type]
        if digest is not None:
            names.setdefault(digest, source.name_of(done - 1))
        if problem is not None:
            problems.append(problem)
        if size != (0, 0):
            sizes.append(size)
        progress(done, source.count)
    return Look(np.array(sizes).reshape(-1, 2), sorted(problems, key=lambda problem: problem.name), names)


def _checked(source: EncodedSource) -> Iterator[tuple[tuple[int, int], Problem | None, str | None]]:
    def check(index: int) -> tuple[tuple[int, int], Problem | None, str | None]:
        checked = check_image(source, index)
        return checked.size, checked.problem, checked.digest  # not the bytes: results wait for their turn

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, source.count, IN_TURN):
            yield from pool.map(check, range(start, min(start + IN_TURN, source.count)))


def percentiles(sizes: np.ndarray) -> dict[str, dict[str, int]]:
    """Heights and widths `[n, 2]` -> percentiles of width, height and short side, in pixels."""
    if not len(sizes):
        return {}
    columns = {"width": sizes[:, 1], "height": sizes[:, 0], "short_side": sizes.min(axis=1)}
    return {
        name: {str(p): int(v) for p, v in zip(PERCENTILES, np.percentile(column, PERCENTILES), strict=True)}
        for name, column in columns.items()
    }
