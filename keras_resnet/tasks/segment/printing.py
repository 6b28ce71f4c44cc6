"""A segmentation network's answers as lines of text, and as pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_resnet.answers import PROBABILITIES, Answer
from keras_resnet.optional import require
from keras_resnet.tasks.base import Asked
from keras_resnet.tasks.segment.overlay import draw_overlay, mask_png, palette, shares_percent
from keras_resnet.whole_files import targets_of, write_whole


def mask_printer(
    asked: Asked, paths: Sequence[Path], top: int, out: Path | None = None
) -> Callable[[int, np.ndarray, Answer], None]:
    """Network, image files, number of classes, folder -> function that prints the largest classes of an image.

    With a folder, the function writes the mask and an overlay of each image there.

    Raises:
        MissingDependencyError: Pictures need matplotlib, which is not installed.
    """
    if out is not None:
        require("matplotlib", "plots")
        out.mkdir(parents=True, exist_ok=True)
    masks, overlays = (targets_of(paths, out or Path(), suffix) for suffix in ("_mask.png", "_overlay.png"))

    def show(place: int, pixels: np.ndarray, answer: Answer) -> None:
        scores = answer[PROBABILITIES]
        mask = scores.argmax(axis=-1).astype("uint8")
        names = asked.class_names or [f"class {index}" for index in range(scores.shape[-1])]
        print(paths[place])
        for index, share in list(shares_percent(mask).items())[:top]:
            print(f"  {share:6.2f} %  {names[index]}")
        if out is not None:
            colours = palette(len(names))
            write_whole(masks[place], mask_png(mask, colours))
            write_whole(overlays[place], draw_overlay(pixels, mask, names, colours))
            print(f"  {masks[place]}, {overlays[place]}")

    return show
