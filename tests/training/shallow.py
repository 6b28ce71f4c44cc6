"""ResNet-20 with one block a stage in place of three, here and in the command: a run does the same at any depth."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import keras

from keras_resnet import models
from keras_resnet.variants import VARIANTS


def shallow_builder() -> Callable[..., keras.Model]:
    """-> what takes the place of `models.BUILDERS["resnet20"]`."""
    variant = replace(VARIANTS["resnet20"], blocks_per_stage=(1, 1, 1))
    fixed = {"input_tensor": None, "pooling": None, "output_stride": variant.design.output_stride}
    defaults = {"include_top": True, "weights": None, "classifier_activation": "softmax", "name": variant.name}
    return partial(models.build, variant, include_preprocessing=True, **fixed, **defaults)


if __name__ == "__main__":
    from keras_resnet.cli.main import main

    models.BUILDERS["resnet20"] = shallow_builder()
    main()
