"""Images in memory: an .npz archive."""

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_resnet.array_files import Arrays
from keras_resnet.data.base import Decoded, Source
from keras_resnet.data.labelled import LONGEST_INDEX
from keras_resnet.errors import ArgumentError, reason
from keras_resnet.preprocessing import apply_contract
from keras_resnet.variants import Contract

if TYPE_CHECKING:
    import tensorflow as tf


class ArraySource(Source):
    """uint8 images `[N, H, W, C]`, where C is 1 or 3."""

    kind = "arrays"

    def __init__(self, images: np.ndarray, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.images = images

    def load(self, index: int, contract: Contract) -> np.ndarray:
        """Index -> uint8 `[size, size, 3]`, as `preprocessing.load_image` does with files."""
        return apply_contract(contract, self.decode(index).pixels)

    def decode(self, index: int) -> Decoded:
        return Decoded(b"", np.repeat(self.images[index], 3 // self.images.shape[3], axis=2), self.labels[index])

    def pixels(self, indices: "tf.Tensor") -> "tf.Tensor":
        """int64 `[n]` -> uint8 RGB `[n, H, W, 3]`, in a graph."""
        import tensorflow as tf

        height, width, channels = self.images.shape[1:]
        pixels = tf.numpy_function(lambda indices: self.images[indices], [indices], tf.uint8, stateful=False)
        pixels.set_shape([None, height, width, channels])
        return pixels if channels == 3 else tf.repeat(pixels, 3, axis=3)


def read_npz(file: Path, split: str, validation: str) -> tuple[np.ndarray, np.ndarray, int, bool]:
    """.npz archive, split, name of the split that validates -> images `[N, H, W, C]`, labels `[N]`, number of classes,
    whether there is a split that validates.

    Without a validation split, every split gets x_train and y_train.

    Raises:
        ArgumentError: The file is no archive of such arrays.
    """
    try:
        with Arrays(file) as archive:
            own = validation if f"x_{validation}" in archive.names else None
            arrays = {
                name: archive[name]
                for name in archive.names
                if name.startswith("y_") or name == f"x_{own if split == 'val' and own else 'train'}"
            }
            received = ", ".join(archive.names)
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ArgumentError(f"{file}: not an .npz archive of plain arrays: {reason(error)}") from error
    wanted = own if split == "val" and own else "train"
    missing = [name for name in (f"x_{wanted}", f"y_{wanted}") if name not in arrays]
    if missing:
        raise ArgumentError(
            f"{file}: it must hold the arrays x_train and y_train; x_val and y_val, if it has validation images. "
            f"Received: {received or 'no arrays'}"
        )
    images, labels = arrays[f"x_{wanted}"], _labels(file, f"y_{wanted}", arrays)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or min(images.shape) < 1:
        raise ArgumentError(
            f"{file}: x_{wanted} must hold uint8 pixels [N, H, W], [N, H, W, 1] or [N, H, W, 3]. "
            f"Received: {images.dtype} {list(images.shape)}"
        )
    if len(images) != len(labels):
        raise ArgumentError(f"{file}: x_{wanted} holds {len(images)} images, y_{wanted} {len(labels)} labels")
    named = [_labels(file, name, arrays) for name in ("y_train", f"y_{own}") if name in arrays]
    return images, labels, 1 + max(int(values.max()) for values in named), own is not None


def _labels(file: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    labels = arrays[name]
    if labels.ndim == 2 and labels.shape[1] == 1:  # keras.datasets.cifar10 has such labels
        labels = labels[:, 0]
    wrong = labels.dtype.kind not in "iu" or labels.ndim != 1 or len(labels) < 1
    if wrong or labels.min() < 0 or len(str(labels.max())) > LONGEST_INDEX:
        raise ArgumentError(
            f"{file}: {name} must hold class indices from 0, integers [N] of at most {LONGEST_INDEX} digits. Received: "
            f"{labels.dtype} {list(labels.shape)}" + (f", {labels.min()} to {labels.max()}" if labels.size else "")
        )
    return labels
