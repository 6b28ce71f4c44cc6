"""What the last layers of all networks have in common: how fresh ones start, and how to tell logits."""

import keras

from keras_resnet.resize import ResizeLike


def logits_initializer() -> keras.initializers.Initializer:
    """-> how the kernel of a layer "logits" starts: as a linear layer and a convolution do in PyTorch."""
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")


def ends_in_logits(model: keras.Model) -> bool:
    """Functional model -> whether its output comes from a layer without a nonlinearity (dense, say), resized or not."""
    last = model.outputs[0]._keras_history.operation
    if isinstance(last, ResizeLike):
        last = last.input[0]._keras_history.operation
    return getattr(last, "activation", None) is keras.activations.linear
