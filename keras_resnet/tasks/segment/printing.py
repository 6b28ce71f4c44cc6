"""A segmentation network's answers as lines of text, and as pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_resnet.answers import MASK, Answer
from keras_resnet.optional import require
from keras_resnet.tasks.base import Asked, Ranked, Tell
from keras_resnet.tasks.segment.overlay import draw_overlay, mask_png, palette, shares_percent
from keras_resnet.whole_files import targets_of, write_whole


def largest_classes(answer: Answer) -> Ranked:
    """Answer -> the classes in its mask with their percent of the pixels, the largest first."""
    shares = shares_percent(answer[MASK])
    return Ranked(np.array([*shares], int), np.array([*shares.values()]))


def mask_printer(
    asked: Asked, paths: Sequence[str], top: int, tell: Tell, out: Path | None = None
) -> Callable[[int, np.ndarray, Answer], None]:
    """Network, image files, number of classes, folder -> function that prints the largest classes of an image.

    With a folder, the function writes the mask and an overlay of each image there.

    Raises:
        MissingDependencyError: Pictures need matplotlib, which is not installed.
    """
    if out is not None:
        require("matplotlib", "plots")
        out.mkdir(parents=True, exist_ok=True)
        masks, overlays = (targets_of([*map(Path, paths)], out, name) for name in ("_mask.png", "_overlay.png"))

    def show(place: int, pixels: np.ndarray, answer: Answer) -> None:
        largest = largest_classes(answer)
        tell(paths[place])
        for index, share in zip(largest.indices[:top], largest.numbers[:top], strict=True):
            tell(f"  {share:6.2f} %  {asked.name_of(index)}")
        if out is not None:
            mask, names = answer[MASK], [asked.name_of(index) for index in range(asked.classes)]
            colours = palette(len(names))
            write_whole(masks[place], mask_png(mask, colours))
            write_whole(overlays[place], draw_overlay(pixels, mask, names, colours))
            tell(f"  {masks[place]}, {overlays[place]}")

    return show
