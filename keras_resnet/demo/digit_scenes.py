"""The demo of segmentation: the strokes of several digits on a made-up background."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_resnet.demo.digits import EXPORTED, HELD_OUT_DIGITS
from keras_resnet.demo.steps import Made, export_and_measure, train_network, write_image
from keras_resnet.export import CalibrationImages
from keras_resnet.export.pipeline import Progress
from keras_resnet.optional import require
from keras_resnet.preprocessing import list_images, load_images
from keras_resnet.training.recipe import Recipe
from keras_resnet.variants import WholeImage
from keras_resnet.whole_files import write_whole

SCENES = {"train": 400, "val": 80}
SCENE = (64, 96)  # height, width
STROKE = 0.35  # smallest share of the darkest ink at which a pixel belongs to a digit
RECIPE = Recipe(
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


def make(folder: Path, progress: Progress) -> Made:
    """Run directory -> recipe, facts and table of the segmentation demo."""
    images = folder / "images"
    write_scenes(images, progress)
    model = train_network(folder, replace(RECIPE, data=str(images)), progress)
    calibration = CalibrationImages(images / "train" / "images", count=SCENES["val"])
    one = load_images(list_images([images / "val" / "images"])[:1], WholeImage(*SCENE))
    rows = export_and_measure(folder, model, EXPORTED, images, calibration, one, progress)
    return RECIPE, {"scenes": sum(SCENES.values())}, rows


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
            write_image(folder / split / "images" / f"{number:03d}.png", pixels)
            write_image(folder / split / "masks" / f"{number:03d}.png", mask)
    names = ["background", *(str(digit) for digit in range(10))]
    write_whole(folder / "classes.csv", ("\n".join(["name", *names]) + "\n").encode())
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
