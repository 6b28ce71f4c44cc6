"""A tagging network's answers as lines of text."""

from collections.abc import Callable, Sequence

import numpy as np

from keras_resnet.answers import PROBABILITIES
from keras_resnet.tasks.base import Answer, Asked, Ranked, Tell
from keras_resnet.tasks.tag.evaluation import threshold_of


def found_classes(asked: Asked, answer: Answer, threshold: float | None = None) -> Ranked:
    """Network, answer, threshold or None -> the classes from the threshold on, the most probable first.

    Without a threshold, the network's own applies.
    """
    probabilities = answer[PROBABILITIES]
    order = np.argsort(-probabilities, kind="stable")
    found = order[probabilities[order] >= (threshold_of(asked) if threshold is None else threshold)]
    return Ranked(found, probabilities[found])


def tag_printer(
    asked: Asked, paths: Sequence[str], top: int, tell: Tell, threshold: float | None = None
) -> Callable[[int, np.ndarray, Answer], None]:
    """Network, image files, largest number of classes, threshold or None -> function that prints an image's classes.

    Without a threshold, the network's own applies. The most probable class comes first.
    """
    least = threshold_of(asked) if threshold is None else threshold

    def show(place: int, pixels: np.ndarray, answer: Answer) -> None:
        found = found_classes(asked, answer, least)
        tell(paths[place])
        for index, probability in zip(found.indices[:top], found.numbers[:top], strict=True):
            tell(f"  {100 * probability:6.2f} %  {asked.name_of(index)}")
        if not len(found.indices):
            tell(f"  no class with at least {100 * least:.2f} %")
        if len(found.indices) > top:
            tell(f"  and {len(found.indices) - top} more (--top)")

    return show
