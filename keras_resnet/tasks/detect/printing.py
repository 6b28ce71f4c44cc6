"""A detector's answers as lines of text, and as pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, Answer
from keras_resnet.evaluation.detection import DECIDED_SCORE
from keras_resnet.optional import require
from keras_resnet.tasks.base import Asked, Tell
from keras_resnet.tasks.detect.answers import shown_of
from keras_resnet.tasks.detect.overlay import draw_detections
from keras_resnet.whole_files import targets_of, write_whole


def box_printer(
    asked: Asked, paths: Sequence[str], top: int, tell: Tell, out: Path | None = None, threshold: float | None = None
) -> Callable[[int, np.ndarray, Answer], None]:
    """Network, image files, number of objects, folder, smallest score -> function that prints the best objects of an
    image, with left, top, right and bottom.

    With a folder, the function writes a picture with all objects of at least that score there.

    Raises:
        MissingDependencyError: Pictures need matplotlib, which is not installed.
    """
    smallest = DECIDED_SCORE if threshold is None else threshold
    if out is not None:
        require("matplotlib", "plots")
        out.mkdir(parents=True, exist_ok=True)
        pictures = targets_of([*map(Path, paths)], out, "_objects.png")

    def show(place: int, pixels: np.ndarray, answer: Answer) -> None:
        found = shown_of(answer, smallest)
        tell(paths[place])
        for box, score, label in [*zip(found[BOXES], found[BOX_SCORES], found[LABELS], strict=True)][:top]:
            corners = " ".join(f"{side:6.0f}" for side in box)
            tell(f"  {100 * score:6.2f} %  {corners}  {asked.name_of(int(label))}")
        count = len(found[BOX_SCORES])
        if count > top:
            tell(f"  and {count - top} more")
        elif not count:
            tell(f"  no object with a score of {100 * smallest:g} % or more")
        if out is not None:
            names = [asked.name_of(index) for index in range(asked.classes)]
            write_whole(pictures[place], draw_detections(pixels, found, names))
            tell(f"  {pictures[place]}")

    return show
