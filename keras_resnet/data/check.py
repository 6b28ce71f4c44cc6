"""A first pass over a set of images: unreadable files, unusual files, sizes, and hashes that find copies."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_resnet.data.base import Source
from keras_resnet.data.copies import hash_of_view
from keras_resnet.data.crop import describe_unusual
from keras_resnet.data.problems import Problem, reason_of
from keras_resnet.errors import ImageError
from keras_resnet.whole_images import whole_image

IN_TURN = 1024  # number of images whose results are awaited at a time
CHUNK = 16  # images that a thread checks in turn: to hand over each one takes a tenth of the time of a small image
PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)


@dataclass(frozen=True)
class Checked:
    """Result of decoding one image."""

    encoded: bytes | None  # None: the image can't be used
    pixels: np.ndarray | None
    target: np.ndarray | None
    problem: Problem | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (0, 0) if self.pixels is None else (self.pixels.shape[0], self.pixels.shape[1])


class Look(NamedTuple):
    """What a pass over a source found. The arrays have an entry for each image that can be used."""

    indices: np.ndarray  # int64 [n]: places of the images in the source
    sizes: np.ndarray  # int32 [n, 2]: height, width
    files: np.ndarray  # uint64 [n]: hash of the file, or of the pixels where there is no file
    views: np.ndarray | None  # uint64 [n]: perceptual hash, if it was wanted
    problems: list[Problem]  # by name


class _Row(NamedTuple):
    size: tuple[int, int]
    file: int
    view: int
    problem: Problem | None


def check_image(source: Source, index: int) -> Checked:
    """Index of an image -> its bytes, pixels, target and problem."""
    name = source.name_of(index)
    try:
        encoded, pixels, target = source.decode(index)
    except ImageError as error:
        return Checked(None, None, None, Problem(name, reason_of(error), used=False))
    notes = describe_unusual(encoded) if encoded else ""  # arrays have no encoded bytes
    return Checked(encoded, pixels, target, Problem(name, notes, used=True) if notes else None)


def check_source(source: Source, progress: Callable[[int, int], None], with_views: bool) -> Look:
    """Source, whether perceptual hashes are wanted -> what a pass over all of its images finds.

    Raises:
        MissingDependencyError: Perceptual hashes are wanted, and imagehash is not installed.
    """
    sizes = np.zeros((source.count, 2), np.int32)
    files, views = np.zeros((2, source.count), np.uint64)
    problems = []
    for index, row in enumerate(_rows(source, with_views)):
        sizes[index], files[index], views[index] = row.size, row.file, row.view
        if row.problem is not None:
            problems.append(row.problem)
        progress(index + 1, source.count)
    indices = np.flatnonzero(sizes[:, 0])
    seen = views[indices] if with_views else None
    return Look(indices, sizes[indices], files[indices], seen, sorted(problems, key=lambda problem: problem.name))


def _rows(source: Source, with_views: bool) -> Iterator[_Row]:
    def row(index: int) -> _Row:
        with whole_image():
            return row_of(check_image(source, index))

    def row_of(checked: Checked) -> _Row:
        if checked.pixels is None:
            return _Row((0, 0), 0, 0, checked.problem)
        digest = hashlib.blake2b(checked.encoded or checked.pixels.tobytes(), digest_size=8).digest()
        view = hash_of_view(checked.pixels) if with_views else 0
        return _Row(checked.size, int.from_bytes(digest), view, checked.problem)  # no pixels: results wait

    def rows(first: int) -> list[_Row]:
        return [row(index) for index in range(first, min(first + CHUNK, source.count))]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, source.count, IN_TURN):
            for chunk in pool.map(rows, range(start, min(start + IN_TURN, source.count), CHUNK)):
                yield from chunk


def percentiles(sizes: np.ndarray) -> dict[str, dict[str, int]]:
    """Heights and widths `[n, 2]` -> percentiles of width, height and short side, in pixels."""
    if not len(sizes):
        return {}
    columns = {"width": sizes[:, 1], "height": sizes[:, 0], "short_side": sizes.min(axis=1)}
    return {
        name: {str(p): int(v) for p, v in zip(PERCENTILES, np.percentile(column, PERCENTILES), strict=True)}
        for name, column in columns.items()
    }
