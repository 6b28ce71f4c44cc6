"""Trained model -> model that trains with 8-bit rounding, and is exported to integers with the learned ranges."""

import keras
from keras import layers

from keras_resnet import layer_names
from keras_resnet.compress.fake_quant import FakeQuantize
from keras_resnet.compress.rewrite import consumers, with_fake_quantization


def quantize_aware(model: keras.Model) -> keras.Model:
    """Network of this package `[N, H, W, C]` -> `[N, classes]` -> copy with 8-bit rounding in its forward pass.

    Kernels are rounded per output channel, activations per tensor; the ranges of activations are tracked in training.
    Weights are copied, so train first in float and then some epochs on this model, with a small learning rate. It
    compiles, fits, saves and loads as any Keras model; `keras_resnet.export` writes it as an integer file with the
    ranges of training. Before its first training step, its activations are not rounded.

    Raises:
        ValueError: The model is no flat functional model, or is already quantization-aware.
    """
    if not isinstance(model, keras.Model) or any(isinstance(layer, keras.Model) for layer in model.layers):
        raise ValueError(f"`model` must be a functional Keras model without models inside. Received: {model!r}")
    if is_quantization_aware(model):
        raise ValueError(f"`model` must not be quantization-aware yet. Received: {model.name!r}, which is")
    return with_fake_quantization(model, input_scale=_stem_scale(model), unrounded=(layer_names.PREPROCESSING,))


def is_quantization_aware(model: keras.Model) -> bool:
    """Functional model -> whether it holds the ranges of 8-bit activations."""
    return any(isinstance(layer, FakeQuantize) for layer in model.layers)


def _stem_scale(model: keras.Model) -> dict[str, list[float]]:
    """-> scale that the export folds into the kernel of the convolution that reads normalised pixels, by its name."""
    scales = {}
    readers = consumers(model)
    for layer in model.layers:
        if layer.name == layer_names.PREPROCESSING and isinstance(layer, layers.Rescaling):
            following = readers[layer.name]
            if len(following) == 1 and isinstance(following[0], layers.ZeroPadding2D):
                following = readers[following[0].name]
            scales = {op.name: list(layer.scale) for op in following if isinstance(op, layers.Conv2D)}
    return scales
