"""Ready networks: `ResNet18`, `ResNet34`, `ResNet50`, `ResNet101`, `ResNet152`.

They take keras.applications' keyword names in its order. Two differences are deliberate: `weights` defaults to `None`,
so that building a model never reaches for the network; and `classes` may differ from 1000 with pretrained weights.
"""

import operator
import os
from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np
from keras import layers

from keras_resnet.backbone import OUTPUT_STRIDES, resnet_backbone
from keras_resnet.heads.classification import classification_head
from keras_resnet.preprocessing import normalisation_layer
from keras_resnet.variants import VARIANTS, Variant
from keras_resnet.weights import load_weights

MINIMUM_SIZE = 32  # pixels a side, C5's stride: below it, C5 would see more padding than image


def build(
    variant: Variant,
    *,
    include_top: bool,
    weights: str | os.PathLike[str] | None,
    input_tensor: Any,
    input_shape: Sequence[int | None] | None,
    pooling: str | None,
    classes: int,
    classifier_activation: str | None,
    name: str,
    include_preprocessing: bool,
    output_stride: int,
) -> keras.Model:
    """Row of the table of variants -> functional model: input, normalisation, stem and stages, head."""
    _check_arguments(include_top, pooling, classifier_activation, output_stride)
    number_of_classes = _integer(classes)
    if number_of_classes is None or number_of_classes < 1:
        raise ValueError(f"`classes` must be a positive integer. Received: classes={classes!r}")
    image = _input(input_tensor, input_shape, include_top)

    x = normalisation_layer(image.shape[-1])(image) if include_preprocessing else image
    x = resnet_backbone(x, variant, output_stride)["C5"]
    if include_top:
        x = classification_head(x, number_of_classes, classifier_activation)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(name="pool")(x)

    inputs = keras.utils.get_source_inputs(image)  # several, where `input_tensor` was made from several
    model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, x, name=name)
    if weights is not None:
        load_weights(model, variant, weights)
    return model


def _input(input_tensor: Any, input_shape: Sequence[int | None] | None, include_top: bool) -> Any:
    """The two input arguments -> one symbolic tensor `[N, H, W, C]` of pixels."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Only the 'channels_last' image data format is supported: "
            "call keras.config.set_image_data_format('channels_last'). "
            f"Received: image_data_format={keras.config.image_data_format()!r}"
        )
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                "`input_tensor` must be a symbolic Keras tensor, as `keras.Input(...)` gives. "
                f"Received: input_tensor={input_tensor!r}"
            )
        _checked_shape("input_tensor", input_tensor.shape[1:])
        if input_shape is not None and _checked_shape("input_shape", input_shape) != input_tensor.shape[1:]:
            raise ValueError(
                "`input_shape` must equal the shape of `input_tensor`, or be left out. "
                f"Received: input_shape={tuple(input_shape)}, input_tensor of shape {input_tensor.shape}"
            )
        return input_tensor
    if input_shape is None:
        input_shape = (224, 224, 3) if include_top else (None, None, 3)
    return keras.Input(_checked_shape("input_shape", input_shape), name="image")


def _checked_shape(argument: str, shape: Any) -> tuple[int | None, int | None, int]:
    """Shape as the caller gave it -> (height, width, channels) in Python's own integers."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ValueError(f"`{argument}` must be (height, width, channels). Received: {argument}={shape!r}")
    height, width, channels = (_integer(length) for length in shape)
    for given, side in zip(shape[:2], (height, width), strict=True):
        if given is not None and (side is None or side < MINIMUM_SIZE):
            raise ValueError(
                f"`{argument}` must have a height and a width of at least {MINIMUM_SIZE} pixels, or None. "
                f"Received: {argument}={tuple(shape)}"
            )
    if channels is None or channels < 1:
        raise ValueError(f"`{argument}` must end in the number of channels. Received: {argument}={tuple(shape)}")
    return height, width, channels


def _check_arguments(
    include_top: bool, pooling: str | None, classifier_activation: str | None, output_stride: int
) -> None:
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}")
    if include_top and pooling is not None:
        raise ValueError(
            "`pooling` belongs to `include_top=False`; the classification head always averages. "
            f"Received: include_top={include_top}, pooling={pooling!r}"
        )
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"`output_stride` must be one of {OUTPUT_STRIDES}. Received: output_stride={output_stride!r}")
    if classifier_activation is not None:
        try:
            keras.activations.get(classifier_activation)
        except ValueError:
            raise ValueError(
                "`classifier_activation` must name a Keras activation, or be None for logits. "
                f"Received: classifier_activation={classifier_activation!r}"
            ) from None


def _integer(value: Any) -> int | None:
    """Integer of any make, as `labels.max() + 1` is NumPy's -> Python's, which Keras can save; None for all else."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


class ResNetBuilder(Protocol):
    """The signature that all five networks share."""

    __name__: str

    def __call__(
        self,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
        *,
        include_preprocessing: bool = True,
        output_stride: int = 32,
    ) -> keras.Model: ...


def _builder(function_name: str) -> ResNetBuilder:
    variant = VARIANTS[function_name.lower()]

    def builder(
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
        *,
        include_preprocessing: bool = True,
        output_stride: int = 32,
    ) -> keras.Model:
        return build(
            variant,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name or variant.name,
            include_preprocessing=include_preprocessing,
            output_stride=output_stride,
        )

    builder.__name__ = builder.__qualname__ = function_name
    builder.__doc__ = f"""{function_name}: pixels 0..255 `[N, H, W, 3]`, uint8 or float -> probabilities `[N, classes]`.

    {variant.parameters:,} trainable parameters with 1000 classes, {variant.gmacs} GMACs at 224x224 (He et al. 2015,
    arXiv 1512.03385; stride on the 3x3 of a bottleneck and weights as in torchvision).

    Args:
        include_top: Whether to end in average pooling and a dense layer; otherwise in C5, or C5 pooled.
        weights: None (random), "imagenet" (torchvision's V1 weights), a tag out of {", ".join(variant.weights)},
            "hf://owner/repository", or the path of a .safetensors, .pth, .pt, .th, .keras or .weights.h5 file.
        input_tensor: Symbolic tensor of pixels to build upon, in place of a new input.
        input_shape: (height, width, channels), sides at least {MINIMUM_SIZE} or None. Default (224, 224, 3), or
            (None, None, 3) without the head. With 1 channel a pretrained stem is summed, with 2, 4 or more repeated.
        pooling: Without the head: None, "avg" or "max".
        classes: Outputs of the head. Pretrained weights with another number leave the head fresh, with a warning.
        classifier_activation: Activation of the head, or None for logits.
        name: Name of the model.
        include_preprocessing: Whether the first layer turns pixels 0..255 into normalised values. Without it, the
            network expects `(pixels / 255 - mean) / std`.
        output_stride: 32, or 16 or 8 for dense prediction: dilation takes the place of stride.

    Raises:
        ValueError: An argument is out of its range.
        keras_resnet.errors.WeightsError: The weights can't be found, read or matched.
    """
    return builder


ResNet18 = _builder("ResNet18")
ResNet34 = _builder("ResNet34")
ResNet50 = _builder("ResNet50")
ResNet101 = _builder("ResNet101")
ResNet152 = _builder("ResNet152")

BUILDERS: dict[str, ResNetBuilder] = {
    builder.__name__.lower(): builder for builder in (ResNet18, ResNet34, ResNet50, ResNet101, ResNet152)
}
