"""The settings of a recipe that have no meaning for segmentation, and its further rules."""

from collections.abc import Iterator
from typing import Any

from keras_resnet.variants import ARCHITECTURES, BACKBONES

# RandAugment moves pixels, and a mask would have to move too; the other settings need one class for an image.
LACKS = ("randaugment_operations", "erasing_probability", "mixup_alpha", "cutmix_alpha", "label_smoothing")


def rules(recipe: Any) -> Iterator[tuple[str, str, bool]]:
    """Recipe -> name of a setting, its rule in words, whether it holds."""
    yield "network", f"be one of {', '.join(BACKBONES)} for segmentation", recipe.network in BACKBONES
    architecture = ARCHITECTURES[recipe.architecture]
    strides = (0, *sorted(architecture.output_strides))
    rule = f"be one of {', '.join(map(str, strides))} for architecture = {recipe.architecture}"
    yield "output_stride", rule, recipe.output_stride in strides
    suits = architecture.has_auxiliary_head or not recipe.auxiliary_head
    yield "auxiliary_head", f"be false for architecture = {recipe.architecture}", suits
    alone = not (recipe.weights and recipe.backbone_weights)
    yield "backbone_weights", "be left out where `weights` are given", alone
