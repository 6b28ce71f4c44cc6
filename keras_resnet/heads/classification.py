"""Feature map -> class probabilities or logits."""

from typing import Any

from keras import layers

from keras_resnet import layer_names
from keras_resnet.blocks import with_kernel
from keras_resnet.heads.logits import logits_initializer


def classification_head(x: Any, classes: int, activation: str | None) -> Any:
    """`[N, H, W, C]` -> `[N, classes]` float32: average over positions, dense layer, activation.

    The head computes in float32 under every dtype policy: a softmax over 16-bit logits loses the small probabilities.
    """
    x = layers.GlobalAveragePooling2D(name=layer_names.POOL, dtype="float32")(x)
    logits = layers.Dense(classes, kernel_initializer=logits_initializer(), name=layer_names.LOGITS, dtype="float32")
    x = with_kernel(logits, x)
    if activation is None:
        return x
    return layers.Activation(activation, name=layer_names.PROBABILITIES, dtype="float32")(x)
