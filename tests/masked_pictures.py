"""Folders of pictures with masks, made here."""

import io
from pathlib import Path

import numpy as np
from pictures import jpeg, picture
from PIL import Image

CLASSES = 5
COLOURS = np.array([[0, 0, 0], [200, 30, 10], [20, 180, 60], [90, 90, 255], [250, 240, 5]], np.uint8)


def labels(height: int, width: int, seed: int, classes: int = CLASSES) -> np.ndarray:
    """-> uint8 `[height, width]`: a few areas, a fifth of them void, asymmetric."""
    coarse = np.random.default_rng(seed).integers(0, classes + 1, (4, 6), dtype=np.uint8)
    coarse[coarse == classes] = 255
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    """Pixels or labels -> PNG file; of mode "P", with a palette that is no sign of the labels."""
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([*range(255, -1, -1)] * 3)
    elif mode is not None:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_masked(
    folder: Path, count: int, height: int = 60, width: int = 80, images: str = "images", masks: str = "masks"
) -> Path:
    """JPEG files and masks, no two of them equal and each of its own size."""
    for index in range(count):
        size = height + index % 7, width + index % 11
        write(folder / images / f"{index:03d}.jpg", jpeg(picture(*size, index + 1)))
        write(folder / masks / f"{index:03d}.png", png(labels(*size, index + 1)))
    return folder
