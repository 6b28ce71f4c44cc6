"""What the layers of detectors have in common."""

from typing import Any

import keras


class BoxLayer(keras.layers.Layer):
    """A layer without weights that computes in float32: 16 bits hold the coordinates of an image only to a pixel."""

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
