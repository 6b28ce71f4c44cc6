"""The smallest run there is: ResNet-20 on 32x32 pixels of three classes that are told apart by their brightness."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.training.recipe import Recipe, read_recipe


def write_arrays(path: Path, count: int = 48, held_out: int = 12, seed: int = 0) -> Path:
    """-> .npz archive of `count` training and `held_out` validation images, uint8 `[N, 32, 32, 3]`, of 3 classes."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for split, images in (("train", count), ("val", held_out)):
        classes = np.arange(images) % 3
        noise = generator.integers(0, 100, (images, 32, 32, 3))
        arrays[f"x_{split}"] = (noise + 60 * classes[:, None, None, None]).astype(np.uint8)
        arrays[f"y_{split}"] = classes
    np.savez(path, **arrays)
    return path


def tiny(data: Path | str, **keys: Any) -> Recipe:
    """Data, keys that differ -> recipe of a run of seconds."""
    own = {"network": "resnet20", "size": 32, "crop": "padded", "batch_size": 16, "epochs": 2, "warmup_epochs": 0.5}
    own |= {"learning_rate": 0.05, "xla": "off", "data": str(data)}
    return read_recipe(None, own | keys)
