"""Values of each image as lines of text."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.tasks.base import Asked


def value_printer(
    asked: Asked, paths: Sequence[Path], top: int, output: str
) -> Callable[[int, np.ndarray, Answer], None]:
    """Network, image files, number of values, output -> function that prints the first values of an image."""

    def show(place: int, pixels: np.ndarray, answer: Answer) -> None:
        values = answer[output]
        print(paths[place])
        for index, value in enumerate(values[:top]):
            print(f"  {value:12.6g}  {asked.class_names[index] if asked.class_names else f'{output} {index}'}")
        if len(values) > top:
            print(f"  ... {len(values)} {output} in all, of length {np.linalg.norm(values):.6g}")

    return show
