"""Ready networks: a function for each row of the table of variants, for example `ResNet50` for "resnet50".

The arguments have the names and the order of keras.applications. Two differences are deliberate: `weights` defaults to
`None`, so that building a model never downloads; and `classes` may differ from 1000 with pretrained weights.
"""

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
from keras import layers

from keras_resnet import layer_names
from keras_resnet.backbone import resnet_backbone
from keras_resnet.blocks import values_follow
from keras_resnet.errors import WeightsError
from keras_resnet.facts import facts_of, state
from keras_resnet.fused_batch_norm import fuse_batch_norm
from keras_resnet.heads.classification import classification_head
from keras_resnet.preprocessing import normalisation_layer
from keras_resnet.variants import CIFAR_FILES, VARIANTS, Design, Network, Variant
from keras_resnet.weights import load_weights


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
    _check_pooling(include_top, pooling)
    check_output_stride(variant.name, variant.design.output_strides, output_stride)
    check_activation(classifier_activation)
    number_of_classes = checked_classes(classes)
    size = variant.design.contract.size if include_top else None
    image = image_input(variant.design, input_shape, (size, size, 3), input_tensor)

    def head(levels: Mapping[str, Any]) -> Any:
        x = levels[variant.levels[-1]]
        if include_top:
            return classification_head(x, number_of_classes, classifier_activation)
        if pooling == "avg":
            return layers.GlobalAveragePooling2D(name=layer_names.POOL)(x)
        return x if pooling is None else layers.GlobalMaxPooling2D(name=layer_names.POOL)(x)

    return on_backbone(
        variant,
        variant,
        image,
        head,
        task="classify" if include_top else "embed" if pooling else None,
        output_stride=output_stride,
        include_preprocessing=include_preprocessing,
        weights=weights,
        name=name,
    )


def on_backbone(
    network: Network,
    backbone: Variant,
    image: Any,
    head: Callable[[Mapping[str, Any]], Any],
    *,
    task: str | None,
    output_stride: int,
    include_preprocessing: bool,
    weights: str | os.PathLike[str] | None,
    backbone_weights: str | os.PathLike[str] | None = None,
    name: str,
) -> keras.Model:
    """Row of the table, its backbone, symbolic pixels `[N, H, W, C]`, levels -> outputs -> functional model.

    All networks are built here: input, normalisation, backbone, head, weights.

    Args:
        network: Row of the network that `weights` belong to.
        head: Function from `{"C1": ..., "C5": ...}` to the model's outputs.
        task: Task of these outputs; None for features.
        backbone_weights: Weights for a classifier over this backbone; the weights of its head are ignored.
    """
    if weights is not None and backbone_weights is not None:
        raise ValueError(
            "`backbone_weights` must be None if `weights` are given, which hold the whole network. "
            f"Received: weights={weights!r}, backbone_weights={backbone_weights!r}"
        )
    x = normalisation_layer(image.shape[-1])(image) if include_preprocessing else image
    with values_follow(weights is not None or backbone_weights is not None):
        levels = resnet_backbone(x, backbone, output_stride)
    with values_follow(weights is not None):
        outputs = head(levels)

    inputs = keras.utils.get_source_inputs(image)  # several inputs, if the image was made from several
    inputs = inputs[0] if len(inputs) == 1 else inputs
    model = fuse_batch_norm(keras.Model(inputs, outputs, name=name))
    state(model, task=task)
    if weights is not None:
        load_weights(model, network, weights)
    elif backbone_weights is not None:
        bare = keras.Model(inputs, levels[backbone.levels[-1]], name=backbone.name)
        try:
            load_weights(bare, backbone, backbone_weights)
        except WeightsError as error:
            first, *others = error.args
            raise WeightsError(f"`backbone_weights`: {first}", *others) from error
        state(model, weights_origin=facts_of(bare).weights_origin)
    return model


def image_input(
    design: Design,
    input_shape: Sequence[int | None] | None,
    default_shape: tuple[int | None, int | None, int],
    input_tensor: Any = None,
) -> Any:
    """Arguments about the input -> one symbolic tensor `[N, H, W, C]` of pixels."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Only the 'channels_last' image data format is supported: "
            "call keras.config.set_image_data_format('channels_last'). "
            f"Received: image_data_format={keras.config.image_data_format()!r}"
        )
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                "`input_tensor` must be a symbolic Keras tensor, for example from `keras.Input(...)`. "
                f"Received: input_tensor={input_tensor!r}"
            )
        _checked_shape(design, "input_tensor", input_tensor.shape[1:])
        if input_shape is not None and _checked_shape(design, "input_shape", input_shape) != input_tensor.shape[1:]:
            raise ValueError(
                "`input_shape` must equal the shape of `input_tensor`, or be left out. "
                f"Received: input_shape={tuple(input_shape)}, input_tensor of shape {input_tensor.shape}"
            )
        return input_tensor
    shape = default_shape if input_shape is None else input_shape
    return keras.Input(_checked_shape(design, "input_shape", shape), name=layer_names.IMAGE)


def _checked_shape(design: Design, argument: str, shape: Any) -> tuple[int | None, int | None, int]:
    """Shape as the caller gave it -> (height, width, channels) as Python integers."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ValueError(f"`{argument}` must be (height, width, channels). Received: {argument}={shape!r}")
    height, width, channels = (_integer(length) for length in shape)
    for given, side in zip(shape[:2], (height, width), strict=True):
        if given is not None and (side is None or side < design.output_stride):
            raise ValueError(
                f"`{argument}` must have a height and a width of at least {design.output_stride} pixels, or None. "
                f"Received: {argument}={tuple(shape)}"
            )
    if channels is None or channels < 1:
        raise ValueError(f"`{argument}` must end in the number of channels. Received: {argument}={tuple(shape)}")
    return height, width, channels


