"""The images that calibrate, and those on which an artifact is compared with its model."""

import os

import numpy as np

from keras_resnet.errors import ExportError
from keras_resnet.preprocessing import list_images, load_images
from keras_resnet.variants import InputContract

MINIMUM_CALIBRATION_IMAGES = 32

Shape = tuple[int, int, int]  # height, width, channels


def read_images(
    source: str | os.PathLike[str] | np.ndarray, contract: InputContract | None, shape: Shape
) -> np.ndarray:
    """Folder, glob or array -> pixels uint8 `[N, H, W, C]` of that shape.

    Raises:
        ImageError: A file can't be read.
        ExportError: The pixels are of another shape or type, or files can't be brought to it.
    """
    if isinstance(source, np.ndarray):
        images = source
    elif contract is None or shape[2] != 3:
        raise ExportError(f"image files become square RGB pixels, and the model takes {shape}: give an array instead")
    else:
        images = load_images(list_images([source]), contract)
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise ExportError(
            f"images must be uint8 pixels [N, {', '.join(map(str, shape))}]. "
            f"Received: {images.dtype} {list(images.shape)}"
        )
    return images


def check_calibration(images: np.ndarray) -> None:
    """Raises `ExportError` if the images are too few to tell the range of every activation."""
    if len(images) < MINIMUM_CALIBRATION_IMAGES:
        raise ExportError(
            f"`calibration` must have at least {MINIMUM_CALIBRATION_IMAGES} images. Received: {len(images)}"
        )


def comparison_images(shape: Shape, real: np.ndarray | None, quantized: bool) -> np.ndarray:
    """Shape, real images if there are any -> uint8 `[N, H, W, C]` on which a fault would show.

    A float artifact must agree on any picture: synthetic ones, and the real ones too. An integer artifact is bound to
    the range of the real ones. Grey pictures can't show swapped channels, so that tinted copies join them.
    """
    images = [] if quantized else [synthetic_images(shape)]
    if real is not None:
        images.append(real)
        if shape[2] > 1 and (real == real[..., :1]).all():
            images.append(_tinted(real))
    return np.concatenate(images)


def _tinted(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Grey `[N, H, W, C]` -> each in a colour of its own: seeded channel factors of 0.6 to 1."""
    factors = np.random.default_rng(seed).uniform(0.6, 1.0, (len(images), 1, 1, images.shape[3]))
    return (images * factors).astype("uint8")


def synthetic_images(shape: Shape, count: int = 16, seed: int = 0) -> np.ndarray:
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
