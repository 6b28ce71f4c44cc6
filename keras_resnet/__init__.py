"""ResNets for Keras 3 that you can train, trust and ship.

Names are loaded on first use, so that `import keras_resnet` (and `keras-resnet --help`) costs no Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_resnet.variants import VARIANTS

if TYPE_CHECKING:
    # For type checkers and editors, which read this file and don't run it: a network's one mention beside its row.
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
    **{variant.function: "models" for variant in VARIANTS.values()},
    "decode_predictions": "labels",
    "feature_maps": "backbone",
    "freeze": "freezing",
    "load": "loading",
    "load_image": "preprocessing",
    "load_images": "preprocessing",
}
_MODULES = ("segmentation",)

if not TYPE_CHECKING:  # a type checker takes no names from a table, and would hide those above
    __all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_MODULES})
