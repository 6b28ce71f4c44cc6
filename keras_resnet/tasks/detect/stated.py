"""What annotation files state about the objects in images, before any of it is checked."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet.data.taken import LeftAside

Corners = tuple[float, ...]  # left, top, right, bottom


class Stated(NamedTuple):
    """One object as a file states it."""

    place: str  # where the file states it, for example "box 3", counted from 1
    class_name: str | None  # None: the file refers to a class that it does not name
    corners: Corners | None  # None: the file has no four numbers
    outline: Any = None  # polygons, each a list x, y, x, y, ...; or a run-length mask of COCO; None: only a box
    ignored: bool = False  # whether it is neither to be taught nor to count as background: a crowd, a difficult object


class Picture(NamedTuple):
    """One image, and what a file states about it."""

    file: str  # relative to the root of its set, or absolute
    split: str | None  # "train", "val" or "test"; None: the data has no splits
    size: tuple[int, int] | None  # stated height and width; None: not stated
    objects: Sequence[Stated]
    relative: bool = False  # whether coordinates are shares of the image's sides, and not pixels


class Annotations(NamedTuple):
    """A set of images with their stated objects."""

    root: Path
    layout: str  # the kind of the files, in words
    pictures: Sequence[Picture]
    classes: Sequence[str] | None  # names in the order of the files; None: the files have no list of names
    aside: LeftAside


def numbers(values: Iterable[Any]) -> Corners | None:
    """Values from a file -> floats; None: one is no number."""
    try:
        return tuple(map(float, values))
    except (TypeError, ValueError, OverflowError):
        return None


def box_around(points: Sequence[float]) -> Corners:
    """x, y, x, y, ... -> the smallest box that holds all points."""
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def stated_size(height: Any, width: Any) -> tuple[int, int] | None:
    """Height and width from a file -> both as whole numbers above 0; None: the file does not state them."""
    found = numbers((height, width))
    if found is None or not all(1 <= side < 1 << 31 and side == int(side) for side in found):
        return None
    return int(found[0]), int(found[1])
