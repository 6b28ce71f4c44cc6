"""Names of the input and outputs of all artifacts, and the type of an answer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # `keras-resnet --help` reads the tasks' options without importing NumPy
    import numpy as np

# A network's answer for an image or a batch: arrays by the names of its outputs.
Answer = Mapping[str, "np.ndarray"]

IMAGE = "image"  # the input: pixels 0..255
IMAGE_BYTES = "image_bytes"  # the input of encoded images, where there is one
PROBABILITIES = "probabilities"  # the probability of each class
MASK = "mask"  # the class of each pixel
# What a detector answers: [N, D, 4], [N, D], [N, D], [N], and with masks [N, D, 28, 28].
BOXES, BOX_SCORES, LABELS, NUM_DETECTIONS, MASKS = ("boxes", "scores", "labels", "num_detections", "masks")

# Signatures of a SavedModel.
DEFAULT_SIGNATURE, PIXELS_SIGNATURE, FILES_SIGNATURE = "serving_default", "serve_pixels", "serve_jpeg"


class Output(NamedTuple):
    """One output that an artifact can have."""

    name: str
    kind: str  # content in words
    decides: bool = False  # whether it holds the class with the largest score instead of scores
    dtype: str | None = None  # type of its numbers; None: the type that the format chooses
    content: Literal["boxes", "classes"] | None = None  # left, top, right, bottom in pixels; indices of classes


SCORES = Output(PROBABILITIES, "probabilities")
