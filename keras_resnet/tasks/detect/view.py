"""Prediction on images of any size: the pixels given to a detector, and its boxes in pixels of the image."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from keras_resnet.answers import BOXES, NUM_DETECTIONS, Answer
from keras_resnet.preprocessing import fit_whole
from keras_resnet.tasks.base import Asked
from keras_resnet.variants import WholeImage


def answers(asked: Asked, images: Sequence[np.ndarray]) -> list[Answer]:
    """Network, images uint8 `[H, W, 3]` of any sizes -> boxes, scores and labels of each image, and maybe masks.

    Boxes are in pixels of the image, and lie in it. A box that lies on the filled part beside the image is left out.
    """
    contract = cast(WholeImage, asked.contract)
    found = asked.run(np.stack([fit_whole(pixels, contract) for pixels in images]))
    return [
        _in_image({name: values[index] for name, values in found.items()}, contract, *pixels.shape[:2])
        for index, pixels in enumerate(images)
    ]


def _in_image(answer: Answer, contract: WholeImage, height: int, width: int) -> Answer:
    """Answer of a network for one image, height and width of the image -> detections in its pixels."""
    area_height, area_width = contract.area_of(height, width)
    count = int(answer[NUM_DETECTIONS])
    scale = np.array([width / area_width, height / area_height] * 2, "float32")
    boxes = np.clip(answer[BOXES][:count] * scale, 0, np.array([width, height] * 2, "float32"))
    there = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    kept = {name: values[:count][there] for name, values in answer.items() if name != NUM_DETECTIONS}
    return {**kept, BOXES: boxes[there]}
