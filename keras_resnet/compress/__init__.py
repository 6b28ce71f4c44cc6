"""Trained model -> plain Keras model that is smaller or computes in fewer bits.

    from keras_resnet.compress import prune, quantize_aware
    pruned = prune(model, (images, labels), sparsity=0.8)

Names are loaded on first use, since `prune` and `cluster` need packages that `quantize_aware` does not need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_resnet.compress.clustering import cluster
    from keras_resnet.compress.pruning import prune
    from keras_resnet.compress.quantization import quantize_aware

# Module of each function. If a module had its function's name, importing it would replace the function here.
_MODULES = {"cluster": "clustering", "prune": "pruning", "quantize_aware": "quantization"}

__all__ = ["cluster", "prune", "quantize_aware"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