def _check_pooling(include_top: bool, pooling: str | None) -> None:
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}")
    if include_top and pooling is not None:
        raise ValueError(
            "`pooling` belongs to `include_top=False`; the classification head always averages. "
            f"Received: include_top={include_top}, pooling={pooling!r}"
        )


def check_output_stride(name: str, output_strides: Sequence[int], output_stride: int) -> None:
    """Raises `ValueError` unless the network can have the output stride."""
    if output_stride not in output_strides:
        raise ValueError(
            f"`output_stride` must be one of {tuple(sorted(output_strides))} for {name}. "
            f"Received: output_stride={output_stride!r}"
        )


def check_activation(classifier_activation: str | None) -> None:
    """Raises `ValueError` unless the argument is a Keras activation or None."""
    if classifier_activation is not None:
        try:
            keras.activations.get(classifier_activation)
        except ValueError:
            raise ValueError(
                "`classifier_activation` must name a Keras activation, or be None for logits. "
                f"Received: classifier_activation={classifier_activation!r}"
            ) from None


def checked_classes(classes: Any) -> int:
    """Number of classes as the caller gave it -> Python integer."""
    number = _integer(classes)
    if number is None or number < 1:
        raise ValueError(f"`classes` must be a positive integer. Received: classes={classes!r}")
    return number


def _integer(value: Any) -> int | None:
    """Integer of any library, such as NumPy's `labels.max() + 1` -> Python integer, for saving; others -> None."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


class ResNetBuilder(Protocol):
    """The signature of all networks, except for the defaults of `classes` and `output_stride`."""

    __name__: str

    def __call__(
        self,
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = ...,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
        *,
        include_preprocessing: bool = True,
        output_stride: int = ...,
    ) -> keras.Model: ...


def _builder(variant: Variant) -> ResNetBuilder:
    def builder(
        include_top: bool = True,
        weights: str | os.PathLike[str] | None = None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: str | None = None,
        classes: int = variant.design.classes,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
        *,
        include_preprocessing: bool = True,
        output_stride: int = variant.design.output_stride,
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

    builder.__name__ = builder.__qualname__ = variant.function
    builder.__doc__ = _documentation(variant)
    return builder


def _documentation(variant: Variant) -> str:
    design = variant.design
    size, minimum, last_level = design.contract.size, design.output_stride, variant.levels[-1]
    if variant.file is None:
        origin = "stride on the 3x3 of a bottleneck and weights as in torchvision"
        published = f'"imagenet" (torchvision\'s V1 weights), a tag out of {", ".join(variant.weights)},'
        strides = "Stride of the last stage: 32, or 16 or 8 for dense prediction, where dilation replaces stride"
    else:
        origin = "section 4.2, with the shortcuts of option A, which have no weights"
        published = f"the path of {variant.file.name} (from {CIFAR_FILES}),"
        strides = "Stride of the last stage: only 4, because a network for small images keeps their resolution"
    return f"""{variant.function}: pixels 0..255 `[N, H, W, 3]`, uint8 or float -> probabilities `[N, classes]`.

    {variant.parameters:,} trainable parameters with {design.classes} classes, {variant.gmacs} GMACs at {size}x{size} \
(He et al. 2015,
    arXiv 1512.03385; {origin}).

    Args:
        include_top: Whether to end in average pooling and a dense layer. Otherwise the output is {last_level}, \
pooled if `pooling` is given.
        weights: None (random), {published}
            "hf://owner/repository", or the path of a .safetensors, .pth, .pt, .th, .keras or .weights.h5 file.
        input_tensor: Symbolic tensor of pixels to build upon, instead of a new input.
        input_shape: (height, width, channels), sides at least {minimum} or None. Default ({size}, {size}, 3), or
            (None, None, 3) without the head. A pretrained stem is summed for 1 channel, and repeated for 2, 4 or more.
        pooling: Pooling of a network without head: None, "avg" or "max".
        classes: Number of classes. If pretrained weights have another number, the head stays random, with a warning.
        classifier_activation: Activation of the head, or None for logits.
        name: Name of the model.
        include_preprocessing: Whether the first layer turns pixels 0..255 into normalised values. Without it, the
            network expects `(pixels / 255 - mean) / std`, with ImageNet's statistics.
        output_stride: {strides}.

    Raises:
        ValueError: An argument is out of its range.
        keras_resnet.errors.WeightsError: The weights can't be found, read or matched.
    """


BUILDERS: dict[str, ResNetBuilder] = {name: _builder(variant) for name, variant in VARIANTS.items()}
globals().update({builder.__name__: builder for builder in BUILDERS.values()})  # `models.ResNet50`, a row's function
