"""Prediction on images of any size: the pixels given to a detector, and its boxes in pixels of the image."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, MASKS, NUM_DETECTIONS, Answer
from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation.detection import ious
from keras_resnet.evaluation.segmentation import window_starts
from keras_resnet.masks_in_boxes import masks_of_parts
from keras_resnet.preprocessing import fit_whole
from keras_resnet.tasks.base import Asked
from keras_resnet.variants import WholeImage

LARGEST_IOU = 0.5  # largest IoU of two detections of a class; the networks themselves have this default
BORDER_SHARE = 0.01  # share of a window's side: an object that ends nearer to the border may have been cut off


class _Part(NamedTuple):
    """A part of an image that a network is given."""

    image: int  # place of the image
    top: int
    left: int
    pixels: np.ndarray


def answers(asked: Asked, images: Sequence[np.ndarray], window: tuple[int, int] | None = None) -> list[Answer]:
    """Network, images uint8 `[H, W, 3]` of any sizes -> boxes, scores and labels of each image, and maybe masks.

    Boxes are in pixels of the image, and lie in it; the best come first. A box that lies on the filled part beside the
    image is left out.

    Args:
        window: Height and width of the windows in which a larger image is given as well. They overlap by half. A
            detection at a border that a window has inside of the image is left out: another window, or the whole
            image, shows its object uncut. Of overlapping detections of a class, the best remains.
    """
    contract = cast(WholeImage, asked.contract)
    parts = [part for place, pixels in enumerate(images) for part in _parts(place, pixels, window)]
    found: list[list[Answer]] = [[] for _ in images]
    for start in range(0, len(parts), len(images)):  # the caller gives as many images as go through the network at once
        batch = parts[start : start + len(images)]
        answer = asked.run(np.stack([fit_whole(part.pixels, contract) for part in batch]))
        if BOXES not in answer:
            raise ArgumentError(
                f"{asked.name}: must give boxes. Received: a file of --raw-heads, which gives {', '.join(answer)}. Run "
                "it in its own runtime, with your own post-processing"
            )
        for index, part in enumerate(batch):
            own = _in_part({name: values[index] for name, values in answer.items()}, contract, *part.pixels.shape[:2])
            found[part.image].append(_in_image(own, part, *images[part.image].shape[:2]))
    return [each[0] if len(each) == 1 else _merged(each) for each in found]


def _parts(place: int, pixels: np.ndarray, window: tuple[int, int] | None) -> Iterator[_Part]:
    """-> the whole image, and the windows of a larger one."""
    yield _Part(place, 0, 0, pixels)
    height, width = pixels.shape[:2]
    if window is None or (height <= window[0] and width <= window[1]):
        return
    for top in window_starts(height, window[0]):
        for left in window_starts(width, window[1]):
            yield _Part(place, top, left, pixels[top : top + window[0], left : left + window[1]])


def _in_part(answer: Answer, contract: WholeImage, height: int, width: int) -> Answer:
    """Answer of a network for one part, height and width of the part -> detections in its pixels."""
    area_height, area_width = contract.area_of(height, width)
    count = int(answer[NUM_DETECTIONS])
    scale = np.array([width / area_width, height / area_height] * 2, "float32")
    whole = answer[BOXES][:count] * scale
    boxes = np.clip(whole, 0, np.array([width, height] * 2, "float32"))
    there = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    kept = {name: values[:count][there] for name, values in answer.items() if name != NUM_DETECTIONS}
    if MASKS in kept:
        kept[MASKS] = masks_of_parts(kept[MASKS], whole[there], boxes[there])
    return {**kept, BOXES: boxes[there]}


def _in_image(answer: Answer, part: _Part, height: int, width: int) -> Answer:
    """Detections in a part of an image, height and width of the image -> the uncut ones, in pixels of the image."""
    rows, columns = part.pixels.shape[:2]
    boxes = answer[BOXES]
    far = BORDER_SHARE * np.array([columns, rows])
    # A border of the image cuts nothing off that could be seen in another window.
    first = np.array([0 if part.left == 0 else far[0], 0 if part.top == 0 else far[1]])
    last = np.array([columns, rows]) - [
        0 if part.left + columns == width else far[0],
        0 if part.top + rows == height else far[1],
    ]
    uncut = ((boxes[:, :2] >= first) & (boxes[:, 2:] <= last)).all(axis=1)
    moved = boxes + np.array([part.left, part.top] * 2, "float32")
    return {name: values[uncut] for name, values in {**answer, BOXES: moved}.items()}


def _merged(parts: Sequence[Answer]) -> Answer:
    """Detections in all parts of an image -> detections in the image, the best first, without duplicates."""
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(-found[BOX_SCORES], kind="stable")
    boxes, labels = found[BOXES][order], found[LABELS][order]
    free, kept = np.ones(len(order), bool), []
    for place in range(len(order)):
        if free[place]:
            kept.append(place)
            later = place + 1 + np.flatnonzero(free[place + 1 :] & (labels[place + 1 :] == labels[place]))
            free[later[ious(boxes[place : place + 1], boxes[later])[0] > LARGEST_IOU]] = False
    return {name: values[order[kept]] for name, values in found.items()}
