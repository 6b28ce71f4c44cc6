"""CIFAR-10's images and classes, as the benchmarks read them."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Images = tuple[np.ndarray, np.ndarray]  # pixels uint8 [N, 32, 32, 3], class indices int64 [N]


def read_images(path: Path) -> Images:
    """NumPy archive with `x` and `y`, or zip archive of images `.../<class>/<name>` -> pixels and class indices."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return archive["x"], archive["y"].astype("int64")
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names])
    return pixels, np.array([CLASSES.index(name.split("/")[-2]) for name in names])
