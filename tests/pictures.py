"""Folders of labelled pictures, made here."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """-> uint8 `[height, width, 3]`: smooth, as photographs are, and asymmetric."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def decoded(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def write_folder(folder: Path, counts: dict[str, int], height: int = 60, width: int = 80) -> Path:
    """Class folders with so many JPEG files each, no two of them equal and each of its own size."""
    seed = 0
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            seed += 1
            pixels = picture(height + seed % 7, width + seed % 11, seed)
            (folder / name / f"{index:03d}.jpg").write_bytes(jpeg(pixels))
    return folder
