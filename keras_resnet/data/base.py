"""What every source of labelled images has in common."""

import abc
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.errors import ImageError

HELD_OUT = "a tenth of each class of the images, by a hash of their names"


class Source:
    """Labelled images of one split, in a fixed order.

    Args:
        path: What the user named.
        split: "train" or "val".
        classes: Names of the classes.
        names: Names of the images, which don't depend on where the data lies.
        labels: Classes of the images, int `[N]`.
        held_out: Whether the data has no validation images of its own, and val is the tenth that train goes without.
    """

    kind = ""

    def __init__(
        self,
        path: str,
        split: str,
        classes: Sequence[str],
        names: Sequence[str],
        labels: np.ndarray,
        held_out: bool = False,
    ) -> None:
        self.path, self.split, self.held_out = path, split, held_out
        self.classes = tuple(classes)
        self.names = names
        self.labels = labels.astype("int32")

    @property
    def count(self) -> int:
        return len(self.labels)

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Images of each class, int `[classes]`."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def name_of(self, index: int) -> str:
        return self.names[index]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.names, self.labels)

    def summary(self) -> dict[str, Any]:
        """-> what a run notes about its data, for JSON."""
        return {
            "kind": self.kind,
            "path": self.path,
            "split": self.split,
            "validation": f"held out: {HELD_OUT}" if self.held_out else "its own",
            "classes": list(self.classes),
            "count": self.count,
            "class_counts": self.class_counts.tolist(),
            "fingerprint": self.fingerprint,
        }

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """-> indices of the images in an epoch's order, int64 `[N]`: each once."""
        return np.random.default_rng([seed, epoch]).permutation(self.count)


def fingerprint_of(names: Sequence[str], labels: np.ndarray) -> str:
    """Names and classes of images -> SHA-256 over them in order: where it is equal, an epoch has the same order."""
    hashed = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    hashed.update(labels.astype("<i8").tobytes())
    return hashed.hexdigest()


class EncodedSource(Source, abc.ABC):
    """Images as files hold them; `read` may be called from several threads."""

    @abc.abstractmethod
    def read(self, index: int) -> bytes:
        """Index -> encoded bytes of the image.

        Raises:
            ImageError: They can't be read.
        """

    # How the graph of a pipeline comes to the bytes: `locate` once for some images, then `fetch` for each.

    def locate(self, indices: tf.Tensor) -> tf.Tensor:
        """int64 `[n]` -> string `[n]`; here the bytes themselves, empty where they can't be read."""

        def read(indices: np.ndarray) -> np.ndarray:
            return np.array([self._read_or_nothing(index) for index in indices], dtype=object)

        located = tf.numpy_function(read, [indices], tf.string, stateful=False)
        located.set_shape([None])
        return located

    def fetch(self, located: tf.Tensor) -> tf.Tensor:
        """string `[]` of `locate` -> encoded bytes."""
        return located

    def _read_or_nothing(self, index: int) -> bytes:
        try:
            return self.read(int(index))
        except ImageError:
            return b""
