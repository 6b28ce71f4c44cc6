"""The images that calibrate, and those on which an artifact is compared with its model."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.errors import ExportError
from keras_resnet.preprocessing import list_images, load_images
from keras_resnet.untuned import untuned
from keras_resnet.variants import Contract

MINIMUM_CALIBRATION_IMAGES = 32
# As many images run at once as have the pixels of 8 images of 224x224, of which ResNet-50 holds 90 MB of activations
# each. Small images are many then: a call takes a tenth of a second whatever is in it.
BATCH_PIXELS, LARGEST_BATCH = 8 * 224 * 224, 256

# Half the squared difference of neighbouring pixels, by the variance of all: 1 in noise, far less in photographs.
NOISE_RATIO = 0.9

INFINITE = -1  # cardinality of a tf.data.Dataset

ImageShape = tuple[int | None, int | None, int]  # height, width, channels
ImageSource = str | os.PathLike[str] | np.ndarray | Any  # folder, glob, pixels, or tf.data.Dataset


@dataclass(frozen=True)
class CalibrationImages:
    """Images from which integer formats learn the range of each activation, and how they are drawn."""

    images: (
        ImageSource  # at least 32 representative ones: folder, glob, pixels uint8 `[N, H, W, C]`, or tf.data.Dataset
    )
    count: int | None = None  # how many of them are drawn; None: all
    seed: int = 0  # for drawing them
    force: bool = False  # whether fewer than 32 images, or noise, are taken all the same


@dataclass(frozen=True)
class DrawnImages:
    """The images that the ranges of an integer artifact come from, and what the manifest says of them."""

    images: np.ndarray  # uint8 `[N, H, W, C]`
    source: str
    sha256: str  # of the list of files, or of the pixels where there are no files
    seed: int | None  # of the choice among more files; None: all were taken

    def as_dict(self) -> dict[str, Any]:
        return {"images": len(self.images), "source": self.source, "sha256": self.sha256, "seed": self.seed}


def calibration_images(
    calibration: ImageSource | CalibrationImages, contract: Contract | None, shape: ImageShape
) -> DrawnImages:
    """Folder, glob, array or dataset -> its images, or those that `CalibrationImages` draws of it.

    Raises:
        ImageError: A file can't be read.
        ExportError: Too few images, or noise in place of images, unless forced; or pixels of another shape or type.
    """
    if not isinstance(calibration, CalibrationImages):
        calibration = CalibrationImages(calibration)
    source, count, seed = calibration.images, calibration.count, calibration.seed
    drawn = None
    if isinstance(source, (str, os.PathLike)):
        files = list_images([source])
        if count is not None and count < len(files):
            chosen = np.random.default_rng(seed).choice(len(files), count, replace=False)
            files, drawn = [files[index] for index in sorted(chosen)], seed
        images = _load(files, contract, shape)
        root = Path(source)
        names = [file.relative_to(root).as_posix() if root.is_dir() else file.name for file in files]
        name, digest = "files", hashlib.sha256("\n".join(names).encode())
    else:
        images = _pixels(source, shape)
        if count is not None and count < len(images):
            images = images[np.sort(np.random.default_rng(seed).choice(len(images), count, replace=False))]
            drawn = seed
        name, digest = "pixels", hashlib.sha256(np.ascontiguousarray(images).tobytes())
    if not calibration.force:
        _check(images)
    return DrawnImages(images, name, digest.hexdigest(), drawn)


def read_images(source: ImageSource, contract: Contract | None, shape: ImageShape) -> np.ndarray:
    """Folder, glob, array or dataset -> pixels uint8 `[N, H, W, C]` of that shape.

    Raises:
        ImageError: A file can't be read.
        ExportError: The pixels are of another shape or type, or files can't be brought to it.
    """
    if isinstance(source, (str, os.PathLike)):
        return _load(list_images([source]), contract, shape)
    return _pixels(source, shape)


def _load(files: list[Path], contract: Contract | None, shape: ImageShape) -> np.ndarray:
    if contract is None or shape[2] != 3:
        raise ExportError(f"image files become square RGB pixels, and the model takes {shape}: give an array instead")
    return load_images(files, contract)


def _pixels(source: Any, shape: ImageShape) -> np.ndarray:
    """Array or dataset, of images or of (images, labels), in batches or one by one -> uint8 `[N, H, W, C]`."""
    if not isinstance(source, np.ndarray):
        if not hasattr(source, "as_numpy_iterator"):
            raise ExportError(f"images must be a folder, a glob, an array or a tf.data.Dataset. Received: {source!r}")
        if int(source.cardinality()) == INFINITE:
            raise ExportError("the dataset of images has no end: give `dataset.take(count)`")
        parts = [
            np.asarray(item[0] if isinstance(item, tuple) else item) for item in untuned(source).as_numpy_iterator()
        ]
        parts = [part[None] if part.ndim == 3 else part for part in parts]
        shapes = sorted({str(part.shape[1:]) for part in parts})
        if len(shapes) != 1 or parts[0].ndim != 4:
            raise ExportError(
                "the dataset must hold images of one shape, alone or first in a tuple. "
                f"Received: {', '.join(shapes) or 'nothing'}"
            )
        source = np.concatenate(parts)
    if source.dtype != np.uint8 or source.ndim != 4 or source.shape[1:] != tuple(shape):
        raise ExportError(
            f"images must be uint8 pixels [N, {', '.join(map(str, shape))}]. "
            f"Received: {source.dtype} {list(source.shape)}"
        )
    return source


def _check(images: np.ndarray) -> None:
    """Refuses what can't tell the range of every activation."""
    if len(images) < MINIMUM_CALIBRATION_IMAGES:
        raise ExportError(
            f"`calibration` must have at least {MINIMUM_CALIBRATION_IMAGES} images. Received: {len(images)}. "
            "To calibrate on them all the same: CalibrationImages(images, force=True) (--force-calibration)"
        )
    values = images.astype("float64")
    neighbours = np.square(np.diff(values, axis=2)).mean() / 2
    if values.var() == 0 or neighbours / values.var() > NOISE_RATIO:
        raise ExportError(
            "`calibration` must hold real images. Received: "
            + ("pixels that are all equal" if values.var() == 0 else "noise, whose neighbouring pixels are unrelated")
            + ". To calibrate on them all the same: CalibrationImages(images, force=True) (--force-calibration)"
        )


