"""Answers of a tagging network on images with known classes -> all figures, and files with them."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_resnet.answers import PROBABILITIES
from keras_resnet.data.base import Source
from keras_resnet.data.labelled import listed_file
from keras_resnet.errors import ArgumentError, WeightsError
from keras_resnet.printable import cell, csv_cell, csv_line
from keras_resnet.tasks.base import Answer, Asked
from keras_resnet.tasks.tag.figures import F1, average_precision, f1, mean_of_known
from keras_resnet.tasks.tag.sources import SEPARATOR
from keras_resnet.variants import Contract

DEFAULT_THRESHOLD = 0.5  # threshold of a network whose file has none


def threshold_of(asked: Asked) -> float:
    """Network -> smallest probability at which a class counts as found."""
    return float(asked.task_facts.get("threshold", DEFAULT_THRESHOLD))


class TagCollector:
    """Collector of a tagging network's answers."""

    def __init__(self, asked: Asked, sources: Sequence[Source]) -> None:
        self.asked, self.classes = asked, sources[0].classes
        self.files: list[str] = []
        self.tags: list[np.ndarray] = []
        self.probabilities: list[np.ndarray] = []

    def add(self, source: Source, index: int, pixels: np.ndarray, target: np.ndarray, answer: Answer) -> None:
        """Raises:
        WeightsError: The answer does not hold a probability for each class.
        ArgumentError: The data has other classes than the network.
        """
        probabilities = answer[PROBABILITIES]
        low, high = probabilities.min(), probabilities.max()
        if not (low >= 0 and high <= 1.001):  # also true for NaN
            raise WeightsError(f"{self.asked.name}: must yield probabilities in 0..1. Received: {low}..{high}")
        if probabilities.shape != target.shape:
            raise ArgumentError(
                f"{source.path} has {target.size} classes, and {self.asked.name} has {len(probabilities)}. Give data "
                "with the classes of the network"
            )
        self.files.append(source.path_of(index))
        self.tags.append(target)
        self.probabilities.append(probabilities)

    def finish(self) -> "TagEvaluation":
        """-> all figures."""
        names = self.asked.class_names or self.classes
        tags, probabilities = np.stack(self.tags), np.stack(self.probabilities)
        return TagEvaluation(self.files, tags, probabilities, threshold_of(self.asked), names, self.asked.contract)


@dataclass(frozen=True, eq=False)
class TagEvaluation:
    """Answers of a tagging network on N images with known classes, and figures computed from them."""

    files: Sequence[str]
    tags: np.ndarray  # [N, classes], 0 or 1
    probabilities: np.ndarray  # [N, classes]
    threshold: float
    names: Sequence[str]  # class names
    contract: Contract

    @property
    def images(self) -> int:
        return len(self.files)

    @property
    def figures(self) -> dict[str, float | None]:
        return {
            "mean_average_precision_percent": _percent(mean_of_known(self.average_precision)),
            "micro_f1_percent": _percent(self.f1.micro),
            "macro_f1_percent": _percent(self.f1.macro),
        }

    @functools.cached_property
    def decided(self) -> np.ndarray:
        """Whether a class was found, bool `[N, classes]`."""
        return self.probabilities >= self.threshold

    @functools.cached_property
    def average_precision(self) -> np.ndarray:
        """Average precision of each class, float64 `[classes]`; NaN for a class that no image has."""
        return average_precision(self.tags, self.probabilities)

    @functools.cached_property
    def f1(self) -> F1:
        return f1(self.tags, self.decided)

    def agreement_percent(self, other: "TagEvaluation") -> float:
        """Evaluation of another network on the same images -> share of decisions that are equal in both."""
        return 100 * float(np.mean(self.decided == other.decided))

    def documents(self, about: Mapping[str, Any]) -> dict[str, Callable[[], bytes]]:
        """Facts for the head of `evaluation.json` -> name of each file, and a function that returns its content."""
        return {"predictions.csv": self._predictions, "evaluation.json": lambda: self._record(about)}

    def _predictions(self) -> bytes:
        rows = [["file", "classes", "predicted", "probabilities"]]
        names = np.array(self.names, dtype=object)
        for file, tags, decided, probabilities in zip(
            self.files, self.tags, self.decided, self.probabilities, strict=True
        ):
            cells = (names[tags == 1], names[decided], [f"{probability:.6f}" for probability in probabilities])
            rows.append([csv_cell(text) for text in (listed_file(file), *map(SEPARATOR.join, cells))])
        return "".join(map(csv_line, rows)).encode("utf-8", "backslashreplace")  # encoded as file names are printed

    def _record(self, about: Mapping[str, Any]) -> bytes:
        rows = zip(
            self.names, self.tags.sum(axis=0), self.decided.sum(axis=0), self.average_precision, self.f1.of_class,
            strict=True,
        )  # fmt: skip
        record = {
            **about,
            "input": asdict(self.contract),
            "images": self.images,
            "threshold": self.threshold,
            **self.figures,
            "classes": [
                {
                    "label": name,
                    "images": int(images),
                    "found": int(found),
                    "average_precision_percent": _percent(precision),
                    "f1_percent": _percent(of_class),
                }
                for name, images, found, precision, of_class in rows
            ],
        }
        return (json.dumps(record, indent=2) + "\n").encode()

    def show(self) -> None:
        """Prints the figures and the classes, the lowest average precision first, in at most 80 columns."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        figures = self.figures
        print(f"images       {self.images}")
        print(f"mAP %        {_cell(figures['mean_average_precision_percent'])}")
        print(f"micro F1 %   {_cell(figures['micro_f1_percent'])}")
        print(f"macro F1 %   {_cell(figures['macro_f1_percent'])}")
        print(f"threshold    {self.threshold:.4f}")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for column in ("AP %", "F1 %", "images", "found"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("class", no_wrap=True, overflow="ellipsis")
        for index in np.argsort(self.average_precision):  # NaN comes last
            table.add_row(
                _cell(_percent(self.average_precision[index])),
                _cell(_percent(self.f1.of_class[index])),
                str(self.tags[:, index].sum()),
                str(self.decided[:, index].sum()),
                cell(self.names[index]),
            )
        print()
        console = Console()
        console.print(table, width=min(80, console.width))


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else 100 * float(share)


def _cell(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.2f}"
