"""The demo of detection: coloured discs, squares and triangles on textures, found by a small Mask R-CNN."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.demo.steps import Made, export_and_measure, train_network, write_image
from keras_resnet.evaluation.run_lengths import run_lengths_of_instances
from keras_resnet.export.pipeline import Progress
from keras_resnet.preprocessing import list_images, load_images
from keras_resnet.training.recipe import Recipe
from keras_resnet.variants import WholeImage
from keras_resnet.whole_files import write_whole

SCENES = {"train": 900, "val": 60}
SIDE = 128  # height and width of a scene
CLASSES = ("disc", "square", "triangle")
MOST_SHAPES = 6
RADII = 9, 30  # smallest and largest distance from the centre of a shape to its edge or corner
LEAST_VISIBLE = 0.6  # share of a shape that the later ones leave visible
# Nothing in a demo is downloaded, so the backbone starts from random weights and learns with all of its BatchNorm.
RECIPE = Recipe(
    task="detect",
    detector="mask_rcnn",
    network="resnet18",
    size=SIDE,
    anchor_sizes=(16, 24, 32, 40, 48),
    pyramid_channels=64,
    box_units=128,
    proposals=50,
    max_detections=20,
    box_samples=32,
    crop="fitted",
    minimum_scale=0.9,
    maximum_scale=1.2,
    epochs=4,
    batch_size=8,
    optimizer="adamw",
    learning_rate=1.5e-3,
    warmup_epochs=1.0,
    clip_norm=10.0,
    weight_decay=0.05,
)
FIGURES = {"mask AP": "mask_ap_percent"}  # in the table beside the AP of boxes
EXPORTED = ("saved_model", "tflite", "onnx")


class Scene(NamedTuple):
    """One image with its objects."""

    pixels: np.ndarray  # uint8 [H, W, 3]
    instances: np.ndarray  # uint8 [H, W]: k stands for the object at place k - 1, and 0 for none
    classes: list[int]  # class of each object


def make(folder: Path, progress: Progress) -> Made:
    """Run directory -> recipe, facts and table of the demo of detection."""
    images = folder / "images"
    write_shapes(images, progress)
    model = train_network(folder, replace(RECIPE, data=str(images)), progress)
    one = load_images(list_images([images / "val"])[:1], WholeImage(SIDE, SIDE))
    rows = export_and_measure(folder, model, EXPORTED, images, None, one, progress, FIGURES)
    return RECIPE, {"scenes": sum(SCENES.values())}, rows


def write_shapes(folder: Path, progress: Progress) -> None:
    """Writes `train/<n>.jpg`, `val/<n>.jpg` and their COCO files, `annotations/instances_<split>.json`."""
    if folder.exists():
        shutil.rmtree(folder)
    (folder / "annotations").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split, count in SCENES.items():
        (folder / split).mkdir()
        content: dict[str, list[Any]] = {"images": [], "annotations": []}
        content["categories"] = [{"id": place, "name": name} for place, name in enumerate(CLASSES, start=1)]
        for number in range(count):
            scene = draw_scene(generator)
            name = f"{number:03d}.jpg"
            write_image(folder / split / name, scene.pixels)
            content["images"].append({"id": number, "file_name": name, "height": SIDE, "width": SIDE})
            content["annotations"] += _annotations(scene, number)
        write_whole(folder / "annotations" / f"instances_{split}.json", json.dumps(content).encode())
    progress("write images", 1, 1)


def _annotations(scene: Scene, image: int) -> Iterator[dict[str, Any]]:
    """Scene, id of its image -> COCO's entry for each object: the mask of its visible pixels, and the box around it."""
    masks = run_lengths_of_instances(scene.instances, len(scene.classes))
    for place, (label, mask) in enumerate(zip(scene.classes, masks, strict=True)):
        rows, columns = np.nonzero(scene.instances == place + 1)
        left, top = int(columns.min()), int(rows.min())
        yield {
            "image_id": image,
            "category_id": label + 1,
            "bbox": [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top],
            "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            "iscrowd": 0,
        }


def draw_scene(generator: np.random.Generator) -> Scene:
    """-> up to `MOST_SHAPES` shapes, which may overlap, in colours that say nothing about their class."""
    pixels = _texture(generator, 20, 130, 60)
    instances = np.zeros((SIDE, SIDE), np.uint8)
    classes: list[int] = []
    areas: list[int] = []
    for _ in range(int(generator.integers(2, MOST_SHAPES + 1))):
        label = int(generator.integers(len(CLASSES)))
        shape = _shape(label, generator)
        covered = np.bincount(instances[shape], minlength=len(areas) + 1)[1:]
        left = np.bincount(instances.ravel(), minlength=len(areas) + 1)[1:] - covered
        if (left < LEAST_VISIBLE * np.array(areas)).any():
            continue
        classes.append(label)
        areas.append(int(shape.sum()))
        instances[shape] = len(classes)
        pixels[shape] = _texture(generator, 110, 250, 15)[shape]
    noisy = pixels + generator.normal(0, 6, pixels.shape)
    return Scene(noisy.round().clip(0, 255).astype(np.uint8), instances, classes)


def _texture(generator: np.random.Generator, darkest: float, brightest: float, spread: float) -> np.ndarray:
    """-> soft spots around one colour between the two values, float `[H, W, 3]`."""
    colour = generator.uniform(darkest, brightest, 3)
    spots = Image.fromarray(generator.uniform(-spread, spread, (16, 16)).astype("float32"))
    return colour + np.asarray(spots.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[..., None]


def _shape(label: int, generator: np.random.Generator) -> np.ndarray:
    """Class -> which pixels a turned shape of this class has, at a random place, bool `[H, W]`."""
    radius = generator.uniform(*RADII)
    centre = generator.uniform(radius, SIDE - radius, 2)
    canvas = Image.new("1", (SIDE, SIDE))
    draw = ImageDraw.Draw(canvas)
    if CLASSES[label] == "disc":
        radius *= 0.8  # so that discs are about as large as the others
        draw.ellipse([*(centre - radius), *(centre + radius)], fill=1)
    else:
        corners = 4 if CLASSES[label] == "square" else 3
        angles = generator.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
        points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        draw.polygon([*map(tuple, points.tolist())], fill=1)
    return np.asarray(canvas)
