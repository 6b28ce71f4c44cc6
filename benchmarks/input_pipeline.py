"""Images a second that training gets from JPEG files of 500x375: a random area resized to 224, mirrored at random.

Compared by turns in one run, each on both cores and with the page cache warm:

- ours: `keras_resnet.data.pipeline.training_batches`, from files, and from the same files packed;
- Keras: `keras.utils.image_dataset_from_directory`, which decodes and resizes whole images, then `RandomFlip` and
  either `RandomCrop` (the least that its layers can do) or `RandomTranslation` and `RandomZoom` (the nearest there is
  to a random area);
- Pillow: decoding, `resize(box=)` and mirroring in two processes of PyTorch's `DataLoader`;
- the limit: TensorFlow's libjpeg-turbo decoding the same areas of the same files, or the whole files, and nothing else;
- that limit with TensorFlow's plain resize, rounding, mirroring and batching, and nothing of this package. How far it
  is below bare decoding is what these operations cost; how far ours is below it is what our pipeline costs.

    python benchmarks/input_pipeline.py --photographs photographs
"""

import gc
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from shared import chosen, finish

from keras_resnet.measure.turns import by_turns, spread
from keras_resnet.preprocessing import list_images

WIDTH, HEIGHT, QUALITY = 500, 375, 90
# There are so many copies of each file, since an epoch of a thousand lasts a second. They are no links: the packed set
# holds each image as often, and whoever reads fewer bytes finds more of them in the processor's cache.
FILES, COPIES, CLASSES = 1000, 4, 10
SIZE, BATCH_SIZE, SEED = 224, 64, 0
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
WARM_UP, MORE = 8, 8  # batches before and after those that are timed: none of these finds its workers idle
SETTINGS = {
    "images": f"{FILES} JPEG files of {WIDTH}x{HEIGHT}, quality {QUALITY}",
    "size": SIZE,
    "batch_size": BATCH_SIZE,
    "augmentation": f"random area {AREA}, ratio {RATIO}, mirrored at random",
    "arrays": "uint8 32x32, padded crop, mirrored at random, batches of 128",
}

Batches = Iterator[int]  # images in each
Maker = Callable[[Path, int, int], Batches]  # of a folder of images, with a seed, at least so many


