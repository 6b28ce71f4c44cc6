"""A tagging network's answers as lines of text."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_resnet.answers import PROBABILITIES
from keras_resnet.tasks.base import Answer, Asked
from keras_resnet.tasks.tag.evaluation import threshold_of


def tag_printer(
    asked: Asked, paths: Sequence[Path], top: int, threshold: float | None = None
) -> Callable[[int, np.ndarray, Answer], None]:
    """Network, image files, classes to name at most, threshold or None -> what prints the classes of an image.

    Without a threshold, it is the network's own. The most probable class comes first.
    """
    least = threshold_of(asked) if threshold is None else threshold

    def show(place: int, pixels: np.ndarray, answer: Answer) -> None:
        probabilities = answer[PROBABILITIES]
        names = asked.class_names or [f"class {index}" for index in range(len(probabilities))]
        order = np.argsort(-probabilities, kind="stable")
        found = order[probabilities[order] >= least]
        print(paths[place])
        for index in found[:top]:
            print(f"  {100 * probabilities[index]:6.2f} %  {names[index]}")
        if not len(found):
            print(f"  no class from {100 * least:.2f} % on")
        if len(found) > top:
            print(f"  and {len(found) - top} more (--top)")

    return show
