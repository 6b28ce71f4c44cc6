"""The demo of classification: handwritten digits, one in each image."""

import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from keras_resnet import inference
from keras_resnet.answers import PROBABILITIES
from keras_resnet.demo.steps import DemoRow, Made, train_network, write_image
from keras_resnet.evaluation import topk_accuracy_percent
from keras_resnet.export import ExportReport, export
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.manifest import size_bytes
from keras_resnet.export.pipeline import Progress
from keras_resnet.export.runtimes import open_runtime, predict
from keras_resnet.measure.latency import measure_latency
from keras_resnet.optional import require
from keras_resnet.preprocessing import list_images, load_images
from keras_resnet.training.recipe import Recipe

HELD_OUT_DIGITS = 360  # a fifth of the images
CALIBRATION = 1000  # number of training images for calibration
EXPORTED = ("saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8")  # formats of the artifacts
# The smallest network, on digits enlarged twofold, trains in less than a minute on two cores. The strokes are centred,
# so that images are not cropped. Label smoothing raises the worst of five seeds above 98.5 %.
RECIPE = Recipe(
    network="resnet20",
    size=16,
    crop="none",
    flip=False,
    epochs=8,
    batch_size=16,
    optimizer="adamw",
    learning_rate=5e-3,
    label_smoothing=0.1,
    warmup_epochs=1.0,
    weight_decay=0.05,
)
CONTRACT = RECIPE.contract


def make(folder: Path, progress: Progress, recipe: Recipe = RECIPE, formats: tuple[str, ...] = EXPORTED) -> Made:
    """Run directory -> recipe, facts and table of the classification demo."""
    write_digits(folder / "images", progress)
    images, _ = read_split(folder / "images" / "train")
    held_out, held_out_labels = read_split(folder / "images" / "held_out")

    model = train_network(folder, replace(recipe, data=str(folder / "images" / "train")), progress)

    calibration = images[np.random.default_rng(0).permutation(len(images))[:CALIBRATION]]
    report = export(
        model,
        folder,
        formats,
        calibration=calibration,
        class_names=[str(digit) for digit in range(10)],
        contract=CONTRACT,
        overwrite=True,
        progress=lambda step, done, total: progress(f"export: {step}", done, total),
    )
    progress("export", 1, 1)

    rows = compare_artifacts(model, folder / "training" / "model.keras", report, held_out, held_out_labels, progress)
    return recipe, {"held_out": HELD_OUT_DIGITS}, rows


def write_digits(folder: Path, progress: Progress) -> None:
    """Writes `train/<digit>/<n>.png` and `held_out/<digit>/<n>.png`; the split keeps the classes' proportions."""
    datasets = require("sklearn.datasets", "demo")
    model_selection = require("sklearn.model_selection", "demo")
    digits = datasets.load_digits()
    train, held_out = model_selection.train_test_split(
        np.arange(len(digits.target)), test_size=HELD_OUT_DIGITS, stratify=digits.target, random_state=0
    )
    if folder.exists():
        shutil.rmtree(folder)
    for split, indices in (("train", train), ("held_out", held_out)):
        for digit in range(10):
            (folder / split / str(digit)).mkdir(parents=True)
        for index in indices:
            grey = np.round(digits.images[index] * (255 / 16)).astype("uint8")  # 0..16 -> 0..255
            grey = np.pad(grey, 1)  # strokes reach the edge, and a centre crop would cut them off
            write_image(folder / split / str(digits.target[index]) / f"{index:04d}.png", grey)
    progress("write images", 1, 1)


def read_split(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Folder of class folders -> pixels uint8 `[N, 16, 16, 3]`, digits int `[N]`."""
    paths = list_images([folder])
    return load_images(paths, CONTRACT), np.array([int(path.parent.name) for path in paths])


def compare_artifacts(
    model: keras.Model,
    model_path: Path,
    report: ExportReport,
    images: np.ndarray,
    labels: np.ndarray,
    progress: Progress,
) -> list[DemoRow]:
    """Model, its artifacts, held-out images -> a row for the model, then a row for each artifact."""
    expected = inference.predict(model, images)
    one = images[:1].astype("float32")
    rows = [
        DemoRow(
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
        answers = predict(runtime, images)[PROBABILITIES]
        rows.append(
            DemoRow(
                name,
                size_bytes(path),
                topk_accuracy_percent(answers, labels),
                float(np.max(np.abs(answers - expected))),
                measure_latency(lambda runtime=runtime: runtime.run(images[:1])),  # type: ignore[misc]
            )
        )
    progress("measure", len(report.paths), len(report.paths))
    return rows
