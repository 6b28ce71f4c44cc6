"""ResNets for Keras 3 that you can train, trust and ship.

Names are loaded on first use, so that `import keras_resnet` (and `keras-resnet --help`) costs no Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_resnet.backbone import feature_maps
    from keras_resnet.freezing import freeze
    from keras_resnet.labels import decode_predictions
    from keras_resnet.loading import load
    from keras_resnet.models import (
        ResNet18,
        ResNet20,
        ResNet32,
        ResNet34,
        ResNet44,
        ResNet50,
        ResNet56,
        ResNet101,
        ResNet110,
        ResNet152,
    )
    from keras_resnet.preprocessing import load_image, load_images

__version__ = "0.1.0"

__all__ = [
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet34",
    "ResNet44",
    "ResNet50",
    "ResNet56",
    "ResNet101",
    "ResNet110",
    "ResNet152",
    "decode_predictions",
    "feature_maps",
    "freeze",
    "load",
    "load_image",
    "load_images",
]

_MODULE_OF = {
    "ResNet18": "models",
    "ResNet20": "models",
    "ResNet32": "models",
    "ResNet34": "models",
    "ResNet44": "models",
    "ResNet50": "models",
    "ResNet56": "models",
    "ResNet101": "models",
    "ResNet110": "models",
    "ResNet152": "models",
    "decode_predictions": "labels",
    "feature_maps": "backbone",
    "freeze": "freezing",
    "load": "loading",
    "load_image": "preprocessing",
    "load_images": "preprocessing",
}
_MODULES = ("segmentation",)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
