"""The common base of all sources: images of a split, with their targets."""

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
    """Images of one split with their targets, in a fixed order.

    Args:
        path: The data as the user named it.
        split: "train" or "val".
        classes: Names of the classes.
        names: Names of the images, which don't depend on where the data lies.
        labels: Classes of the images, int `[N]`; None where an image's target is not one class.
        held_out: Whether the data has no validation images of its own, so that "val" is a tenth held out of "train".
        target: Kind of the targets.
    """

    kind = ""
    counted = "images"  # name of the things that `class_counts` counts
    ready = False  # whether `decode` gives pixels of the network's size
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
        """-> file of an image, or its name if the image has no file of its own."""
        return self.names[index]

    def decode(self, index: int) -> "Decoded":
        """Index -> its image and target, by Pillow.

        Raises:
            ImageError: The image or its target can't be read, or they don't fit each other.
        """
        raise NotImplementedError

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.names, self.labels)

    def summary(self) -> dict[str, Any]:
        """-> description of the data for a run's records, as JSON values."""
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
        """-> indices of all images in the order of an epoch, int64 `[N]`."""
        return np.random.default_rng([seed, epoch]).permutation(self.count)

    # The graph of a pipeline reads targets in two steps: `locate_targets` once for several images, then `fetch_target`
    # for each image.

    def locate_targets(self, indices: "tf.Tensor") -> "tf.Tensor":
        """Indices int64 `[n]` -> arguments for `fetch_target`, `[n]`; here the classes."""
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
    """Names and classes of images, in order -> SHA-256. If two are equal, their epochs have the same order."""
    hashed = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    hashed.update(labels.astype("<i8").tobytes())
    return hashed.hexdigest()


class Decoded(NamedTuple):
    """One whole image of a source, with its target."""

    encoded: bytes
    pixels: np.ndarray  # uint8 [H, W, 3]
    target: np.ndarray  # int32 [], or uint8 [H, W]


class EncodedSource(Source, abc.ABC):
    """Images as files hold them; `read` may be called from several threads."""

    @abc.abstractmethod
    def read(self, index: int) -> bytes:
        """Index -> encoded bytes of the image.

        Raises:
            ImageError: The bytes can't be read.
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

    # The graph of a pipeline reads bytes in two steps: `locate` once for several images, then `fetch` for each image.

    def locate(self, indices: "tf.Tensor") -> "tf.Tensor":
        """Indices int64 `[n]` -> arguments for `fetch`, string `[n]`; here the bytes, empty where unreadable."""
        import tensorflow as tf

        def read(indices: np.ndarray) -> np.ndarray:
            return np.array([self._read_or_nothing(index) for index in indices], dtype=object)

        located = tf.numpy_function(read, [indices], tf.string, stateful=False)
        located.set_shape([None])
        return located

    def fetch(self, located: "tf.Tensor") -> "tf.Tensor":
        """Element of `locate`, string `[]` -> encoded bytes."""
        return located

    def _read_or_nothing(self, index: int) -> bytes:
        try:
            return self.read(int(index))
        except ImageError:
            return b""


class TargetedSource(EncodedSource):
    """Images of another source, with targets of their own."""

    def __init__(self, images: EncodedSource, target: "Target") -> None:
        super().__init__(images.path, images.split, images.classes, images.names, None, images.held_out, target=target)
        self.kind, self.images = images.kind, images

    def path_of(self, index: int) -> str:
        return self.images.path_of(index)

    def read(self, index: int) -> bytes:
        return self.images.read(index)

    def locate(self, indices: "tf.Tensor") -> "tf.Tensor":
        return self.images.locate(indices)

    def fetch(self, located: "tf.Tensor") -> "tf.Tensor":
        return self.images.fetch(located)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return self.images.order(seed, epoch)