def main(
    photographs: Annotated[Path, typer.Option(help="Folder of photographs, from which the files are made.")],
    rounds: int = 7,
    batches: Annotated[int, typer.Option(help="Timed batches of each turn.")] = 30,
    only: Annotated[str, typer.Option(help="Names of what is measured, with commas between them.")] = "",
    out: Path = Path("benchmarks/results/input_pipeline.json"),
) -> None:
    """Measures each by turns, and writes medians, extremes and ratios."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    names = chosen("--only", only, CONTENDERS)
    with tempfile.TemporaryDirectory() as temporary:
        files, packed = Path(temporary, "files"), Path(temporary, "packed")
        make_files(photographs, files)
        from keras_resnet.packing import pack

        pack(files, packed)
        subjects = {}
        for name in names:
            folder = packed if name == "ours packed" else files
            subjects[name] = partial(images_per_second, CONTENDERS[name], folder, itertools.count(), batches)
        rates = by_turns(subjects, rounds)
    results = {}
    for name, values in rates.items():
        figures = {key: round(value, 1) for key, value in spread(values).items()}
        results[name] = {"images_per_second": figures.pop("median"), **figures, "rounds": rounds}
    finish(None if only else out, "input_pipeline", {**SETTINGS, "timed_batches": batches}, results)


def make_files(photographs: Path, folder: Path) -> None:
    """Folder of photographs -> class folders of crops of them, scaled up to 500x375."""
    files = list_images([photographs])
    for number in range(FILES):
        image: Image.Image = Image.open(files[number % len(files)]).convert("RGB")
        scale = max(WIDTH / image.width, HEIGHT / image.height) * (1 + 0.15 * (number // len(files)))
        image = image.resize((round(image.width * scale + 0.5), round(image.height * scale + 0.5)))
        left, top = (image.width - WIDTH) // 2, (image.height - HEIGHT) // 2
        path = folder / f"{number % CLASSES:02d}" / f"{number:04d}_0.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.crop((left, top, left + WIDTH, top + HEIGHT)).save(path, quality=QUALITY)
        for copy in range(1, COPIES):
            shutil.copyfile(path, path.with_name(f"{number:04d}_{copy}.jpg"))


def images_per_second(make: Maker, folder: Path, seeds: Iterator[int], timed: int) -> float:
    batches = make(folder, next(seeds), WARM_UP + timed + MORE)
    for _ in range(WARM_UP):
        next(batches)
    start = time.perf_counter()
    images = sum(next(batches) for _ in range(timed))
    seconds = time.perf_counter() - start
    for _ in itertools.islice(batches, MORE):
        pass
    del batches
    gc.collect()  # ends its threads
    return images / seconds


def ours(folder: Path, seed: int, count: int) -> Batches:
    from keras_resnet.tasks.sources import open_source

    return epochs_of(open_source(folder, "train"), seed, SIZE, BATCH_SIZE)


def ours_arrays(folder: Path, seed: int, count: int) -> Batches:
    from keras_resnet.data.arrays import ArraySource
    from keras_resnet.tasks.classify.target import LABEL

    images = 50_000
    pixels = np.random.default_rng(SEED).integers(0, 256, (images, 32, 32, 3), np.uint8)
    names = [str(index) for index in range(images)]
    source = ArraySource(pixels, "arrays", "train", names[:CLASSES], names, np.arange(images) % CLASSES, target=LABEL)
    return epochs_of(source, seed, 32, 128, crop="padded")


def epochs_of(source: Any, seed: int, size: int, batch_size: int, **augmentation: Any) -> Batches:
    from keras_resnet.data.augment import Augmentation
    from keras_resnet.data.pipeline import training_batches
    from keras_resnet.data.problems import Problems

    settings: dict[str, Any] = {"size": size, "batch_size": batch_size, "seed": seed, "problems": Problems(0)}
    for epoch in range(1000):
        dataset = training_batches(source, Augmentation(**augmentation), epoch=epoch, **settings)
        yield from (len(pixels) for pixels, _ in dataset)


def keras_batches(crop: bool, folder: Path, seed: int, count: int) -> Batches:
    import keras
    import tensorflow as tf

    if crop:
        side, layers = 256, [keras.layers.RandomCrop(SIZE, SIZE, seed=seed)]
    else:
        # A random area of 0.08 to 1 is a zoom by 0.28 to 1; a layer before it moves what is zoomed in on.
        moved = keras.layers.RandomTranslation(0.36, 0.36, seed=seed)
        side, layers = SIZE, [moved, keras.layers.RandomZoom((-0.72, 0.0), (-0.72, 0.0), seed=seed)]
    augment = keras.Sequential([*layers, keras.layers.RandomFlip("horizontal", seed=seed)])
    dataset = keras.utils.image_dataset_from_directory(
        folder, label_mode="categorical", image_size=(side, side), batch_size=BATCH_SIZE, seed=seed, verbose=False
    )
    dataset = dataset.map(
        lambda pixels, labels: (augment(pixels, training=True), labels), num_parallel_calls=tf.data.AUTOTUNE
    )
    yield from (len(pixels) for pixels, _ in dataset.repeat().prefetch(tf.data.AUTOTUNE))


def bare_batches(kept: str, folder: Path, seed: int, count: int) -> Batches:
    """Files -> areas, whole images, or resized areas. Of the first two, only the sizes are kept, which differ."""
    import tensorflow as tf

    files = np.array([str(path) for path in list_images([folder])])
    draw = np.random.default_rng(seed)
    files = files[draw.permutation(len(files))]
    boxes = np.array([random_area(WIDTH, HEIGHT, draw) for _ in files], "int32")[:, [1, 0, 3, 2]]
    mirrored = draw.random(len(files)) < 0.5

    def decode(file: Any, box: Any, mirror: Any) -> Any:
        encoded, options = tf.io.read_file(file), {"channels": 3, "dct_method": "INTEGER_ACCURATE"}
        if kept == "whole images":
            return tf.shape(tf.io.decode_jpeg(encoded, **options))
        pixels = tf.io.decode_and_crop_jpeg(encoded, box, **options)
        if kept == "areas":
            return tf.shape(pixels)
        images = tf.cast(pixels, tf.float32)[None]
        resized = tf.raw_ops.ResizeBilinear(images=images, size=[SIZE, SIZE], half_pixel_centers=True)
        rounded = tf.cast(resized[0] + 0.5, tf.uint8)
        return tf.cond(mirror, lambda: tf.reverse(rounded, [1]), lambda: rounded)

    dataset = tf.data.Dataset.from_tensor_slices((files, boxes, mirrored)).repeat()
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE)
    yield from (len(batch) for batch in dataset.prefetch(tf.data.AUTOTUNE))


def pillow_batches(folder: Path, seed: int, count: int) -> Batches:
    """No more than these: workers that are stopped in the middle abort."""
    import torch

    files = np.array([str(path) for path in list_images([folder])])
    drawn = np.random.default_rng(seed).integers(len(files), size=count * BATCH_SIZE)
    loader: Any = torch.utils.data.DataLoader(
        PillowImages(files[drawn].tolist(), seed),
        batch_size=BATCH_SIZE,
        num_workers=2,
        multiprocessing_context="spawn",  # a fork would take TensorFlow's locks along
    )
    yield from (len(pixels) for pixels in loader)


class PillowImages:
    """Index -> uint8 `[224, 224, 3]`: a random area, resized and mirrored at random."""

    def __init__(self, files: list[str], seed: int) -> None:
        self.files, self.seed = files, seed

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        draw = np.random.default_rng([self.seed, index])
        with Image.open(self.files[index]) as image:
            pixels = image.convert("RGB")
        left, top, width, height = random_area(*pixels.size, draw)
        box = (left, top, left + width, top + height)
        pixels = pixels.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
        if draw.random() < 0.5:
            pixels = pixels.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.array(pixels)


def random_area(width: int, height: int, draw: np.random.Generator) -> tuple[int, int, int, int]:
    """Size of an image -> left, top, width, height of a random area of it, as torchvision's RandomResizedCrop draws."""
    for _ in range(10):
        area, ratio = draw.uniform(*AREA) * width * height, np.exp(draw.uniform(*np.log(RATIO)))
        columns, rows = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            return int(draw.integers(width - columns + 1)), int(draw.integers(height - rows + 1)), columns, rows
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


CONTENDERS: dict[str, Maker] = {
    "ours": ours,
    "ours packed": ours,
    "keras RandomCrop": partial(keras_batches, True),
    "keras RandomZoom": partial(keras_batches, False),
    "pillow 2 processes": pillow_batches,
    "limit the areas": partial(bare_batches, "areas"),
    "limit whole images": partial(bare_batches, "whole images"),
    "limit the areas resized and mirrored": partial(bare_batches, "resized areas"),
    "ours arrays 32x32": ours_arrays,
}

if __name__ == "__main__":
    typer.run(main)
