"""CIFAR-10's images and classes, as the benchmarks read and augment them."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHIFT = 4  # pixels, at most, in each direction

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


def augmented(images: Images, seed: int, epoch: int) -> Images:
    """Images `[N, 32, 32, 3]` -> one epoch of them: shuffled, mirrored at random, shifted by up to 4 pixels."""
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(images[0]))
    padded = np.pad(images[0][order], ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    top, left = generator.integers(0, 2 * SHIFT + 1, (2, len(order)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(1, 2))
    pixels = windows[np.arange(len(order)), top, left].transpose(0, 2, 3, 1)  # from [N, 3, 32, 32]
    mirrored = generator.random(len(order)) < 0.5
    return np.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels), images[1][order]
