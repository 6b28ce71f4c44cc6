"""What speaks for a detection: D-RISE (Petsiuk et al. 2021, arXiv 2006.03204), by random masks.

A mask shows about half of the image, in cells with soft edges, and the mean colour covers the rest. The detector
answers on many masked images. A pixel speaks for a detection if something more similar to it is found where the pixel
is visible. Only answers are needed, so that a detector in any runtime can be explained. Grad-CAM would need gradients
through the choice of boxes, which no artifact has.

The paper sums the masks weighted by the similarity. Here the mean similarity is subtracted first, which takes away what
the number of masks that show a pixel adds by chance. The similarity of a detection is its IoU with the explained one,
times its score, if it has the same class. The paper compares the scores of all classes, which detectors do not answer.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, NUM_DETECTIONS, Answer
from keras_resnet.evaluation.detection import DECIDED_SCORE, ious
from keras_resnet.preprocessing import MEAN_COLOUR, fit_whole
from keras_resnet.tasks.base import Asked
from keras_resnet.variants import WholeImage

MASKS = 1000
CELLS = 16  # cells of a mask in a row and in a column, as in the paper
VISIBLE = 0.5  # share of the cells that show the image, as in the paper
SEED = 0
BATCH = 4  # masked images that the detector is given at once; its boxes take hundreds of MB an image
ROUNDING = 1e-9  # a smaller covariance is none


class ExplainedDetections(NamedTuple):
    """Detections in one image, the best first, with a heatmap of each, in pixels as the network sees the image."""

    pixels: np.ndarray  # uint8 [h, w, 3]
    boxes: np.ndarray  # [T, 4]
    scores: np.ndarray  # [T]
    labels: np.ndarray  # [T]
    heat: np.ndarray  # float32 [T, h, w] in 0..1; the largest value is 1; all are 0 if nothing speaks for a detection


def d_rise(
    asked: Asked,
    pixels: np.ndarray,
    class_index: int | None = None,
    top: int = 1,
    masks: int = MASKS,
    show: Callable[[int], None] = lambda done: None,
) -> ExplainedDetections:
    """Detector (`load(...).asked`), one image uint8 RGB `[H, W, 3]` of any size -> its best detections with heatmaps
    `[T, h, w]`.

    Args:
        class_index: A class, whose best detections are explained whatever their scores. Default: all classes, and
            detections with a score of 0.5 or more.
        top: Largest number of detections. They share the masked images, and so cost no more than one.
        masks: Number of masked images. The heatmap's noise falls with their square root.
        show: Called with the number of masked images that are done.
    """
    contract = cast(WholeImage, asked.contract)
    height, width = contract.area_of(*pixels.shape[:2])
    whole = fit_whole(pixels, contract)
    seen = whole[:height, :width]
    targets = _chosen(_detections(asked.run(whole[None]), 0), class_index, top)
    boxes, labels = targets[BOXES], targets[LABELS]
    if not len(boxes):
        return ExplainedDetections(seen, boxes, targets[BOX_SCORES], labels, np.zeros((0, height, width), "float32"))

    generator = np.random.default_rng(SEED)
    mean = np.array(MEAN_COLOUR, "float32")
    weighted = np.zeros((len(boxes), height, width))
    shown, total = np.zeros((height, width)), np.zeros(len(boxes))
    for start in range(0, masks, BATCH):
        some = np.stack([_mask(height, width, generator) for _ in range(min(BATCH, masks - start))])  # [B, h, w]
        pictures = np.repeat(whole[None], len(some), axis=0)
        pictures[:, :height, :width] = np.round(mean + some[..., None] * (seen - mean))
        answer = asked.run(pictures)
        similar = np.stack([_similarity(_detections(answer, row), boxes, labels) for row in range(len(some))])  # [B, T]
        weighted += np.einsum("bt,bhw->thw", similar, some)
        shown += some.sum(axis=0, dtype="float64")
        total += similar.sum(axis=0)
        show(start + len(some))
    covariance = weighted / masks - (total / masks)[:, None, None] * (shown / masks)
    largest = covariance.max(axis=(1, 2), keepdims=True)
    heat = np.divide(covariance, largest, out=np.zeros_like(covariance), where=largest > ROUNDING)
    heat = np.maximum(heat, 0).astype("float32")
    return ExplainedDetections(seen, boxes, targets[BOX_SCORES], labels, heat)


def _detections(answer: Answer, row: int) -> Answer:
    """Answer of a batch, row of an image -> boxes, scores and labels of its detections."""
    count = int(answer[NUM_DETECTIONS][row])
    return {name: answer[name][row][:count] for name in (BOXES, BOX_SCORES, LABELS)}


def _chosen(found: Answer, class_index: int | None, top: int) -> Answer:
    wanted = found[BOX_SCORES] >= DECIDED_SCORE if class_index is None else found[LABELS] == class_index
    places = np.flatnonzero(wanted)[:top]
    return {name: values[places] for name, values in found.items()}


def _mask(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """-> float32 `[height, width]` in 0..1: cells that are 0 or 1 at random, with soft edges, moved by a part of a cell
    at random."""
    cell_height, cell_width = -(-height // CELLS), -(-width // CELLS)
    cells = (generator.random((CELLS + 1, CELLS + 1)) < VISIBLE).astype("float32")
    size = ((CELLS + 1) * cell_width, (CELLS + 1) * cell_height)
    soft = np.asarray(Image.fromarray(cells).resize(size, Image.Resampling.BILINEAR))
    top, left = generator.integers(0, (cell_height, cell_width))
    return soft[top : top + height, left : left + width]


def _similarity(found: Answer, boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Detections in a masked image, the explained boxes `[T, 4]` and classes `[T]` -> `[T]`: the largest IoU times
    score of a detection of the class."""
    overlap = ious(boxes, found[BOXES]) * found[BOX_SCORES] * (labels[:, None] == found[LABELS])
    return overlap.max(axis=1, initial=0)
