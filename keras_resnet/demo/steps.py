"""What the demos have in common: training, export, and the rows of the table."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import keras
import numpy as np
from PIL import Image

from keras_resnet.errors import TrainingError
from keras_resnet.export import CalibrationImages, LabelledImages, export
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.manifest import size_bytes
from keras_resnet.export.pipeline import Progress
from keras_resnet.export.runtimes import open_runtime
from keras_resnet.loading import open_network
from keras_resnet.measure.latency import Latency, measure_latency
from keras_resnet.tasks import checked_task_of
from keras_resnet.training import fit
from keras_resnet.training.recipe import Recipe
from keras_resnet.variants import WholeImage
from keras_resnet.whole_files import whole_file


@dataclass(frozen=True)
class DemoRow:
    """One line of the demo's table."""

    artifact: str
    size_bytes: int
    score_percent: float  # figure by which the task compares networks, on the held-out images
    max_difference: float  # largest difference of a probability, or of a detection's score, from the Keras model
    latency: Latency  # batch 1
    further_percent: Mapping[str, float] = field(default_factory=dict)  # further figures by their title


Made = tuple[Recipe, dict[str, int], list[DemoRow]]  # a demo's recipe, further facts for its record, its table


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Path, grey or RGB pixels uint8 -> image file in the format of the suffix."""
    with whole_file(path, path.suffix) as partial:
        Image.fromarray(pixels).save(partial, quality=90)  # a PNG ignores it


def train_network(folder: Path, recipe: Recipe, progress: Progress) -> keras.Model:
    """Run directory, recipe -> trained network. The training run is written to `training/`.

    Raises:
        TrainingError: SIGTERM ended the training.
    """
    training = folder / "training"
    if training.exists():
        shutil.rmtree(training)
    listener = fit.Listener(show=lambda now: progress("train", now.step, now.steps))
    if not fit.train(recipe, training, listener).complete:
        raise TrainingError("the demo was terminated during training; run it again to start over")
    return open_network(str(training / "model.keras"), None)[0]


def export_and_measure(
    folder: Path,
    model: keras.Model,
    formats: Sequence[str],
    labelled: Path,
    calibration: CalibrationImages | None,
    image: np.ndarray,
    progress: Progress,
    further: Mapping[str, str] = MappingProxyType({}),
) -> list[DemoRow]:
    """Run directory, trained network, formats, folder of labelled images, images for the integer formats, one image
    `[1, H, W, 3]` -> a row for the network, then a row for each verified artifact.

    The figures are for the validation images of the labelled ones. `further` names more figures of the evaluation than
    the score: title -> name.
    """
    report = export(
        model,
        folder,
        formats,
        calibration=calibration,
        data=LabelledImages(labelled, max_drop_points=100.0),  # no bound, since the table shows the drop
        contract=WholeImage(*image.shape[1:3]),
        overwrite=True,
        progress=lambda step, done, total: progress(f"export: {step}", done, total),
    )
    progress("export", 1, 1)
    figures = report.evaluations["model"].figures
    values = image.astype("float32")
    rows = [
        DemoRow(
            "Keras model",
            size_bytes(folder / "training" / "model.keras"),
            float(figures[checked_task_of(model).score] or 0),
            0.0,
            measure_latency(lambda: model(values, training=False)),
            _named(figures, further),
        )
    ]
    for done, (name, path) in enumerate(report.paths.items()):
        progress(f"measure {name}", done, len(report.paths))
        runtime = open_runtime(path, FORMATS[name])
        latency = measure_latency(lambda runtime=runtime: runtime.run(image))  # type: ignore[misc]
        rows.append(
            DemoRow(
                name,
                size_bytes(path),
                report.accuracy[name].score_percent,
                report.reports[name].max_difference,
                latency,
                _named(report.accuracy[name].figures, further),
            )
        )
    progress("measure", len(report.paths), len(report.paths))
    return rows


def _named(figures: Mapping[str, float | None], wanted: Mapping[str, str]) -> dict[str, float]:
    return {title: float(figures[name] or 0) for title, name in wanted.items()}
