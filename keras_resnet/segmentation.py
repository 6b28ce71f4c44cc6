"""Segmentation networks over a ResNet: `FCN`, `DeepLabV3`, `DeepLabV3Plus` and `UNet`.

They take the pixels of images of any size, and predict the class of every pixel. Before Keras can load a `.keras` file
of such a network, this module must be imported: it registers the one layer that Keras lacks.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras

from keras_resnet import layer_names
from keras_resnet.heads.segmentation import DECODERS, auxiliary_head, segmentation_head
from keras_resnet.models import check_activation, check_output_stride, checked_classes, image_input, on_backbone
from keras_resnet.variants import ARCHITECTURES, BACKBONES, VARIANTS, Architecture, NetworkOnBackbone

VOC_CLASSES = 21  # classes of the published weights: Pascal VOC's 20 and the background
TAG = "COCO_WITH_VOC_LABELS_V1"  # torchvision's name of the published weights


class SegmentationBuilder(Protocol):
    """The signature of all segmentation networks, except for the default of `output_stride`."""

    __name__: str

    def __call__(
        self,
        backbone: str = "resnet50",
        classes: int = VOC_CLASSES,
        *,
        output_stride: int = ...,
        weights: str | os.PathLike[str] | None = None,
        backbone_weights: str | os.PathLike[str] | None = None,
        input_shape: Sequence[int | None] | None = None,
        classifier_activation: str | None = "softmax",
        auxiliary_head: bool = False,
        include_preprocessing: bool = True,
        name: str | None = None,
    ) -> keras.Model: ...


def network_of(architecture: str, backbone: str) -> NetworkOnBackbone:
    """Names of an architecture and of a backbone -> row of the network, with its published weights.

    Raises:
        ValueError: The backbone is not a ResNet with the levels C1 to C5.
    """
    if backbone not in BACKBONES:
        why = "; a network for CIFAR has no C5" if backbone in VARIANTS else ""
        raise ValueError(f"`backbone` must be one of {BACKBONES}{why}. Received: backbone={backbone!r}")
    files = ARCHITECTURES[architecture].files
    weights = {TAG: files[backbone]} if backbone in files else {}
    return NetworkOnBackbone(architecture, VARIANTS[backbone], weights)


def _builder(architecture: Architecture) -> SegmentationBuilder:
    def builder(
        backbone: str = "resnet50",
        classes: int = VOC_CLASSES,
        *,
        output_stride: int = architecture.output_strides[-1],
        weights: str | os.PathLike[str] | None = None,
        backbone_weights: str | os.PathLike[str] | None = None,
        input_shape: Sequence[int | None] | None = None,
        classifier_activation: str | None = "softmax",
        auxiliary_head: bool = False,
        include_preprocessing: bool = True,
        name: str | None = None,
    ) -> keras.Model:
        return build_segmentation(
            architecture,
            backbone,
            classes,
            output_stride=output_stride,
            weights=weights,
            backbone_weights=backbone_weights,
            input_shape=input_shape,
            classifier_activation=classifier_activation,
            with_auxiliary_head=auxiliary_head,
            include_preprocessing=include_preprocessing,
            name=name,
        )

    builder.__name__ = builder.__qualname__ = architecture.function
    builder.__doc__ = _documentation(architecture)
    return builder


def build_segmentation(
    architecture: Architecture,
    backbone: str,
    classes: int,
    *,
    output_stride: int,
    weights: str | os.PathLike[str] | None,
    backbone_weights: str | os.PathLike[str] | None,
    input_shape: Sequence[int | None] | None,
    classifier_activation: str | None,
    with_auxiliary_head: bool,
    include_preprocessing: bool,
    name: str | None,
) -> keras.Model:
    """Row of the table of architectures -> functional model: input, normalisation, backbone, decoder, head."""
    network = network_of(architecture.name, backbone)
    check_output_stride(architecture.function, architecture.output_strides, output_stride)
    check_activation(classifier_activation)
    if with_auxiliary_head and not architecture.has_auxiliary_head:
        having = [other.function for other in ARCHITECTURES.values() if other.has_auxiliary_head]
        raise ValueError(
            f"`auxiliary_head` must be False for {architecture.function}; {' and '.join(having)} can have one. "
            f"Received: auxiliary_head={with_auxiliary_head!r}"
        )
    number_of_classes = checked_classes(classes)
    image = image_input(network.backbone.design, input_shape, default_shape=(None, None, 3))

    def head(levels: Mapping[str, Any]) -> Any:
        x = DECODERS[architecture.name](levels, output_stride)
        output = segmentation_head(x, image, number_of_classes, classifier_activation)
        if not with_auxiliary_head:
            return output
        return {
            layer_names.LOGITS if classifier_activation is None else layer_names.PROBABILITIES: output,
            layer_names.AUXILIARY: auxiliary_head(levels, image, number_of_classes, classifier_activation),
        }

    return on_backbone(
        network,
        network.backbone,
        image,
        head,
        task="segment",
        output_stride=output_stride,
        include_preprocessing=include_preprocessing,
        weights=weights,
        backbone_weights=backbone_weights,
        name=name or network.name,
    )


def _documentation(architecture: Architecture) -> str:
    published = ", ".join(architecture.files)
    tag = f'"{TAG}" (torchvision\'s, for {published}), the path of a\n            ' if published else "the path of a "
    suffixes = ".safetensors, .pth, .pt, .th, .keras or .weights.h5" if published else ".keras or .weights.h5"
    strides = " or ".join(map(str, reversed(architecture.output_strides)))
    auxiliary = (
        "Whether to add a second head, on C4, for a second loss in training. The output is then a dict:\n"
        '            "probabilities", or "logits" without an activation, and "auxiliary", both `[N, H, W, classes]`.'
        if architecture.has_auxiliary_head
        else "Must be False."
    )
    return f"""{architecture.function}: pixels 0..255 `[N, H, W, 3]`, uint8 or float -> probabilities \
`[N, H, W, classes]`, float32.

    {architecture.title}.
    H and W are free, unless `input_shape` gives them.

    Args:
        backbone: {", ".join(BACKBONES)}.
        classes: Number of classes. If weights have another number, the head stays random, with a warning.
        output_stride: Stride of C5: {strides}.
        weights: None, {tag}{suffixes} file of the whole network.
        backbone_weights: Weights of a classifier with this backbone: "imagenet", a tag, "hf://owner/repository", or a
            path. The weights of its head are ignored.
        input_shape: (height, width, channels), sides at least 32 or None. Default (None, None, 3).
        classifier_activation: Activation of the head, over the classes of each pixel, or None for logits.
        auxiliary_head: {auxiliary}
        include_preprocessing: Whether the first layer turns pixels 0..255 into normalised values. Without it, the
            network expects `(pixels / 255 - mean) / std`, with ImageNet's statistics.
        name: Name of the model. Default "{architecture.name}_<backbone>".

    Raises:
        ValueError: An argument is out of its range.
        keras_resnet.errors.WeightsError: The weights can't be found, read or matched.
    """


FCN = _builder(ARCHITECTURES["fcn"])
DeepLabV3 = _builder(ARCHITECTURES["deeplabv3"])
DeepLabV3Plus = _builder(ARCHITECTURES["deeplabv3plus"])
UNet = _builder(ARCHITECTURES["unet"])

ARCHITECTURE_BUILDERS: dict[str, SegmentationBuilder] = {
    builder.__name__.lower(): builder for builder in (FCN, DeepLabV3, DeepLabV3Plus, UNet)
}
