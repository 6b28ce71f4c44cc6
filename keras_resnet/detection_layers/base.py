"""What the layers of detectors have in common."""

from typing import Any

import keras
from keras import ops


class BoxLayer(keras.layers.Layer):
    """A layer without weights that computes in float32: 16 bits hold the coordinates of an image only to a pixel."""

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)


# Scores are computed through their logarithms. TFLite's converter gives the outputs of a softmax and of a sigmoid the
# fixed step 1/256 in an integer file, and then computes in integers all that only compares or chooses among them: the
# mark -1 of a box that is left out becomes 0, and so the box a detection. Behind an exponential, all stays in float.


def sigmoid(logits: Any) -> Any:
    """Logits -> probabilities of the same shape."""
    return ops.exp(ops.log_sigmoid(logits))


def softmax(logits: Any) -> Any:
    """Logits `[..., classes]` -> probabilities `[..., classes]`."""
    return ops.exp(ops.log_softmax(logits, axis=-1))
