"""Names of the layers in a Keras file that this package did not write -> what it is, and why it does not fit."""

import re
from collections.abc import Iterable
from typing import Any

from keras_resnet import layer_names
from keras_resnet.errors import WeightsError

_EARLIER_LAYOUT = ("layer_names", "layer_names0", "keras_version", "backend")  # attributes of the whole file


def weights_of_keras_applications(layers: Iterable[str]) -> str | None:
    """Names of layers -> why a ResNet of keras.applications with them does not fit, or None for another network."""
    names = set(layers)
    if any(name.endswith("_preact_bn") for name in names):
        return (
            "these are the weights of a ResNetV2 of keras.applications, which normalises before its convolutions: "
            "another network than this one"
        )
    if any(re.fullmatch(r"conv2_block1_\d_conv|res2a_branch2a", name) for name in names):
        return (
            "these are the weights of a ResNet of keras.applications, which has the stride in the first 1x1 "
            "convolution of a block, biases before BatchNorm, and BGR pixels less a mean: another network, with "
            "other answers for the same weights. weights='imagenet' has ImageNet's weights for this network"
        )
    return None


def refuse_foreign_file(h5: Any, where: str) -> None:
    """Raises `WeightsError` if an open HDF5 file has the layout of Keras 2, which Keras 3 still writes as `.h5`."""
    if not any(attribute in h5.attrs for attribute in _EARLIER_LAYOUT):
        return
    layers: set[str] = set()
    h5.visit(lambda path: layers.update(path.split("/")))  # a network can be a layer of another
    what = weights_of_keras_applications(layers)
    if what is None:
        ours = set(layer_names.EXAMPLES) <= layers
        what = (
            "its layers have the names of this package's networks"
            if ours
            else "its layers have no names of this package's networks"
        )
        what += (
            ": load it into its model with Keras, save that with model.save('model.keras'), and give the file as the "
            "model: --model model.keras"
        )
    raise WeightsError(f"{where} is a file in the layout of Keras 2 (.h5), which is not read; {what}")
