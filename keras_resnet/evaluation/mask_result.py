"""Answers of a segmentation network on images with masks -> all figures, and the files that hold them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_resnet.evaluation.overlay import Example, draw_examples
from keras_resnet.evaluation.plots import MOST_CLASSES, draw_confusion_matrix
from keras_resnet.evaluation.segmentation import Segmentation
from keras_resnet.variants import WholeImage


@dataclass(frozen=True, eq=False)
class MaskEvaluation:
    """What a network says about images with masks, and what follows."""

    images: int
    segmentation: Segmentation
    names: Sequence[str]  # of the classes
    contract: WholeImage
    weakest: Sequence[Example]  # the images of which the fewest pixels are right, the worst first

    def documents(self, about: Mapping[str, Any]) -> dict[str, Callable[[], bytes]]:
        """Facts for the head of `evaluation.json` -> name of each file, and what gives its content."""
        confusion = self.segmentation.confusion
        percent = np.round(100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)).astype(int)
        matrix = percent if len(confusion) <= MOST_CLASSES else confusion  # millions of pixels are no cell's text
        return {
            "confusion_matrix.png": lambda: draw_confusion_matrix(matrix, self.names, "pixels"),
            "weakest.png": lambda: draw_examples(self.weakest, self.names),
            "evaluation.json": lambda: self._figures(about),
        }

    def _figures(self, about: Mapping[str, Any]) -> bytes:
        pixels = self.segmentation.confusion.sum(axis=1)
        figures = {
            **about,
            "input": asdict(self.contract),
            "images": self.images,
            "mean_iou_percent": self.segmentation.mean_iou_percent,
            "pixel_accuracy_percent": self.segmentation.pixel_accuracy_percent,
            "classes": [
                {"label": name, "pixels": int(count), "iou_percent": None if np.isnan(iou) else float(iou)}
                for name, count, iou in zip(self.names, pixels, self.segmentation.class_iou_percent, strict=True)
            ],
            "confusion_matrix": self.segmentation.confusion.tolist(),
        }
        return (json.dumps(figures, indent=2) + "\n").encode()
