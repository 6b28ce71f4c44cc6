"""Answers of a segmentation network on images with masks -> all figures, and files with them."""

import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_resnet.answers import MASK, Answer
from keras_resnet.data.base import Source
from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation.accuracy import confusion_of
from keras_resnet.evaluation.plots import MOST_CLASSES_DRAWN, draw_confusion_matrix
from keras_resnet.evaluation.segmentation import Segmentation
from keras_resnet.labels import VOID
from keras_resnet.printable import cell
from keras_resnet.tasks.base import Asked
from keras_resnet.tasks.segment.overlay import Example, draw_examples
from keras_resnet.variants import Contract

WEAKEST_IMAGES = 6  # number of images to draw


class MaskCollector:
    """Collector of a segmentation network's answers. It keeps no images and scores, which would not fit into memory."""

    def __init__(self, asked: Asked, sources: Sequence[Source]) -> None:
        self.asked, self.classes = asked, sources[0].classes
        self.confusion = np.zeros((len(self.classes),) * 2, np.int64)
        self.masks: list[np.ndarray] = []
        self.worst: list[tuple[float, int, Example]] = []

    def add(self, source: Source, index: int, pixels: np.ndarray, target: np.ndarray, answer: Answer) -> None:
        """Raises:
        ArgumentError: The data has other classes than the network.
        """
        if self.asked.classes != len(self.classes):
            raise ArgumentError(
                f"{source.path} has {len(self.classes)} classes, and {self.asked.name} has {self.asked.classes}. Give "
                "data with the classes of the network"
            )
        predicted, counted = answer[MASK], target != VOID
        found = confusion_of(predicted[counted], target[counted], len(self.classes))
        self.confusion += found
        example = Example(source.name_of(index), pixels, target, predicted)
        if found.any():
            heapq.heappush(self.worst, (-example.pixel_accuracy_percent, len(self.masks), example))
            if len(self.worst) > WEAKEST_IMAGES:
                heapq.heappop(self.worst)
        self.masks.append(example.predicted)

    def finish(self) -> "MaskEvaluation":
        """-> all figures."""
        weakest = [example for _, _, example in sorted(self.worst, reverse=True, key=lambda entry: entry[:2])]
        names = self.asked.class_names or self.classes
        return MaskEvaluation(self.masks, Segmentation(self.confusion), names, self.asked.contract, weakest)


@dataclass(frozen=True, eq=False)
class MaskEvaluation:
    """Answers of a segmentation network on images with masks, and figures computed from them."""

    masks: Sequence[np.ndarray]  # masks predicted by the network, uint8 [H, W]
    segmentation: Segmentation
    names: Sequence[str]  # class names
    contract: Contract
    weakest: Sequence[Example]  # images with the lowest pixel accuracy, the worst first

    @property
    def images(self) -> int:
        return len(self.masks)

    @property
    def figures(self) -> dict[str, float | None]:
        return {
            "mean_iou_percent": self.segmentation.mean_iou_percent,
            "pixel_accuracy_percent": self.segmentation.pixel_accuracy_percent,
        }

    def agreement_percent(self, other: "MaskEvaluation") -> float:
        """Evaluation of another network on the same images -> share of all pixels with one class in both."""
        same = sum(int(np.sum(own == theirs)) for own, theirs in zip(self.masks, other.masks, strict=True))
        return 100 * same / sum(mask.size for mask in self.masks)

    def documents(self, about: Mapping[str, Any]) -> dict[str, Callable[[], bytes]]:
        """Facts for the head of `evaluation.json` -> name of each file, and a function that returns its content."""
        confusion = self.segmentation.confusion
        percent = np.round(100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)).astype(int)
        matrix = percent if len(confusion) <= MOST_CLASSES_DRAWN else confusion  # counts do not fit into cells
        return {
            "confusion_matrix.png": lambda: draw_confusion_matrix(matrix, self.names, "pixels"),
            "weakest.png": lambda: draw_examples(self.weakest, self.names),
            "evaluation.json": lambda: self._record(about),
        }

    def _record(self, about: Mapping[str, Any]) -> bytes:
        pixels = self.segmentation.confusion.sum(axis=1)
        record = {
            **about,
            "input": asdict(self.contract),
            "images": self.images,
            **self.figures,
            "classes": [
                {"label": name, "pixels": int(count), "iou_percent": None if np.isnan(iou) else float(iou)}
                for name, count, iou in zip(self.names, pixels, self.segmentation.class_iou_percent, strict=True)
            ],
            "confusion_matrix": self.segmentation.confusion.tolist(),
        }
        return (json.dumps(record, indent=2) + "\n").encode()

    def show(self) -> None:
        """Prints the figures and the classes, the lowest IoU first, in at most 80 columns."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        segmentation = self.segmentation
        print(f"images            {self.images}")
        print(f"mean IoU %        {segmentation.mean_iou_percent:.2f}")
        print(f"pixel accuracy %  {segmentation.pixel_accuracy_percent:.2f}")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("IoU %", justify="right", no_wrap=True)
        table.add_column("% of the pixels", justify="right", no_wrap=True)
        table.add_column("class", no_wrap=True, overflow="ellipsis")
        share = 100 * segmentation.confusion.sum(axis=1) / max(1, segmentation.confusion.sum())
        for index in np.argsort(segmentation.class_iou_percent):  # NaN comes last
            iou = segmentation.class_iou_percent[index]
            shown = "-" if np.isnan(iou) else f"{iou:.2f}"
            table.add_row(shown, f"{share[index]:.2f}", cell(self.names[index]))
        print()
        console = Console()
        console.print(table, width=min(80, console.width))
