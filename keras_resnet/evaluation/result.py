"""Answers of a network on labelled images -> all figures, and the files that hold them."""

import csv
import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.evaluation.accuracy import ClassAccuracy, accuracy_of_matrix, confusion_matrix, topk_accuracy_percent
from keras_resnet.evaluation.calibration import Calibration, calibration
from keras_resnet.evaluation.mistakes import draw_mistakes
from keras_resnet.evaluation.plots import draw_calibration, draw_confusion_matrix
from keras_resnet.labels import top_indices
from keras_resnet.variants import InputContract


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a network says about N labelled images, and what follows."""

    files: Sequence[Path]
    labels: np.ndarray  # int [N], the true classes
    probabilities: np.ndarray  # [N, classes]
    names: Sequence[str]  # of the classes
    contract: InputContract

    @functools.cached_property
    def top1_percent(self) -> float:
        return topk_accuracy_percent(self.probabilities, self.labels)

    @functools.cached_property
    def top5_percent(self) -> float | None:
        """None with five classes or fewer, where it would be 100."""
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
        """Facts for the head of `evaluation.json` -> name of each file, and what gives its content."""
        return {
            "predictions.csv": self._predictions,
            "confusion_matrix.png": lambda: draw_confusion_matrix(self.confusion, self.names),
            "calibration.png": lambda: draw_calibration(self.calibration),
            "mistakes.png": lambda: draw_mistakes(
                self.files, self.probabilities, self.labels, self.names, self.contract
            ),
            "evaluation.json": lambda: self._figures(about),
        }

    def _predictions(self) -> bytes:
        predicted = top_indices(self.probabilities, 1)[:, 0]
        rows = io.StringIO(newline="")
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(
            ["file", "index", "label", "predicted_index", "predicted_label", "confidence", "label_probability"]
        )
        for file, true, best, row in zip(self.files, self.labels, predicted, self.probabilities, strict=True):
            answer = [best, self.names[best], f"{row[best]:.6f}", f"{row[true]:.6f}"]
            writer.writerow([file, true, self.names[true], *answer])
        return rows.getvalue().encode("utf-8", "backslashreplace")  # as file names are printed

    def _figures(self, about: Mapping[str, Any]) -> bytes:
        images, top1_percent = self.class_accuracy
        figures = {
            **about,
            "input": asdict(self.contract),
            "images": len(self.files),
            "top1_percent": self.top1_percent,
            "top5_percent": self.top5_percent,
            "expected_calibration_error_percent": self.calibration.error_percent,
            "calibration": [asdict(part) for part in self.calibration.bins],
            "classes": [
                {"label": name, "images": int(count), "top1_percent": float(top1) if count else None}
                for name, count, top1 in zip(self.names, images, top1_percent, strict=True)
            ],
        }
        rows = ",\n".join(f"    {json.dumps(row)}" for row in self.confusion.tolist())  # a line each
        head = json.dumps(figures, indent=2).removesuffix("\n}")
        return f'{head},\n  "confusion_matrix": [\n{rows}\n  ]\n}}\n'.encode()
