"""Feature map -> class probabilities or logits."""

from typing import Any

import keras
from keras import layers

from keras_resnet.blocks import with_kernel


def classification_head(x: Any, classes: int, activation: str | None) -> Any:
    """`[N, H, W, C]` -> `[N, classes]` float32: average over positions, dense layer, activation.

    The head computes in float32 under every dtype policy: a softmax over 16-bit logits loses the small probabilities.
    """
    x = layers.GlobalAveragePooling2D(name="pool", dtype="float32")(x)
    logits = layers.Dense(
        classes,
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform"),
        name="logits",
        dtype="float32",
    )
    x = with_kernel(logits, x)
    if activation is None:
        return x
    return layers.Activation(activation, name="probabilities", dtype="float32")(x)


def ends_in_logits(model: keras.Model) -> bool:
    """Functional classifier -> whether what makes its output is a layer without a nonlinearity (dense, say)."""
    last = model.outputs[0]._keras_history.operation
    return getattr(last, "activation", None) is keras.activations.linear
