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
    """Network, image files, largest number of classes, threshold or None -> function that prints an image's classes.

    Without a threshold, the network's own applies. The most probable class comes first.
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
            print(f"  no class with at least {100 * least:.2f} %")
        if len(found) > top:
            print(f"  and {len(found) - top} more (--top)")

    return show
