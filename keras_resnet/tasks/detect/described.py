"""What the description of a detector's file states beside its outputs: its post-processing, or the anchors.

A description comes from a file that anyone may have written: each value is checked.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_resnet.tasks.detect.outputs import ANCHOR_MAPS
from keras_resnet.variants import LARGEST_SIDE


class Bounds(NamedTuple):
    """Smallest and largest value of a setting, and its type."""

    least: int
    most: int
    kind: type


# Suppression compares all pairs of so many boxes, so that the largest number of them bounds the memory.
BOUNDS: Mapping[str, Bounds] = {
    "score_threshold": Bounds(0, 1, float),
    "iou_threshold": Bounds(0, 1, float),
    "max_detections": Bounds(1, 10_000, int),
}
MOST_CLASSES = 1_000_000
RATIOS = 3


def wrong_setting(settings: Mapping[str, Any]) -> str | None:
    """Settings of the post-processing by name -> what is wrong with the first wrong one; None: nothing."""
    for name, value in settings.items():
        least, most, kind = BOUNDS[name]
        if not _is_number(value, kind) or not least <= value <= most:
            what = "a whole number" if kind is int else "a number"
            return f"`{name}` must be {what} from {least} to {most:,}. Received: {name}={value!r}"[:200]
    return None


def checked_facts(given: Mapping[str, Any]) -> dict[str, Any]:
    """Untrusted facts from a file -> the settings of the post-processing, or the anchors of `--raw-heads`.

    Raises:
        ValueError: A value is invalid.
    """
    settings = {name: given[name] for name in BOUNDS if name in given}
    if wrong := wrong_setting(settings):
        raise ValueError(wrong)
    rules = {
        "classes": lambda value: _is_number(value, int) and 1 <= value <= MOST_CLASSES,
        "anchor_sizes": lambda value: _are_sides(value, len(ANCHOR_MAPS), float),
        "aspect_ratios": lambda value: _are_sides(value, RATIOS, float),
        "frame_sides": lambda value: _are_sides(value, 2, int),
        "image_sides_in_frame": lambda value: _are_sides(value, 2, int),
    }
    geometry = {name: given[name] for name in rules if name in given}
    for name, value in geometry.items():
        if not rules[name](value):
            raise ValueError(f"'{name}' must be as `export --raw-heads` writes it. Received: {value!r}"[:200])
    return {**settings, **geometry}


def _is_number(value: Any, kind: type) -> bool:
    kinds = (int,) if kind is int else (int, float)
    return type(value) in kinds and math.isfinite(value)


def _are_sides(value: Any, count: int, kind: type) -> bool:
    is_list = isinstance(value, list) and len(value) == count
    return is_list and all(_is_number(each, kind) and 0 < each <= 2 * LARGEST_SIDE for each in value)
