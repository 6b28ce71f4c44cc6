"""The main job on a small scale: real images -> trained ResNet-18 -> verified artifacts -> one table.

The images are the 1,797 handwritten digits that scikit-learn ships (UCI, Alpaydin and Kaynak 1998), 8x8 greys.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation import topk_accuracy_percent
from keras_resnet.export import ExportReport, export
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.manifest import size_bytes
from keras_resnet.export.pipeline import require_converters
from keras_resnet.export.runtimes import open_runtime, predict
from keras_resnet.measure.latency import Latency, measure_latency
from keras_resnet.measure.record import write_record
from keras_resnet.optional import require
from keras_resnet.preprocessing import list_images, load_images
from keras_resnet.training import fit
from keras_resnet.training.recipe import Recipe

HELD_OUT = 360  # images, a fifth
CALIBRATION = 1000  # images, of the training split
SHOWN = ("saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8")  # formats of the demo
RECIPE = Recipe(
    network="resnet18",
    size=32,
    crop="padded",
    flip=False,
    epochs=7,
    batch_size=64,
    optimizer="adamw",
    learning_rate=1e-3,
    warmup_epochs=1.0,
    weight_decay=0.05,
)
CONTRACT = RECIPE.contract

MARKER = ".keras-resnet-demo"  # says that a folder is a demo's to replace

Progress = Callable[[str, int, int], None]  # stage, steps done, steps in all


@dataclass(frozen=True)
class Row:
    """One line of the demo's table."""

    artifact: str
    size_bytes: int
    top1_percent: float  # on the held-out split
    max_difference: float  # of a probability on that split, from the Keras model's
    latency: Latency  # batch 1


def run(folder: Path, progress: Progress) -> list[Row]:
    """Run directory -> images, the training's run, the verified artifacts and `results.json` in it, and their rows."""
    require_converters(FORMATS[name] for name in SHOWN)  # now, and not after the training
    claim(folder)
    write_digits(folder / "images", progress)
    images, _ = read_split(folder / "images" / "train")
    held_out, held_out_labels = read_split(folder / "images" / "held_out")

    model = train(folder, progress)

    calibration = images[np.random.default_rng(0).permutation(len(images))[:CALIBRATION]]
    report = export(
        model,
        folder,
        SHOWN,
        calibration=calibration,
        labels=[str(digit) for digit in range(10)],
        contract=CONTRACT,
        overwrite=True,
        progress=lambda step, done, total: progress(f"export: {step}", done, total),
    )
    progress("export", 1, 1)

    rows = compare(model, folder / "training" / "model.keras", report, held_out, held_out_labels, progress)
    settings = asdict(RECIPE) | {"held_out": HELD_OUT}
    write_record(folder / "results.json", "demo", settings, [asdict(row) for row in rows])
    return rows


def claim(folder: Path) -> None:
    """Creates the run directory; what is in it is replaced only if an earlier demo left it.

    Raises:
        ArgumentError: The folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise ArgumentError(f"--out must be a new or empty folder, or that of an earlier demo. Received: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def write_digits(folder: Path, progress: Progress) -> None:
    """Writes `train/<digit>/<n>.png` and `held_out/<digit>/<n>.png`; the split keeps the classes' proportions."""
    datasets = require("sklearn.datasets", "demo")
    model_selection = require("sklearn.model_selection", "demo")
    digits = datasets.load_digits()
    train, held_out = model_selection.train_test_split(
        np.arange(len(digits.target)), test_size=HELD_OUT, stratify=digits.target, random_state=0
    )
    if folder.exists():
        shutil.rmtree(folder)
    for split, indices in (("train", train), ("held_out", held_out)):
        for digit in range(10):
            (folder / split / str(digit)).mkdir(parents=True)
        for index in indices:
            grey = np.round(digits.images[index] * (255 / 16)).astype("uint8")  # 0..16 -> 0..255
            grey = np.pad(grey, 1)  # the strokes reach the edge, which a centre crop would cut off
            Image.fromarray(grey).save(folder / split / str(digits.target[index]) / f"{index:04d}.png")
    progress("write images", 1, 1)


def read_split(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Folder of class folders -> pixels uint8 `[N, 32, 32, 3]`, digits int `[N]`."""
    paths = list_images([folder])
    return load_images(paths, CONTRACT), np.array([int(path.parent.name) for path in paths])


def train(folder: Path, progress: Progress) -> keras.Model:
    """Run directory with `images/train` -> ResNet-18, trained on them; the training's own run is `training/`."""
    training = folder / "training"
    if training.exists():
        shutil.rmtree(training)
    recipe = replace(RECIPE, data=str(folder / "images" / "train"))
    fit.train(recipe, training, fit.Listener(show=lambda now: progress("train", now.step, now.steps)))
    return keras.models.load_model(training / "model.keras", compile=False)


def compare(
    model: keras.Model,
    model_path: Path,
    report: ExportReport,
    images: np.ndarray,
    labels: np.ndarray,
    progress: Progress,
) -> list[Row]:
    """Model, its artifacts, held-out images -> one row each, the model first."""
    expected = model.predict(images, verbose=0)
    one = images[:1].astype("float32")
    rows = [
        Row(
            "Keras model",
            size_bytes(model_path),
            topk_accuracy_percent(expected, labels),
            0.0,
            measure_latency(lambda: model(one, training=False)),
        )
    ]
    for done, (name, path) in enumerate(report.paths.items()):
        progress(f"measure {name}", done, len(report.paths))
        runtime = open_runtime(path, FORMATS[name])
        answers = predict(runtime, images)
        rows.append(
            Row(
                name,
                size_bytes(path),
                topk_accuracy_percent(answers, labels),
                float(np.max(np.abs(answers - expected))),
                measure_latency(lambda runtime=runtime: runtime.run(images[:1])),  # type: ignore[misc]
            )
        )
    progress("measure", len(report.paths), len(report.paths))
    return rows
