"""Accuracy of artifact and model on the same images with known targets, and the gate that an artifact must pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.data.base import Source
from keras_resnet.data.given import GivenSource
from keras_resnet.data.reading import PLAIN, Reading
from keras_resnet.errors import AccuracyError, ArgumentError, ExportError, KerasResnetError
from keras_resnet.evaluating import evaluate
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.formats import Format
from keras_resnet.export.images import ImageShape, read_images
from keras_resnet.export.running import Running
from keras_resnet.predictor import Predictor
from keras_resnet.tasks.base import Check, Evaluation, Task


@dataclass(frozen=True)
class LabelledImages:
    """Images with known targets, and the largest loss of score that an artifact may have on them."""

    data: Any  # data for training, or (pixels uint8 `[N, H, W, C]`, classes `[N]`)
    split: str = "val"  # images that count: "val" (validation images, held out or not), "train" or "all"
    reading: Reading = PLAIN  # what the data itself does not tell
    max_drop_points: float | None = None  # points of the score that an artifact may lose; None: the task's own limit


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one artifact on images with known targets."""

    images: int
    figures: Mapping[str, float | None]  # figures by name with unit
    score: str  # name of the figure that the gate compares
    titles: Mapping[str, str]  # figures by name -> their names for people
    drop_points: float  # the model's score minus the artifact's
    agreement_percent: float  # share of equal decisions, by image or pixel

    @property
    def score_percent(self) -> float:
        """Value of the figure that the gate compares."""
        return float(self.figures[self.score] or 0.0)

    def as_dict(self) -> dict[str, Any]:
        """-> entry of the manifest."""
        return {
            "images": self.images,
            **self.figures,
            "drop_points": self.drop_points,
            "agreement_percent": self.agreement_percent,
        }


class Examination:
    """Images and the model's answers on them, with which any number of artifacts is compared.

    Raises:
        ImageError: A file can't be read.
        ExportError: The data's targets, classes or pixels don't fit the model.
    """

    def __init__(self, predictor: Predictor, images: LabelledImages, shape: ImageShape) -> None:
        self.task: Task = predictor.task
        self.given_drop_points = images.max_drop_points
        try:
            self.sources = _sources(predictor, images, shape)
            self.model = self._evaluation(predictor)
        except ArgumentError as error:
            first, *others = error.args
            raise ExportError(f"`data` (--data) does not fit the model: {first}", *others) from error

    def of(self, predictor: Predictor) -> tuple[Accuracy, Evaluation]:
        """Artifact -> its accuracy, and its evaluation."""
        found, score = self._evaluation(predictor), self.task.score
        drop_points = float(self.model.figures[score] or 0.0) - float(found.figures[score] or 0.0)
        agreement_percent = found.agreement_percent(self.model)
        titles = self.task.titles
        return Accuracy(found.images, found.figures, score, titles, drop_points, agreement_percent), found

    def max_drop_points(self, row: Format) -> float:
        """Row of the table -> points of the score that its artifact may lose."""
        if self.given_drop_points is not None:
            return self.given_drop_points
        return self.task.largest_drop_points.of(row.bytes_per_parameter)

    def check(self, path: Path, row: Format, trust: bool, running: Running) -> Check:
        """Artifact, which reads images and names classes as its description states, its format -> check of its loss."""
        try:
            accuracy, _ = self.of(open_artifact(path, trust=trust, running=running).predictor)
        except KerasResnetError as error:
            return Check(self.task.titles[self.task.score], str(error), "it answers on the labelled images", False)
        return accuracy_check(accuracy, self.max_drop_points(row))

    def _evaluation(self, predictor: Predictor) -> Evaluation:
        evaluation: Evaluation = evaluate(predictor, self.sources)
        return evaluation


def _sources(predictor: Predictor, images: LabelledImages, shape: ImageShape) -> Sequence[Source]:
    if isinstance(images.data, tuple):
        given, classes = images.data
        pixels = read_images(given, predictor.contract, shape)
        names = predictor.class_names or [str(index) for index in range(predictor.classes)]
        return [GivenSource(pixels, np.asarray(classes), names, predictor.task.target)]
    asked, classes = predictor.asked, predictor.classes
    return predictor.task.open_sources(images.data, images.split, asked, classes, images.reading)


def accuracy_check(accuracy: Accuracy, max_drop_points: float) -> Check:
    """Accuracy of an artifact, the points that it may lose -> the gate as a check."""
    title = accuracy.titles[accuracy.score]
    measured = (
        f"{accuracy.score_percent:.2f} % on {accuracy.images} images, {accuracy.drop_points:.2f} points below the model"
    )
    passed = accuracy.drop_points <= max_drop_points + 1e-9
    return Check(title, measured, f"at most {max_drop_points:g} points below the model", passed)


def check_drop(name: str, accuracy: Accuracy, max_drop_points: float) -> None:
    """Raises `AccuracyError` if the artifact loses more than `max_drop_points` of the model's score."""
    if not accuracy.drop_points <= max_drop_points + 1e-9:
        raise AccuracyError(
            f"{name} has a {accuracy.titles[accuracy.score]} of {accuracy.score_percent:.2f} % on "
            f"{accuracy.images} images, "
            f"{accuracy.drop_points:.2f} points below its model; allowed: {max_drop_points:g} (--max-drop). Other "
            "calibration images, --ranges mse or --keep-float may help; --debug names the layers with the largest error"
        )
