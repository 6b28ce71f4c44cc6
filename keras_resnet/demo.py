"""The whole workflow on a small scale: images -> trained network -> verified artifacts -> one table.

The images are the 1,797 handwritten digits that scikit-learn ships (UCI, Alpaydin and Kaynak 1998), in 8x8 grey pixels.
A ResNet-20 classifies single digits; a U-Net segments the strokes of several digits on a made-up background.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import keras
import numpy as np
from PIL import Image

from keras_resnet import inference
from keras_resnet.answers import PROBABILITIES
from keras_resnet.errors import ArgumentError, TrainingError
from keras_resnet.evaluation import topk_accuracy_percent
from keras_resnet.export import CalibrationImages, ExportReport, LabelledImages, export
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.manifest import size_bytes
from keras_resnet.export.pipeline import Progress, require_converters
from keras_resnet.export.runtimes import open_runtime, predict
from keras_resnet.measure.latency import Latency, measure_latency
from keras_resnet.measure.record import write_record
from keras_resnet.optional import require
from keras_resnet.preprocessing import list_images, load_images
from keras_resnet.training import fit
from keras_resnet.training.recipe import Recipe
from keras_resnet.variants import WholeImage

HELD_OUT_DIGITS = 360  # a fifth of the images
CALIBRATION = 1000  # number of training images for calibration
DEMO_FORMATS = ("saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8")  # formats of the demo
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

SCENES = {"train": 400, "val": 80}
SCENE = (64, 96)  # height, width
STROKE = 0.35  # smallest share of the darkest ink at which a pixel belongs to a digit
SCENES_RECIPE = Recipe(
    task="segment",
    architecture="unet",
    network="resnet18",
    size=64,
    crop="scaled",
    minimum_scale=0.8,
    maximum_scale=1.25,
    flip=False,
    epochs=12,
    batch_size=8,
    loss="dice",
    optimizer="adamw",
    learning_rate=2e-3,
    schedule="poly",
    warmup_epochs=1.0,
    weight_decay=0.05,
)

MARKER = ".keras-resnet-demo"  # file that marks a folder which a later demo may replace


@dataclass(frozen=True)
class DemoRow:
    """One line of the demo's table."""

    artifact: str
    size_bytes: int
    score_percent: float  # top-1, or mean IoU, on the held-out images
    max_difference: float  # largest difference of a probability from the Keras model, on the held-out images
    latency: Latency  # batch 1


def run(folder: Path, progress: Progress, task: str = "classify") -> list[DemoRow]:
    """Run directory -> rows of the table; writes images, training run, verified artifacts and `results.json`."""
    require_converters(FORMATS[name] for name in DEMO_FORMATS)  # before the training, not after it
    claim(folder)
    recipe, settings, rows = DEMOS[task].make(folder, progress)
    write_record(folder / "results.json", "demo", recipe.as_dict() | settings, [asdict(row) for row in rows])
    return rows


Made = tuple[Recipe, dict[str, int], list[DemoRow]]  # a demo's recipe, further facts for its record, its table


def digits_alone(
    folder: Path, progress: Progress, recipe: Recipe = RECIPE, formats: tuple[str, ...] = DEMO_FORMATS
) -> Made:
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


def digits_in_scenes(folder: Path, progress: Progress) -> Made:
    """Run directory -> recipe, facts and table of the segmentation demo."""
    images = folder / "images"
    write_scenes(images, progress)
    model = train_network(folder, replace(SCENES_RECIPE, data=str(images)), progress)
    contract = WholeImage(*SCENE)
    report = export(
        model,
        folder,
        DEMO_FORMATS,
        calibration=CalibrationImages(images / "train" / "images", count=SCENES["val"]),
        data=LabelledImages(images, max_drop_points=100.0),  # no bound, since the table shows the drop
        class_names=["background", *(str(digit) for digit in range(10))],
        contract=contract,
        overwrite=True,
        progress=lambda step, done, total: progress(f"export: {step}", done, total),
    )
    progress("export", 1, 1)
    score = report.evaluations["model"].figures["mean_iou_percent"]
    pixels = load_images(list_images([images / "val" / "images"])[:1], contract)
    values = pixels.astype("float32")
    rows = [
        DemoRow(
            "Keras model",
            size_bytes(folder / "training" / "model.keras"),
            cast(float, score),
            0.0,
            measure_latency(lambda: model(values, training=False)),
        )
    ]
    for done, (name, path) in enumerate(report.paths.items()):
        progress(f"measure {name}", done, len(report.paths))
        runtime = open_runtime(path, FORMATS[name])
        score, difference = report.accuracy[name].score_percent, report.reports[name].max_difference
        latency = measure_latency(lambda runtime=runtime: runtime.run(pixels))  # type: ignore[misc]
        rows.append(DemoRow(name, size_bytes(path), score, difference, latency))
    progress("measure", len(report.paths), len(report.paths))
    return SCENES_RECIPE, {"scenes": sum(SCENES.values())}, rows


