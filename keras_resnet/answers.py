"""Names of a network's input and outputs, as every artifact has them; what an answer is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # `keras-resnet --help`, which asks the tasks for their options, does without NumPy
    import numpy as np

# What a network says about an image, or about a batch of them: arrays by the names of its outputs.
Answer = Mapping[str, "np.ndarray"]

IMAGE = "image"  # the input: pixels 0..255
PROBABILITIES = "probabilities"  # of each class
MASK = "mask"  # the class of each pixel


class Output(NamedTuple):
    """One output that an artifact can have."""

    name: str
    kind: str  # what it holds, in words
    decides: bool = False  # whether it holds the class of the largest score in place of the scores


SCORES = Output(PROBABILITIES, "probabilities")
