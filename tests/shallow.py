"""Networks with one block a stage, here and in the command: they have every kind of layer of the deep ones."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import keras

from keras_resnet import models
from keras_resnet.variants import VARIANTS, Variant


def shallow(network: str) -> Variant:
    """-> row of the table of variants."""
    variant = VARIANTS[network]
    return replace(variant, blocks_per_stage=(1,) * len(variant.blocks_per_stage))


def shallow_builder(network: str) -> Callable[..., keras.Model]:
    """-> what takes the place of `models.BUILDERS[network]`."""
    variant = shallow(network)
    defaults = {
        "include_top": True,
        "classes": 1000,
        "weights": None,
        "pooling": None,
        "input_tensor": None,
        "name": variant.name,
    }
    defaults |= {"classifier_activation": "softmax", "include_preprocessing": True}
    return partial(models.build, variant, output_stride=variant.design.output_stride, **defaults)


def keras_resnet(*arguments: object) -> None:
    """The command of that name, whose ResNet-20 is shallow, with arguments as they are typed."""
    from keras_resnet.cli.main import main

    models.BUILDERS["resnet20"] = shallow_builder("resnet20")
    sys.argv = ["keras-resnet", *map(str, arguments)]
    main()


if __name__ == "__main__":
    keras_resnet(*sys.argv[1:])
