"""The last layers of all networks: their initial kernels, and a test for logits."""

import keras

from keras_resnet.graph import output_activation


def logits_initializer() -> keras.initializers.Initializer:
    """-> initializer of the kernel of a layer "logits", as PyTorch initializes linear layers and convolutions."""
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")


def ends_in_logits(model: keras.Model) -> bool:
    """Functional model -> whether its output, resized or not, comes from a layer without a nonlinearity."""
    return output_activation(model)[0] == "linear"
