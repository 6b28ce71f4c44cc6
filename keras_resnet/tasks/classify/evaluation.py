"""Answers of a classifier on labelled images -> all figures, and files with them."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from keras_resnet.answers import PROBABILITIES, Answer
from keras_resnet.data.base import Source
from keras_resnet.data.labelled import listed_file
from keras_resnet.errors import ArgumentError, WeightsError
from keras_resnet.evaluation.accuracy import (
    ClassAccuracy,
    accuracy_of_matrix,
    confusion_matrix,
    top1_agreement_percent,
    topk_accuracy_percent,
)
from keras_resnet.evaluation.calibration import Calibration, calibration
from keras_resnet.evaluation.plots import draw_calibration, draw_confusion_matrix
from keras_resnet.labels import top_indices
from keras_resnet.preprocessing import resize_and_crop
from keras_resnet.printable import cell, csv_cell, csv_line
from keras_resnet.tasks.base import Asked
from keras_resnet.tasks.classify.mistakes import draw_mistakes
from keras_resnet.variants import InputContract

WEAKEST = 5  # number of classes in the table


@dataclass(frozen=True, eq=False)
class Labelled:
    """One image whose class is known."""

    source: Source
    index: int

    @property
    def name(self) -> str:
        """The image's file, or its name within the data."""
        return self.source.path_of(self.index)

    @property
    def pixels(self) -> np.ndarray:
        """The decoded image, uint8 `[H, W, 3]`, which is read again.

        Raises:
            ImageError: The image was removed or changed since.
        """
        return self.source.decode(self.index).pixels

    @property
    def short_name(self) -> str:
        """The image's name within the data."""
        return self.source.name_of(self.index)

    def prepared(self, contract: InputContract) -> np.ndarray:
        """-> pixels that the network took, uint8 `[size, size, C]`.

        Raises:
            ImageError: The image was removed or changed since.
        """
        return self.pixels if self.source.ready else resize_and_crop(self.pixels, contract)


class ClassCollector:
    """Collector of a classifier's answers."""

    def __init__(self, asked: Asked, sources: Sequence[Source]) -> None:
        self.asked, self.classes = asked, sources[0].classes
        self.images: list[Labelled] = []
        self.labels: list[int] = []
        self.probabilities: list[np.ndarray] = []

    def add(self, source: Source, index: int, pixels: np.ndarray, target: np.ndarray, answer: Answer) -> None:
        """Raises:
        WeightsError: The answer does not hold a probability for each named class.
        ArgumentError: The data has a class that the network lacks.
        """
        probabilities, names = answer[PROBABILITIES], self.asked.class_names
        low, high = probabilities.min(), probabilities.max()
        if not (low >= 0 and high <= 1.001):  # also true for NaN
            raise WeightsError(f"{self.asked.name}: must yield probabilities in 0..1. Received: {low}..{high}")
        if names is not None and len(names) != len(probabilities):
            raise WeightsError(f"{self.asked.name}: must have {len(probabilities)} class names. Received: {len(names)}")
        if len(self.classes) > len(probabilities):
            raise ArgumentError(
                f"{source.path}: the index of a class must be at most {len(probabilities) - 1}, since the model has "
                f"{len(probabilities)} classes. Received: {len(self.classes) - 1}"
            )
        self.images.append(Labelled(source, index))
        self.labels.append(int(target))
        self.probabilities.append(probabilities)

    def finish(self) -> "ClassEvaluation":
        """-> all figures."""
        probabilities = np.stack(self.probabilities)
        names = list(self.asked.class_names or self.classes)
        names += [f"class {index}" for index in range(len(names), probabilities.shape[1])]
        contract = cast(InputContract, self.asked.contract)
        return ClassEvaluation(self.images, np.array(self.labels), probabilities, names, contract)


