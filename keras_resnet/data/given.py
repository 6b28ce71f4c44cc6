"""Images in memory that already have the network's size, with their classes."""

from collections.abc import Sequence

import numpy as np

from keras_resnet.data.base import Decoded, Source
from keras_resnet.data.targets import Target


class GivenSource(Source):
    """Pixels uint8 `[N, H, W, C]` of the network's own size, classes int `[N]`."""

    kind = "given"
    ready = True

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, classes: Sequence[str], target: Target) -> None:
        names = [f"image {index}" for index in range(len(pixels))]
        super().__init__("the images", "val", classes, names, labels, target=target)
        self.images = pixels

    def decode(self, index: int) -> Decoded:
        return Decoded(b"", self.images[index], self.labels[index])
