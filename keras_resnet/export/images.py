"""Images for calibration, and images for comparing an artifact with its model."""

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
# A batch has as many pixels as 8 images of 224x224, each of which takes 90 MB of activations in ResNet-50. So a batch
# holds many small images, which is faster: each call has an overhead of a tenth of a second.
BATCH_PIXELS, LARGEST_BATCH = 8 * 224 * 224, 256

# Half the squared difference of neighbouring pixels, divided by the variance: 1 in noise, far less in photographs.
NOISE_RATIO = 0.9

INFINITE = -1  # cardinality of a tf.data.Dataset

ImageShape = tuple[int | None, int | None, int]  # height, width, channels
ImageSource = str | os.PathLike[str] | np.ndarray | Any  # folder, glob, pixels, or tf.data.Dataset


@dataclass(frozen=True)
class CalibrationImages:
    """Images from which integer formats learn the range of each activation, and how they are drawn."""

    images: ImageSource  # at least 32 typical images: folder, glob, pixels uint8 `[N, H, W, C]`, or tf.data.Dataset
    count: int | None = None  # number of images to draw; None: all
    seed: int = 0  # seed for drawing images
    force: bool = False  # whether to accept fewer than 32 images, or noise


@dataclass(frozen=True)
class DrawnImages:
    """The calibration images of an integer artifact, and their entry in the manifest."""

    images: np.ndarray  # uint8 `[N, H, W, C]`
    source: str
    sha256: str  # hash of the list of files, or of the pixels if there are no files
    seed: int | None  # seed for drawing from more files; None: all files were taken

    def as_dict(self) -> dict[str, Any]:
        return {"images": len(self.images), "source": self.source, "sha256": self.sha256, "seed": self.seed}


def calibration_images(
    calibration: ImageSource | CalibrationImages, contract: Contract | None, shape: ImageShape
) -> DrawnImages:
    """Folder, glob, array or dataset -> its images; `CalibrationImages` -> the images that it draws.

    Raises:
        ImageError: A file can't be read.
        ExportError: There are too few images, or only noise, unless forced; or pixels have a wrong shape or type.
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
        ExportError: The pixels have a wrong shape or type, or image files can't have this shape.
    """
    if isinstance(source, (str, os.PathLike)):
        return _load(list_images([source]), contract, shape)
    return _pixels(source, shape)


def _load(files: list[Path], contract: Contract | None, shape: ImageShape) -> np.ndarray:
    if contract is None or shape[2] != 3:
        raise ExportError(f"image files become square RGB pixels, but the model takes {shape}: give an array instead")
    return load_images(files, contract)


def _pixels(source: Any, shape: ImageShape) -> np.ndarray:
    """Array or dataset, of images or of (images, labels), in batches or one by one -> uint8 `[N, H, W, C]`."""
    if not isinstance(source, np.ndarray):
        if not hasattr(source, "as_numpy_iterator"):
            raise ExportError(f"images must be a folder, a glob, an array or a tf.data.Dataset. Received: {source!r}")
        if int(source.cardinality()) == INFINITE:
            raise ExportError("the dataset of images is infinite: give `dataset.take(count)`")
        parts = [
            np.asarray(item[0] if isinstance(item, tuple) else item) for item in untuned(source).as_numpy_iterator()
        ]
        parts = [part[None] if part.ndim == 3 else part for part in parts]
        shapes = sorted({str(part.shape[1:]) for part in parts})
        if len(shapes) != 1 or parts[0].ndim != 4:
            raise ExportError(
                "the dataset must hold images of one shape, or tuples that start with them. "
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
    """Refuses images that can't determine the range of every activation."""
    if len(images) < MINIMUM_CALIBRATION_IMAGES:
        raise ExportError(
            f"`calibration` (--calibration) must have at least {MINIMUM_CALIBRATION_IMAGES} images. Received: "
            f"{len(images)}. To calibrate on them anyway: CalibrationImages(images, force=True) (--force-calibration)"
        )
    values = images.astype("float64")
    neighbours = np.square(np.diff(values, axis=2)).mean() / 2
    if values.var() == 0 or neighbours / values.var() > NOISE_RATIO:
        raise ExportError(
            "`calibration` (--calibration) must hold real images. Received: "
            + ("pixels that are all equal" if values.var() == 0 else "noise, whose neighbouring pixels are unrelated")
            + ". To calibrate on them anyway: CalibrationImages(images, force=True) (--force-calibration)"
        )


def float_batches(images: np.ndarray, size: int | None = None) -> Iterator[np.ndarray]:
    """uint8 `[N, H, W, C]` -> batches float32 `[at most size, H, W, C]`; default: `batch_size`."""
    size = size or batch_size(images)
    return (images[i : i + size].astype("float32") for i in range(0, len(images), size))


def batch_size(images: np.ndarray) -> int:
    """`[N, H, W, C]` -> batch size for the network."""
    height, width = images.shape[1:3]
    return max(1, min(LARGEST_BATCH, BATCH_PIXELS // (height * width)))


def comparison_images(shape: tuple[int, int, int], real: np.ndarray | None, integer: bool) -> np.ndarray:
    """Shape, real images if there are any -> images uint8 `[N, H, W, C]` that reveal faults.

    A float artifact must agree on any picture, and is compared on synthetic and real pictures. An integer artifact is
    valid only for the range of the real pictures, if there are any. Grey pictures can't reveal swapped channels, so
    tinted copies are added.
    """
    images = [] if integer and real is not None else [synthetic_images(shape)]
    if real is not None:
        images.append(real)
        if shape[2] > 1 and (real == real[..., :1]).all():
            images.append(_tinted(real))
    return np.concatenate(images)


def _tinted(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Grey `[N, H, W, C]` -> tinted images, each with its own seeded channel factors of 0.6 to 1."""
    factors = np.random.default_rng(seed).uniform(0.6, 1.0, (len(images), 1, 1, images.shape[3]))
    return (images * factors).astype("uint8")


def synthetic_images(shape: tuple[int, int, int], count: int = 16, seed: int = 0) -> np.ndarray:
    """Shape -> uint8 `[count, H, W, C]`: seeded pictures for comparing float artifacts.

    The pictures are smooth random colour fields with noise: unlike in plain noise, colour, position and contrast differ
    between images and between channels.
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
