"""Answers of detectors for one image: the detections that are shown, and their form for the figures."""

import numpy as np

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, MASKS, Answer
from keras_resnet.evaluation.average_precision import Found
from keras_resnet.evaluation.run_lengths import run_lengths_of_boxes


def shown_of(answer: Answer, threshold: float | None, top: int | None = None) -> Answer:
    """Detections, the best first -> detections with a score of at least the threshold, at most `top` of them.

    None stands for no limit.
    """
    shown = np.flatnonzero(answer[BOX_SCORES] >= (0 if threshold is None else threshold))[:top]
    return {name: values[shown] for name, values in answer.items()}


def found_of(answer: Answer, height: int, width: int) -> Found:
    """Detections in an image of that height and width -> their form for the figures.

    Raises:
        MissingDependencyError: There are masks, and pycocotools is not installed.
    """
    masks = run_lengths_of_boxes(answer[MASKS], answer[BOXES], height, width) if MASKS in answer else None
    return Found(answer[BOXES], answer[LABELS].astype(int), answer[BOX_SCORES], masks)
