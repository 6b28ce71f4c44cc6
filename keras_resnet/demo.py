"""The main job on a small scale: real images -> trained ResNet-18 -> verified artifacts -> one table.

The images are the 1,797 handwritten digits that scikit-learn ships (UCI, Alpaydin and Kaynak 1998), 8x8 greys.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_resnet.benchmark.latency import Latency, measure_latency
from keras_resnet.benchmark.record import write_record
from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation import topk_accuracy_percent
from keras_resnet.export import ExportReport, export
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.manifest import size_bytes
from keras_resnet.export.pipeline import require_converters
from keras_resnet.export.runtimes import open_runtime, predict
from keras_resnet.model_files import save_model
from keras_resnet.models import ResNet18
from keras_resnet.optional import require
from keras_resnet.preprocessing import list_images, load_images
from keras_resnet.variants import InputContract

CONTRACT = InputContract.for_size(32)  # as `keras-resnet predict` will read images for this model
HELD_OUT = 360  # images, a fifth
CALIBRATION = 200  # images, of the training split
SHOWN = ("saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8")  # formats of the demo
EPOCHS = 5
BATCH_SIZE = 64
PEAK_LEARNING_RATE = 0.1

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
    """Run directory -> images, `model.keras`, the four verified artifacts and `results.json` in it, and their rows."""
    keras.utils.set_random_seed(0)
    require_converters(FORMATS[name] for name in SHOWN)  # now, and not after the training
    claim(folder)
    write_digits(folder / "images", progress)
    images, labels = read_split(folder / "images" / "train")
    held_out, held_out_labels = read_split(folder / "images" / "held_out")

    model = train(images, labels, progress)
    names = [str(digit) for digit in range(10)]
    save_model(model, folder / "model.keras", names, CONTRACT)

    calibration = images[np.random.default_rng(0).permutation(len(images))[:CALIBRATION]]
    report = export(
        model,
        folder,
        SHOWN,
        calibration=calibration,
        labels=names,
        contract=CONTRACT,
        overwrite=True,
        progress=lambda step, done, total: progress(f"export: {step}", done, total),
    )
    progress("export", 1, 1)

    rows = compare(model, folder / "model.keras", report, held_out, held_out_labels, progress)
    settings = {"network": model.name, "epochs": EPOCHS, "batch_size": BATCH_SIZE, "held_out": HELD_OUT}
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


def train(images: np.ndarray, labels: np.ndarray, progress: Progress) -> keras.Model:
    """Pixels uint8 `[N, 32, 32, 3]`, digits `[N]` -> ResNet-18, trained with SGD, warm-up and a cosine."""
    import tensorflow as tf

    model = ResNet18(input_shape=(32, 32, 3), classes=10)
    steps_per_epoch = len(images) // BATCH_SIZE
    steps = EPOCHS * steps_per_epoch
    schedule = keras.optimizers.schedules.CosineDecay(
        PEAK_LEARNING_RATE / 10,
        decay_steps=steps - steps // 5,
        warmup_target=PEAK_LEARNING_RATE,
        warmup_steps=steps // 5,
    )
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=5e-4),
        loss="sparse_categorical_crossentropy",
        jit_compile=True,  # less than half the time of a step on a CPU without AVX-512
    )
    augment = keras.Sequential(
        [
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant", seed=1),
            keras.layers.RandomRotation(0.04, fill_mode="constant", seed=2),
        ]
    )
    pipeline = (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .shuffle(len(images), seed=3)
        .batch(BATCH_SIZE, drop_remainder=True)  # one shape, compiled once
        .map(lambda pixels, digits: (augment(tf.cast(pixels, tf.float32), training=True), digits))
        .prefetch(2)
    )

    class ShowProgress(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            progress("train", int(self.model.optimizer.iterations), steps)

    model.fit(pipeline, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[ShowProgress()])
    trained = ResNet18(input_shape=(32, 32, 3), classes=10)  # without the optimizer, which would double the file
    trained.set_weights(model.get_weights())
    return trained


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
