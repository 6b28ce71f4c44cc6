"""What every source of images, and of what they show, has in common."""

import abc
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_resnet.data.taken import Taken
from keras_resnet.data.targets import Target
from keras_resnet.errors import ImageError
from keras_resnet.preprocessing import apply_contract, decode_image
from keras_resnet.variants import Contract

if TYPE_CHECKING:
    import tensorflow as tf

HELD_OUT_RULE = "a tenth of each class of the images, by a hash of their names"


class Source:
    """Images of one split and what they show, in a fixed order.

    Args:
        path: What the user named.
        split: "train" or "val".
        classes: Names of the classes.
        names: Names of the images, which don't depend on where the data lies.
        labels: Classes of the images, int `[N]`; None where they show something else than one class each.
        held_out: Whether the data has no validation images of its own, and val is the tenth that train goes without.
        target: What the images show.
    """

    kind = ""
    counted = "images"  # of each class
    ready = False  # whether `decode` gives pixels as a network takes them
    taken: Taken | None = None  # how the images were found, where they were looked for

    def __init__(
        self,
        path: str,
        split: str,
        classes: Sequence[str],
        names: Sequence[str],
        labels: np.ndarray | None,
        held_out: bool = False,
        *,
        target: Target,
    ) -> None:
        self.target = target
        self.path, self.split, self.held_out = path, split, held_out
        self.classes = tuple(classes)
        self.names = names
        self.labels = np.zeros(0, "int32") if labels is None else labels.astype("int32")

    @property
    def count(self) -> int:
        return len(self.names)

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Images of each class, int `[classes]`."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def name_of(self, index: int) -> str:
        return self.names[index]

    def path_of(self, index: int) -> str:
        """-> the file of an image, where it is one; else its name."""
        return self.names[index]

    def decode(self, index: int) -> "Decoded":
        """Index -> its image and target, by Pillow.

        Raises:
            ImageError: One of them can't be read, or they don't belong together.
        """
        raise NotImplementedError

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.names, self.labels)

    def summary(self) -> dict[str, Any]:
        """-> what a run notes about its data, for JSON."""
        return {
            "task": self.target.task,
            "kind": self.kind,
            "path": self.path,
            "split": self.split,
            "validation": f"held out: {HELD_OUT_RULE}" if self.held_out else "its own",
            "classes": list(self.classes),
            "count": self.count,
            "class_counts": self.class_counts.tolist(),
            "fingerprint": self.fingerprint,
        }

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """-> indices of the images in an epoch's order, int64 `[N]`: each once."""
        return np.random.default_rng([seed, epoch]).permutation(self.count)

    # How the graph of a pipeline comes to the targets: `locate_targets` once for some images, then `fetch_target` for
    # each.

    def locate_targets(self, indices: "tf.Tensor") -> "tf.Tensor":
        """int64 `[n]` -> what `fetch_target` takes, `[n]`; here the classes."""
        import tensorflow as tf

        return tf.gather(self._graph_labels, indices)

    def fetch_target(self, located: "tf.Tensor") -> "tf.Tensor":
        """Element of `locate_targets` -> target of the whole image."""
        return located

    @cached_property
    def _graph_labels(self) -> "tf.Tensor":
        import tensorflow as tf

        with tf.device("CPU"), tf.init_scope():
            return tf.constant(self.labels)


def fingerprint_of(names: Sequence[str], labels: np.ndarray) -> str:
    """Names and classes of images -> SHA-256 over them in order: where it is equal, an epoch has the same order."""
    hashed = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    hashed.update(labels.astype("<i8").tobytes())
    return hashed.hexdigest()


class Decoded(NamedTuple):
    """One image of a source, whole, and what it shows."""

    encoded: bytes
    pixels: np.ndarray  # uint8 [H, W, 3]
    target: np.ndarray  # int32 [], or uint8 [H, W]


class EncodedSource(Source, abc.ABC):
    """Images as files hold them; `read` may be called from several threads."""

    @abc.abstractmethod
    def read(self, index: int) -> bytes:
        """Index -> encoded bytes of the image.

        Raises:
            ImageError: They can't be read.
        """

    def decode(self, index: int) -> Decoded:
        encoded = self.read(index)
        return Decoded(encoded, decode_image(encoded), self.labels[index])

    def prepare(self, decoded: Decoded, contract: Contract) -> tuple[np.ndarray, np.ndarray]:
        """Image and target -> pixels and target of an evaluation.

        Raises:
            ImageError: The image is too elongated for the contract.
        """
        target = self.target.fit(decoded.target, contract)
        return apply_contract(contract, decoded.pixels), target

    # How the graph of a pipeline comes to the bytes: `locate` once for some images, then `fetch` for each.

    def locate(self, indices: "tf.Tensor") -> "tf.Tensor":
        """int64 `[n]` -> string `[n]`; here the bytes themselves, empty where they can't be read."""
        import tensorflow as tf

        def read(indices: np.ndarray) -> np.ndarray:
            return np.array([self._read_or_nothing(index) for index in indices], dtype=object)

        located = tf.numpy_function(read, [indices], tf.string, stateful=False)
        located.set_shape([None])
        return located

    def fetch(self, located: "tf.Tensor") -> "tf.Tensor":
        """string `[]` of `locate` -> encoded bytes."""
        return located

    def _read_or_nothing(self, index: int) -> bytes:
        try:
            return self.read(int(index))
        except ImageError:
            return b""
