"""Prediction on images of any size: the parts given to a segmentation network, and its answer for each pixel."""

import functools
import logging
from collections.abc import Sequence
from typing import cast

import numpy as np

from keras_resnet.answers import MASK, PROBABILITIES, Answer
from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation.segmentation import pixel_classes, pixel_scores, resized, resized_classes
from keras_resnet.preprocessing import fit_whole
from keras_resnet.printable import printable
from keras_resnet.tasks.base import Asked
from keras_resnet.variants import WholeImage

# A network of free size over ResNet-50 takes about a kilobyte a pixel beside its 1.4 GB.
WHOLE_PIXELS = 2048 * 1024
WINDOW = (1024, 1024)
_LOG = logging.getLogger("keras_resnet")


def answers(
    asked: Asked,
    images: Sequence[np.ndarray],
    window: tuple[int, int] | None = None,
    longest_side: int | None = None,
    decided: bool = False,
) -> list[Answer]:
    """Network, images uint8 `[H, W, 3]` of any sizes -> probabilities float32 `[H, W, classes]` of each image.

    A network of free size is given an image of more than `WHOLE_PIXELS` in windows of `WINDOW`, and a line is logged.

    Args:
        window: Height and width of the windows for larger images; they overlap by half.
        longest_side: Longest side in pixels; larger images are resized to it first.
        decided: Answer with the class of each pixel instead, uint8 `[H, W]`, which takes far less memory.

    Raises:
        ArgumentError: The network has a fixed size that does not allow the window or the bound.
    """

    def run(batch: np.ndarray) -> np.ndarray:
        return _scores(asked.run(batch), asked.classes)

    of_pixels, scaled = (pixel_classes, resized_classes) if decided else (pixel_scores, resized)

    def answer_of(pixels: np.ndarray) -> np.ndarray:
        contract = bounded(cast(WholeImage, asked.contract), pixels.shape, longest_side)
        part = window or _window_of(asked, contract, pixels)
        if part is None or contract == asked.contract:
            return of_pixels(run, pixels, contract, part)
        smaller = pixel_scores(run, fit_whole(pixels, contract), WholeImage(), part)
        return scaled(smaller, *pixels.shape[:2])

    return [{MASK if decided else PROBABILITIES: answer_of(pixels)} for pixels in images]


def _window_of(asked: Asked, contract: WholeImage, pixels: np.ndarray) -> tuple[int, int] | None:
    """Network, contract for an image, the image -> window, where the network would take too much memory for it."""
    height, width = pixels.shape[:2] if contract.height is None else contract.sides
    if cast(WholeImage, asked.contract).height is not None or height * width <= WHOLE_PIXELS:
        return None
    _tell(asked.name, height, width)
    return WINDOW


@functools.lru_cache(maxsize=128)  # one line for all images of a size
def _tell(name: str, height: int, width: int) -> None:
    _LOG.warning(
        "%s",
        printable(
            f"{name}: images of {height}x{width} pixels (height x width) are given in windows of "
            f"{WINDOW[0]}x{WINDOW[1]}, because more than {WHOLE_PIXELS:,} pixels at once take gigabytes. `predict` "
            f"takes other windows by --window HxW, and whole images by --window {height}x{width}"
        ),
    )


def _scores(answer: Answer, classes: int) -> np.ndarray:
    """Answer of a network, number of classes -> scores `[N, H, W, classes]`; from a mask, scores are 0 and 1."""
    if MASK in answer:
        return np.eye(classes, dtype=np.float32)[answer[MASK]]
    return answer[PROBABILITIES]


def bounded(contract: WholeImage, shape: tuple[int, ...], longest_side: int | None) -> WholeImage:
    """Network's contract, shape of an image `(H, W, 3)`, bound on its longest side -> contract for this image.

    Raises:
        ArgumentError: A bound is given for a network of fixed size.
    """
    if longest_side is None:
        return contract
    if contract.height is not None:
        raise ArgumentError(
            f"--longest-side is only for networks of any size; this network takes {contract.height}x{contract.width}. "
            f"Received: {longest_side}"
        )
    height, width = shape[:2]
    if max(height, width) <= longest_side:
        return contract
    return WholeImage(*WholeImage(longest_side, longest_side).area_of(height, width))