def float_batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """uint8 `[N, H, W, C]` -> float32 `[at most batch_size, H, W, C]`, one after the other."""
    size = batch_size(images)
    return (images[i : i + size].astype("float32") for i in range(0, len(images), size))


def batch_size(images: np.ndarray) -> int:
    """`[N, H, W, C]` -> how many of them go through the network at once."""
    height, width = images.shape[1:3]
    return max(1, min(LARGEST_BATCH, BATCH_PIXELS // (height * width)))


def comparison_images(shape: tuple[int, int, int], real: np.ndarray | None, integer: bool) -> np.ndarray:
    """Shape, real images if there are any -> uint8 `[N, H, W, C]` on which a fault would show.

    A float artifact must agree on any picture: synthetic ones, and the real ones too. An integer artifact is bound to
    the range of the real ones, where there are any. Grey pictures can't show swapped channels, so that tinted copies
    join them.
    """
    images = [] if integer and real is not None else [synthetic_images(shape)]
    if real is not None:
        images.append(real)
        if shape[2] > 1 and (real == real[..., :1]).all():
            images.append(_tinted(real))
    return np.concatenate(images)


def _tinted(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Grey `[N, H, W, C]` -> each in a colour of its own: seeded channel factors of 0.6 to 1."""
    factors = np.random.default_rng(seed).uniform(0.6, 1.0, (len(images), 1, 1, images.shape[3]))
    return (images * factors).astype("uint8")


def synthetic_images(shape: tuple[int, int, int], count: int = 16, seed: int = 0) -> np.ndarray:
    """Shape -> uint8 `[count, H, W, C]`: seeded pictures to compare float artifacts on.

    Smooth random colour fields under noise: colour, position and contrast differ from image to image and from channel
    to channel, as they do not in plain noise.
    """
    height, width, channels = shape
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][:, :, :, None]
    images = np.empty((count, height, width, channels), "uint8")
    for image in images:
        field = np.full((height, width, channels), generator.uniform(40, 215, channels))
        for _ in range(6):
            frequency = generator.normal(0, 4, (2, channels))
            phase, weight = generator.uniform(0, 2 * np.pi, channels), generator.uniform(5, 45, channels)
            field += weight * np.sin(2 * np.pi * (frequency[0] * y + frequency[1] * x) + phase)
        image[:] = np.clip(field + generator.normal(0, generator.uniform(2, 20), field.shape), 0, 255)
    return images
