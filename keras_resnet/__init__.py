"""ResNets for Keras 3 that you can train, trust and ship.

Names are loaded on first use, so that `import keras_resnet` (and `keras-resnet --help`) does not import Keras.
"""

import functools
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Type checkers and editors read this file without running it, so each network is named here as well as in its row.
    from keras_resnet.backbone import feature_maps as feature_maps
    from keras_resnet.freezing import freeze as freeze
    from keras_resnet.labels import decode_predictions as decode_predictions
    from keras_resnet.loading import load as load
    from keras_resnet.models import ResNetBuilder
    from keras_resnet.preprocessing import load_image as load_image
    from keras_resnet.preprocessing import load_images as load_images

    ResNet18: ResNetBuilder
    ResNet34: ResNetBuilder
    ResNet50: ResNetBuilder
    ResNet101: ResNetBuilder
    ResNet152: ResNetBuilder
    ResNet20: ResNetBuilder
    ResNet32: ResNetBuilder
    ResNet44: ResNetBuilder
    ResNet56: ResNetBuilder
    ResNet110: ResNetBuilder

__version__ = "0.1.0"

_MODULE_OF = {
    "decode_predictions": "labels",
    "feature_maps": "backbone",
    "freeze": "freezing",
    "load": "loading",
    "load_image": "preprocessing",
    "load_images": "preprocessing",
}
_MODULES = ("detection", "segmentation")


@functools.cache
def _module_of() -> dict[str, str]:
    """-> module of each public name, including the networks of the table."""
    from keras_resnet.variants import VARIANTS

    return {**{variant.function: "models" for variant in VARIANTS.values()}, **_MODULE_OF}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "__all__":
        return sorted(_module_of())
    if name not in _module_of():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_resnet.optional import absence_explained

    with absence_explained():
        return getattr(importlib.import_module(f"{__name__}.{_module_of()[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), "__all__", *_module_of(), *_MODULES})
