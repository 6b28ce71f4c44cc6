"""Freezing of layers."""

import math
from dataclasses import dataclass

import keras

from keras_resnet import layer_names

FREEZABLE_LEVELS = (layer_names.STEM, "C2", "C3", "C4", "C5")


@dataclass(frozen=True)
class Frozen:
    """Number of frozen layers and parameters of a model."""

    layers: int  # frozen layers with weights
    batch_norm_layers: int  # BatchNorm layers among them
    parameters: int
    trainable_parameters: int  # parameters that are still trained

    def __str__(self) -> str:
        return (
            f"{self.layers} layers with {self.parameters:,} parameters are frozen, among them {self.batch_norm_layers} "
            "BatchNorm layers, which run in inference mode: they normalise with their stored statistics and don't "
            f"update them. {self.trainable_parameters:,} parameters are trained."
        )


def freeze(model: keras.Model, through: str = "C5") -> Frozen:
    """Freezes the layers of a network up to a level, and returns the network.

    Compile the model afterwards, since Keras notes the trained layers when a model is compiled. A frozen BatchNorm
    layer runs in inference mode, as Keras defines it. Layers above the level do not change.

    Args:
        model: Network of this package, with or without its head.
        through: Last level to freeze: "stem", "C2", "C3", "C4" or "C5". The head is never frozen.

    Raises:
        ValueError: An unknown level, or a model that has no such layers.
    """
    if through not in FREEZABLE_LEVELS:
        raise ValueError(f"`through` must be one of {FREEZABLE_LEVELS}. Received: through={through!r}")
    parts = [layer_names.backbone_part(level) for level in FREEZABLE_LEVELS[: FREEZABLE_LEVELS.index(through) + 1]]
    chosen = [layer for layer in model.layers if any(layer_names.is_of(layer.name, part) for part in parts)]
    if not chosen:
        raise ValueError(
            "`model` must be a ResNet of this package, with layers named "
            f"{', '.join(map(repr, layer_names.EXAMPLES))}, .... "
            f"Received: model={model.name!r} with layers {[layer.name for layer in model.layers][:5]}..."
        )
    for layer in chosen:
        layer.trainable = False
    return frozen(model)


def freeze_batch_norm(model: keras.Model) -> Frozen:
    """Freezes all BatchNorm layers of any model, so that they run in inference mode, and returns the model."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return frozen(model)


def frozen(model: keras.Model) -> Frozen:
    """Model -> numbers of its frozen layers and parameters."""
    still = [layer for layer in model.layers if layer.weights and not layer.trainable]
    return Frozen(
        layers=len(still),
        batch_norm_layers=sum(isinstance(layer, keras.layers.BatchNormalization) for layer in still),
        parameters=sum(layer.count_params() for layer in still),
        trainable_parameters=sum(math.prod(variable.shape) for variable in model.trainable_variables),
    )
