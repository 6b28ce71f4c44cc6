"""The settings of a recipe that have no meaning for detection, and its further rules."""

from collections.abc import Iterator
from typing import Any

from keras_resnet.variants import BACKBONES

# RandAugment moves pixels, and boxes would have to move too; the other settings need one class for an image.
REFUSED = ("randaugment_operations", "erasing_probability", "mixup_alpha", "cutmix_alpha", "label_smoothing")
# A detector is built for one size, and torchvision's losses have no weights for classes.
LACKS = (*REFUSED, "progressive_sizes", "class_weights")


def rules(recipe: Any) -> Iterator[tuple[str, str, bool]]:
    """Recipe -> name of a setting, its rule in words, whether it holds."""
    yield "network", f"be one of {', '.join(BACKBONES)} for detection", recipe.network in BACKBONES
    alone = not (recipe.weights and recipe.backbone_weights)
    yield "backbone_weights", "be left out where `weights` are given", alone
