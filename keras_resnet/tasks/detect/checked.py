"""Stated objects -> objects that can be taught. What can't is left aside by reason, with its place in the files."""

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ImageError
from keras_resnet.optional import require
from keras_resnet.preprocessing import image_size
from keras_resnet.tasks.detect.outlines import EXTRA, MOST_OBJECTS, is_polygons, outline_problem
from keras_resnet.tasks.detect.stated import Annotations, Picture, Stated

SMALLEST_PIXELS = 0.01  # shorter sides count as zero: float32 does not tell them from it in a large image
ROUNDED_PIXELS = 1.0  # by which the box of an object at the border may stick out, without a word
NOT_THERE = "image that does not exist"
TWICE = "image that is listed twice"
NO_NUMBERS = "box without four numbers"
NOT_FINITE = "box with a number that is not finite"
NO_SIZE = "box of zero or negative size"
OUTSIDE = "box outside of its image"
CUT = "part of a box outside of its image"
NOT_NAMED = "box of a class that the data does not name"
NOT_KNOWN = "box of a class that is not among the classes"
TOO_MANY = f"object beyond the {MOST_OBJECTS:,} of its image"
NOT_ALL = "outline, since other objects have only a box"


class Objects(NamedTuple):
    """One image, and the objects in it that can be used."""

    file: str
    split: str | None
    size: tuple[int, int]  # height and width; (0, 0): the image can't be read, and has no objects
    boxes: np.ndarray  # float32 [n, 4]: left, top, right, bottom in pixels, inside of the image
    classes: np.ndarray  # int32 [n]
    ignored: np.ndarray  # bool [n]: neither taught nor background
    outlines: Sequence[Any]  # one for each object; empty where the set has only boxes


class _Usable(NamedTuple):
    corners: tuple[float, float, float, float]
    place: int
    ignored: bool
    outline: Any


def check(annotations: Annotations, known: Mapping[str, int]) -> tuple[list[Objects], bool]:
    """Annotations, index of each name of a class -> images with usable objects, whether the objects have outlines.

    Objects have outlines if each that is taught has one.

    Raises:
        MissingDependencyError: There are polygons, and pycocotools is not installed.
    """
    aside = annotations.aside
    pictures = _with_sizes(annotations.root, _there(annotations))
    taught = [(each, picture) for picture in pictures for each in picture.objects if not each.ignored]
    outlined = [(each, picture) for each, picture in taught if each.outline is not None]
    has_outlines = 0 < len(outlined) == len(taught)
    if outlined and not has_outlines:
        aside.add(NOT_ALL, _named(outlined[0][1], outlined[0][0]), len(outlined))
    if has_outlines and any(is_polygons(each.outline) for picture in pictures for each in picture.objects):
        require("pycocotools.mask", EXTRA)
    return [_checked(picture, known, has_outlines, aside) for picture in pictures], has_outlines


def _there(annotations: Annotations) -> list[Picture]:
    """-> the pictures whose files exist, each once."""
    there: dict[str, Picture] = {}
    for picture in annotations.pictures:
        name = os.path.normpath(picture.file)
        if not os.path.isfile(annotations.root / name):
            annotations.aside.add(NOT_THERE, name)
        elif name in there:
            annotations.aside.add(TWICE, name)
        else:
            there[name] = picture._replace(file=name)
    return [*there.values()]


def _with_sizes(root: Path, pictures: Sequence[Picture]) -> list[Picture]:
    """-> the pictures with sizes. One that no file states is read from the image."""

    def with_size(picture: Picture) -> Picture:
        if picture.size is not None:
            return picture
        try:
            return picture._replace(size=image_size(root / picture.file))
        except ImageError:  # the pipeline reports it
            return picture._replace(size=(0, 0), objects=())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [*pool.map(with_size, pictures)]


def _checked(picture: Picture, known: Mapping[str, int], has_outlines: bool, aside: LeftAside) -> Objects:
    height, width = picture.size or (0, 0)
    usable: list[_Usable] = []
    for stated in picture.objects:
        found = _usable(stated, known, (height, width), picture.relative, has_outlines)
        if isinstance(found, str):
            aside.add(found, _named(picture, stated))
        elif len(usable) == MOST_OBJECTS:
            aside.add(TOO_MANY, _named(picture, stated))
        else:
            left, top, right, bottom = found.corners
            inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
            if max(abs(a - b) for a, b in zip(inside, found.corners, strict=True)) > ROUNDED_PIXELS:
                aside.add(CUT, _named(picture, stated))
            usable.append(found._replace(corners=inside))
    return Objects(
        picture.file,
        picture.split,
        (height, width),
        np.array([each.corners for each in usable], "float32").reshape(-1, 4),
        np.array([each.place for each in usable], "int32"),
        np.array([each.ignored for each in usable], bool),
        [each.outline for each in usable] if has_outlines else [],
    )


def _usable(
    stated: Stated, known: Mapping[str, int], size: tuple[int, int], relative: bool, has_outlines: bool
) -> _Usable | str:
    """Stated object -> the object in pixels, or the reason for which it is left aside."""
    height, width = size
    if stated.class_name is None:
        return NOT_NAMED
    if stated.class_name not in known:
        return NOT_KNOWN
    if stated.corners is None or len(stated.corners) != 4:
        return NO_NUMBERS
    if not all(map(math.isfinite, stated.corners)):
        return NOT_FINITE
    left, top, right, bottom = stated.corners
    if relative:
        left, top, right, bottom = left * width, top * height, right * width, bottom * height
    if right - left < SMALLEST_PIXELS or bottom - top < SMALLEST_PIXELS:
        return NO_SIZE
    if min(right, width) - max(left, 0) < SMALLEST_PIXELS or min(bottom, height) - max(top, 0) < SMALLEST_PIXELS:
        return OUTSIDE
    outline = stated.outline if has_outlines else None
    if outline is not None:
        if relative:  # the polygons of YOLO
            outline = [
                [value * side for value, side in zip(p, [width, height] * len(p), strict=False)] for p in outline
            ]
        if reason := outline_problem(outline, height, width):
            return reason
    return _Usable((left, top, right, bottom), known[stated.class_name], stated.ignored, outline)


def _named(picture: Picture, stated: Stated) -> str:
    return f"{picture.file}, {stated.place}"