class Demo(NamedTuple):
    """The demo of one task."""

    make: Callable[[Path, Progress], Made]
    judged_on: str  # evaluation images in words
    images: str  # path of example images inside the demo's folder
    options: str  # options of `predict` for the example; {out} is the demo's folder


DEMOS: Mapping[str, Demo] = {
    "classify": Demo(digits_alone, f"{HELD_OUT_DIGITS} held-out digits", "images/held_out/7", "--top 3"),
    "segment": Demo(digits_in_scenes, f"{SCENES['val']} held-out scenes", "images/val/images", "--out {out}/masks"),
}


def claim(folder: Path) -> None:
    """Creates the run directory. Its content is replaced only if an earlier demo wrote it.

    Raises:
        ArgumentError: The folder holds other files.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise ArgumentError(f"--out must be a new or empty folder, or an earlier demo's. Received: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


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
            Image.fromarray(grey).save(folder / split / str(digits.target[index]) / f"{index:04d}.png")
    progress("write images", 1, 1)


def read_split(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Folder of class folders -> pixels uint8 `[N, 16, 16, 3]`, digits int `[N]`."""
    paths = list_images([folder])
    return load_images(paths, CONTRACT), np.array([int(path.parent.name) for path in paths])


def write_scenes(folder: Path, progress: Progress) -> None:
    """Writes `train/images/<n>.png`, `train/masks/<n>.png`, `val/images/<n>.png`, `val/masks/<n>.png`, `classes.csv`.

    No digit is in both splits. A mask's labels are 0 for the background, and digit + 1 for the strokes of a digit.
    """
    digits = require("sklearn.datasets", "demo").load_digits()
    if folder.exists():
        shutil.rmtree(folder)
    generator = np.random.default_rng(0)
    own = {"train": np.arange(HELD_OUT_DIGITS, len(digits.target)), "val": np.arange(HELD_OUT_DIGITS)}
    for split, count in SCENES.items():
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number, (pixels, mask) in enumerate(_scenes(count, digits, own[split], generator)):
            Image.fromarray(pixels).save(folder / split / "images" / f"{number:03d}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{number:03d}.png")
    names = ["background", *(str(digit) for digit in range(10))]
    (folder / "classes.csv").write_text("\n".join(["name", *names]) + "\n", encoding="utf-8")
    progress("write images", 1, 1)


def _scenes(
    count: int, digits: Any, indices: np.ndarray, generator: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """-> pixels uint8 `[H, W, 3]` of digits side by side, each in its own colour, on a gradient; mask `[H, W]`."""
    height, width = SCENE
    for _ in range(count):
        ends = generator.uniform(0, 110, (2, 3))
        slope = np.linspace(0, 1, width)[None, :, None]
        scene = np.broadcast_to(ends[0] + slope * (ends[1] - ends[0]), (height, width, 3)).copy()
        mask = np.zeros((height, width), np.uint8)
        left = int(generator.integers(0, 6))
        while left < width - 24:
            side = int(generator.integers(24, 41))
            index = generator.choice(indices)
            ink = Image.fromarray((digits.images[index] / 16).astype("float32")).resize((side, side))
            strokes = np.asarray(ink).clip(0, 1)[:, : width - left]
            top = int(generator.integers(0, height - side + 1))
            place = np.s_[top : top + side, left : left + strokes.shape[1]]
            scene[place] += strokes[..., None] * (generator.uniform(150, 255, 3) - scene[place])
            mask[place][strokes > STROKE] = 1 + digits.target[index]
            left += side + int(generator.integers(0, 9))
        noisy = scene + generator.normal(0, 6, scene.shape)
        yield noisy.round().clip(0, 255).astype(np.uint8), mask


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
    return keras.models.load_model(training / "model.keras", compile=False)


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
