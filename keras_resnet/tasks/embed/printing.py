"""Values of each image as lines of text."""

from collections.abc import Callable, Sequence

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.tasks.base import Asked, Tell


def value_printer(
    asked: Asked, paths: Sequence[str], top: int, tell: Tell, output: str
) -> Callable[[int, np.ndarray, Answer], None]:
    """Network, image files, number of values, output -> function that prints the first values of an image."""

    def show(place: int, pixels: np.ndarray, answer: Answer) -> None:
        values = answer[output]
        tell(paths[place])
        for index, value in enumerate(values[:top]):
            tell(f"  {value:12.6g}  {asked.class_names[index] if asked.class_names else f'{output} {index}'}")
        if len(values) > top:
            tell(f"  ... {len(values)} {output} in all, of length {np.linalg.norm(values):.6g}")

    return show
