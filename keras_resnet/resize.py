"""Feature map, reference -> the feature map at the reference's height and width."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_resnet")
class ResizeLike(keras.layers.Layer):
    """`[x [N, h, w, C], reference [N, H, W, D]]` -> `[N, H, W, C]`, bilinear; only the reference's size is used.

    Interpolation is between the centres of pixels (`align_corners=False` in PyTorch), without antialiasing. If height
    and width of the reference are known, the size is a constant in the graph.
    """

    keeps_logits = True  # see `graph.output_activation`

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        # XLA in TensorFlow 2.21 silently compiles a bilinear resize with half-pixel centres into another resize.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def call(self, inputs: Any) -> Any:
        x, reference = inputs
        size = tuple(reference.shape[1:3])
        if None not in size:
            return ops.image.resize(x, size, interpolation="bilinear", antialias=False)
        # Only TensorFlow graphs have unknown sizes. keras.ops.image.resize fails on these: it compares sizes with zero.
        import tensorflow as tf

        return tf.cast(tf.image.resize(x, tf.shape(reference)[1:3], method="bilinear", antialias=False), x.dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        x, reference = input_shape
        return (x[0], *reference[1:3], x[3])