@dataclass(frozen=True, eq=False)
class ClassEvaluation:
    """Answers of a classifier on N labelled images, and figures computed from them."""

    labelled: Sequence[Labelled]
    labels: np.ndarray  # true classes int [N]
    probabilities: np.ndarray  # [N, classes]
    names: Sequence[str]  # class names
    contract: InputContract

    @property
    def images(self) -> int:
        return len(self.labels)

    @property
    def figures(self) -> dict[str, float | None]:
        return {"top1_percent": self.top1_percent, "top5_percent": self.top5_percent}

    def agreement_percent(self, other: "ClassEvaluation") -> float:
        """Evaluation of another network on the same images -> share of which both name the same class first."""
        return top1_agreement_percent(self.probabilities, other.probabilities)

    @functools.cached_property
    def top1_percent(self) -> float:
        return topk_accuracy_percent(self.probabilities, self.labels)

    @functools.cached_property
    def top5_percent(self) -> float | None:
        """Top-5 accuracy; None for five classes or fewer, where it would be 100."""
        return topk_accuracy_percent(self.probabilities, self.labels, 5) if len(self.names) > 5 else None

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """int64 `[classes, classes]`: rows true, columns predicted."""
        return confusion_matrix(self.probabilities, self.labels)

    @functools.cached_property
    def class_accuracy(self) -> ClassAccuracy:
        return accuracy_of_matrix(self.confusion)

    @functools.cached_property
    def calibration(self) -> Calibration:
        return calibration(self.probabilities, self.labels)

    def documents(self, about: Mapping[str, Any]) -> dict[str, Callable[[], bytes]]:
        """Facts for the head of `evaluation.json` -> name of each file, and a function that returns its content."""
        return {
            "predictions.csv": self._predictions,
            "confusion_matrix.png": lambda: draw_confusion_matrix(self.confusion, self.names),
            "calibration.png": lambda: draw_calibration(self.calibration),
            "mistakes.png": lambda: draw_mistakes(
                [Path(image.name).name for image in self.labelled],
                lambda index: self.labelled[index].pixels,
                self.probabilities,
                self.labels,
                self.names,
                self.contract,
            ),
            "evaluation.json": lambda: self._figures(about),
        }

    def _predictions(self) -> bytes:
        predicted = top_indices(self.probabilities, 1)[:, 0]
        rows = [["file", "index", "label", "predicted_index", "predicted_label", "confidence", "label_probability"]]
        for image, true, best, row in zip(self.labelled, self.labels, predicted, self.probabilities, strict=True):
            answer = [best, csv_cell(self.names[best]), f"{row[best]:.6f}", f"{row[true]:.6f}"]
            rows.append([csv_cell(listed_file(image.name)), true, csv_cell(self.names[true]), *answer])
        return "".join(map(csv_line, rows)).encode("utf-8", "backslashreplace")  # encoded as file names are printed

    def _figures(self, about: Mapping[str, Any]) -> bytes:
        images, top1_percent = self.class_accuracy
        figures = {
            **about,
            "input": asdict(self.contract),
            "images": self.images,
            "top1_percent": self.top1_percent,
            "top5_percent": self.top5_percent,
            "expected_calibration_error_percent": self.calibration.error_percent,
            "calibration": [asdict(part) for part in self.calibration.bins],
            "classes": [
                {"label": name, "images": int(count), "top1_percent": float(top1) if count else None}
                for name, count, top1 in zip(self.names, images, top1_percent, strict=True)
            ],
        }
        rows = ",\n".join(f"    {json.dumps(row)}" for row in self.confusion.tolist())  # one line for each row
        head = json.dumps(figures, indent=2).removesuffix("\n}")
        return f'{head},\n  "confusion_matrix": [\n{rows}\n  ]\n}}\n'.encode()

    def show(self) -> None:
        """Prints the figures and the classes with the lowest accuracy, in at most 80 columns."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        print(f"images               {self.images}")
        print(f"top-1 %              {self.top1_percent:.2f}")
        if self.top5_percent is not None:
            print(f"top-5 %              {self.top5_percent:.2f}")
        print(f"calibration error %  {self.calibration.error_percent:.2f}")
        images, top1_percent = self.class_accuracy
        weakest = [
            index
            for index in np.lexsort((-images, np.nan_to_num(top1_percent, nan=100.0)))[:WEAKEST]
            if images[index] and top1_percent[index] < 100
        ]
        if not weakest:
            return
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("lowest top-1 %", justify="right", no_wrap=True)
        table.add_column("images", justify="right", no_wrap=True)
        for column in ("class", "most often taken for"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for index in weakest:
            others = self.confusion[index].copy()
            others[index] = 0
            names = (self.names[index], self.names[int(others.argmax())])
            table.add_row(f"{top1_percent[index]:.2f}", str(images[index]), *map(cell, names))
        print()
        console = Console()
        console.print(table, width=min(80, console.width))
