"""A classifier's answers as lines of text."""

from collections.abc import Callable, Sequence

import numpy as np

from keras_resnet.answers import PROBABILITIES, Answer
from keras_resnet.labels import decode_predictions, imagenet_labels
from keras_resnet.tasks.base import Asked, Tell


def class_printer(
    asked: Asked, paths: Sequence[str], top: int, tell: Tell
) -> Callable[[int, np.ndarray, Answer], None]:
    """Network, image files, number of classes -> function that prints the most probable classes of an image."""
    named = asked.class_names
    if named is not None and list(named) == [name for _, name in imagenet_labels()]:
        named = None  # decode_predictions knows the names and their wnids

    def show(place: int, pixels: np.ndarray, answer: Answer) -> None:
        probabilities = answer[PROBABILITIES][None]
        classes = probabilities.shape[1]
        names = [f"class {index}" for index in range(classes)] if named is None and classes != 1000 else named
        [best] = decode_predictions(probabilities, min(top, classes), names)
        tell(paths[place])
        for wnid, name, probability in best:
            tell(f"  {100 * probability:6.2f} %  {name if names else f'{wnid}  {name}'}")

    return show
