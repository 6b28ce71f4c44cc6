"""Outlines of objects -> which object each pixel belongs to.

Polygons are filled by pycocotools, whose rule decides which pixels of the border belong to the object. Run-length masks
are decoded here: the C code of pycocotools trusts its input, and these come from files of strangers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.optional import require
from keras_resnet.tasks.detect.stated import Corners, numbers

EXTRA = "detect"
MOST_OBJECTS = 65_535  # objects of an image with masks: an instance map has 16 bits
_FIRST_DIGIT, _DIGIT_BITS, _MORE, _SIGN = (
    48,
    5,
    0x20,
    0x10,
)  # digits of a compressed number; `rleToString` of pycocotools


def is_runs(outline: Any) -> bool:
    """Outline from a file -> whether it is a run-length mask of COCO, compressed or not."""
    return isinstance(outline, dict) and isinstance(outline.get("counts"), list | str)


def is_polygons(outline: Any) -> bool:
    return isinstance(outline, list)


def outline_problem(outline: Any, height: int, width: int) -> str:
    """Outline from a file, height and width of its image -> what is wrong with it, or an empty text."""
    if is_runs(outline):
        if outline.get("size") != [height, width]:
            return "run-length mask of another size than its image"
        return "" if runs_of(outline) is not None else "run-length mask that does not fill its image"
    if not is_polygons(outline):
        return "outline that is neither polygons nor a run-length mask"
    for polygon in outline:
        points = numbers(polygon) if isinstance(polygon, list) else None
        if points is None or len(points) < 6 or len(points) % 2:
            return "polygon without three points"
        # The time and memory of filling grow with the coordinates.
        if not all(-width <= x <= 2 * width for x in points[::2]):
            return "polygon far outside of its image"
        if not all(-height <= y <= 2 * height for y in points[1::2]):
            return "polygon far outside of its image"
    return ""


def runs_of(outline: Any) -> np.ndarray | None:
    """Run-length mask -> lengths of its runs, int64: background first, then in turn, by columns from the left; None:
    they are damaged, or do not add up to the size that it states."""
    counts, size = outline["counts"], outline.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        return None
    if isinstance(counts, str):
        runs = _uncompressed(counts)
    elif all(type(count) is int and 0 <= count < 1 << 62 for count in counts):
        runs = np.array(counts, np.int64)
    else:
        return None
    if runs is None or runs.size == 0 or runs.min() < 0 or sum(runs.tolist()) != size[0] * size[1]:
        return None
    return runs


def _uncompressed(text: str) -> np.ndarray | None:
    """Compressed runs -> their lengths: digits of five bits each, and from the fourth run on, differences to the run
    before the last."""
    digits = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - _FIRST_DIGIT
    if not digits.size or digits.min() < 0 or digits.max() >= 2 * _MORE or digits[-1] & _MORE:
        return None
    last = np.flatnonzero(digits & _MORE == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 12:  # no number of an image has more digits
        return None
    places = _DIGIT_BITS * (np.arange(len(digits)) - np.repeat(first, length))
    values = np.add.reduceat((digits & (_MORE - 1)) << places, first)
    values -= np.where(digits[last] & _SIGN, np.int64(1) << (_DIGIT_BITS * length), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def box_of_runs(outline: Any) -> Corners | None:
    """Run-length mask -> corners of the smallest box that holds it; None: it is damaged, or empty."""
    runs = runs_of(outline)
    if runs is None:
        return None
    columns, rows = np.divmod(_pixels_of_runs(runs), outline["size"][0])
    if not len(rows):
        return None
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def _pixels_of_runs(runs: np.ndarray) -> np.ndarray:
    """Lengths of runs -> places of the object's pixels, counted by columns, int64."""
    starts, lengths = (np.cumsum(runs) - runs)[1::2], runs[1::2]
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def instance_map(outlines: Sequence[Any], height: int, width: int) -> np.ndarray:
    """Outlines without problems, None where an object has none -> uint16 `[height, width]`: 0 is background, k is the
    outline at place k - 1. Where outlines overlap, the smaller one is on top.

    Raises:
        MissingDependencyError: There are polygons, and pycocotools is not installed.
    """
    found = [
        (place, _pixels(outline, height, width))
        for place, outline in enumerate(outlines, start=1)
        if outline is not None
    ]
    columns = np.zeros(width * height, np.uint16)
    for place, pixels in sorted(found, key=lambda each: -len(each[1])):
        columns[pixels] = place
    return np.ascontiguousarray(columns.reshape(width, height).T)


def _pixels(outline: Any, height: int, width: int) -> np.ndarray:
    """Outline without problems -> places of its pixels, counted by columns."""
    if is_runs(outline):
        return _pixels_of_runs(runs_of(outline))  # type: ignore[arg-type]  # it has no problems
    coco = require("pycocotools.mask", EXTRA)
    polygons = [[float(value) for value in polygon] for polygon in outline]
    return np.flatnonzero(coco.decode(coco.merge(coco.frPyObjects(polygons, height, width))).T)
