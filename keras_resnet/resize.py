"""Feature map, reference -> the feature map at the reference's height and width."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_resnet")
class ResizeLike(keras.layers.Layer):
    """`[x [N, h, w, C], reference [N, H, W, D]]` -> `[N, H, W, C]`, bilinear; of the reference, its size alone counts.

    Pixels are squares, whose centres are interpolated between (`align_corners=False` in PyTorch), and nothing is
    antialiased. Where height and width of the reference are known, the size is a constant of the graph.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        # XLA in TensorFlow 2.21 compiles a bilinear resize of pixels that are squares into another, without an error.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def call(self, inputs: Any) -> Any:
        x, reference = inputs
        size = tuple(reference.shape[1:3])
        if None not in size:
            return ops.image.resize(x, size, interpolation="bilinear", antialias=False)
        # Only a graph of TensorFlow has sizes that are not known, and keras.ops.image.resize compares them with zero.
        import tensorflow as tf

        return tf.cast(tf.image.resize(x, tf.shape(reference)[1:3], method="bilinear", antialias=False), x.dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        x, reference = input_shape
        return (x[0], *reference[1:3], x[3])
