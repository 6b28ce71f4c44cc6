"""Prediction on images of any size: the parts given to a segmentation network, and its answer for each pixel."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from keras_resnet.answers import MASK, PROBABILITIES, Answer
from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation.segmentation import pixel_scores, resized
from keras_resnet.preprocessing import fit_whole
from keras_resnet.tasks.base import Asked
from keras_resnet.variants import WholeImage


def answers(
    asked: Asked,
    images: Sequence[np.ndarray],
    window: tuple[int, int] | None = None,
    longest_side: int | None = None,
) -> list[Answer]:
    """Network, images uint8 `[H, W, 3]` of any sizes -> probabilities float32 `[H, W, classes]` of each image.

    Args:
        window: Height and width of the windows for larger images; they overlap by half.
        longest_side: Longest side in pixels; larger images are resized to it first.

    Raises:
        ArgumentError: The network has a fixed size that does not allow the window or the bound.
    """

    def run(batch: np.ndarray) -> np.ndarray:
        return _scores(asked.run(batch), asked.classes)

    def scores_of(pixels: np.ndarray) -> np.ndarray:
        contract = bounded(cast(WholeImage, asked.contract), pixels.shape, longest_side)
        if window is None or contract == asked.contract:
            return pixel_scores(run, pixels, contract, window)
        smaller = pixel_scores(run, fit_whole(pixels, contract), WholeImage(), window)
        return resized(smaller, *pixels.shape[:2])

    return [{PROBABILITIES: scores_of(pixels)} for pixels in images]


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
