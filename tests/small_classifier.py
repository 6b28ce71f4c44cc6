"""A classifier that converts in a second, for the tests that export many times."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_resnet.blocks import basic_block, conv_bn
from keras_resnet.heads.classification import classification_head
from keras_resnet.preprocessing import normalisation_layer


class Exported(NamedTuple):
    """One classifier in all formats, for the tests that only read: its files must stay as they are."""

    model: keras.Model
    class_names: list[str]
    calibration: np.ndarray
    folder: Path
    paths: Mapping[str, Path]
    reports: Mapping


def small_classifier(activation="softmax", size=32, width=None, channels=3, classes=10):
    """A residual network of one block: fast to convert, with every kind of layer that the real ones have."""
    image = keras.Input((size, width or size, channels), name="image")
    x = conv_bn(normalisation_layer(channels)(image), 8, 3, stride=2, name="stem")
    x = keras.layers.MaxPooling2D(3, strides=2, name="stem_pool")(
        keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    )
    x = basic_block(x, 16, stride=2, name="stage2_block1")
    return keras.Model(image, classification_head(x, classes, activation), name="small")
