"""Trained model -> model that trains with 8-bit rounding, and is exported to integers with the learned ranges."""

import keras
import numpy as np
from keras import layers

from keras_resnet.compress.fake_quant import FakeQuantize
from keras_resnet.compress.rewrite import with_fake_quantization
from keras_resnet.graph import flatten
from keras_resnet.normalisation import first_kernel, pixel_map


def quantize_aware(model: keras.Model) -> keras.Model:
    """Network of this package, or a functional model of your own -> flat copy with 8-bit rounding in its forward pass.

    Kernels are rounded per output channel, activations per tensor; the ranges of activations are tracked in training.
    Weights are copied, so train first in float and then some epochs on this model, with a small learning rate. It
    compiles, fits, saves and loads as any Keras model; `keras_resnet.export` writes it as an integer file with the
    ranges of training. Before its first training step, its activations are not rounded.

    Raises:
        ValueError: The model is no functional model, or is already quantization-aware.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(f"`model` must be a functional Keras model. Received: {model!r}")
    flat = flatten(model, keep_training_layers=True)
    if is_quantization_aware(flat):
        raise ValueError(f"`model` must not be quantization-aware yet. Received: {model.name!r}, which is")
    normalisation, stem = pixel_map(flat), first_kernel(flat)
    if normalisation is None or not isinstance(stem, layers.Conv2D):
        return with_fake_quantization(flat)
    # The export folds these factors into the kernel of the convolution that reads normalised pixels.
    scale = np.diagonal(normalisation.matrix).tolist() if np.diagonal(normalisation.matrix).all() else None
    scales = {} if scale is None else {stem.name: scale}
    return with_fake_quantization(flat, input_scale=scales, unrounded=(normalisation.last.name,))


def is_quantization_aware(model: keras.Model) -> bool:
    """Functional model -> whether it holds the ranges of 8-bit activations."""
    return any(isinstance(layer, FakeQuantize) for layer in model.layers)
