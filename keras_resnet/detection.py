"""Detectors over a ResNet: `FasterRCNN` and `MaskRCNN`, torchvision's.

They take the pixels of images and give boxes, with masks for `MaskRCNN`. Before Keras can load a `.keras` file of such
a network, this module must be imported: it registers the layers that Keras lacks.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import keras

from keras_resnet import layer_names
from keras_resnet.detection_layers.detections import BoxesInImage, Detections, SelectMasks
from keras_resnet.detection_layers.frame import Frame
from keras_resnet.detection_layers.proposals import Proposals
from keras_resnet.detection_layers.roi_align import RoIAlign
from keras_resnet.heads.detection import box_head, feature_pyramid, mask_head, region_proposals
from keras_resnet.models import checked_classes, image_input, on_backbone
from keras_resnet.variants import ANCHOR_SIZES, BACKBONES, DETECTION_TAG, DETECTORS, VARIANTS, DetectorOnBackbone

COCO_CLASSES = 90  # classes of the published weights: COCO's ids 1 to 90, of which 80 are used
DEFAULT_SIDE = 800
BOX_SIZE, MASK_SIZE = 7, 14  # positions a side that the box head and the mask head look at


class DetectionBuilder(Protocol):
    """The signature of all detectors."""

    __name__: str

    def __call__(
        self,
        backbone: str = "resnet50",
        classes: int = COCO_CLASSES,
        *,
        version: str = "v1",
        weights: str | os.PathLike[str] | None = None,
        backbone_weights: str | os.PathLike[str] | None = None,
        input_shape: Sequence[int] | None = None,
        image_sizes: bool = False,
        min_size: int = 800,
        max_size: int = 1333,
        anchor_sizes: Sequence[float] = ANCHOR_SIZES,
        channels: int = 256,
        units: int = 1024,
        proposals: int = 1000,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        name: str | None = None,
    ) -> keras.Model: ...


def network_of(function: str, version: str, backbone: str) -> DetectorOnBackbone:
    """Name of a function, version and backbone -> row of the network, with its published weights.

    Raises:
        ValueError: There is no such version, or the backbone is not a ResNet with the levels C2 to C5.
    """
    versions = [detector.version for detector in DETECTORS.values() if detector.function == function]
    if version not in versions:
        raise ValueError(f"`version` must be one of {tuple(versions)} for {function}. Received: version={version!r}")
    if backbone not in BACKBONES:
        why = "; a network for CIFAR has no C5" if backbone in VARIANTS else ""
        raise ValueError(f"`backbone` must be one of {BACKBONES}{why}. Received: backbone={backbone!r}")
    detector = next(row for row in DETECTORS.values() if (row.function, row.version) == (function, version))
    weights = {DETECTION_TAG: detector.files[backbone]} if backbone in detector.files else {}
    return DetectorOnBackbone(detector.name, VARIANTS[backbone], weights)


def _check_numbers(**arguments: Any) -> None:
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")


def _check_shares(**arguments: Any) -> None:
    for name, value in arguments.items():
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be from 0 to 1. Received: {name}={value!r}")


def _builder(function: str) -> DetectionBuilder:
    def builder(
        backbone: str = "resnet50",
        classes: int = COCO_CLASSES,
        *,
        version: str = "v1",
        weights: str | os.PathLike[str] | None = None,
        backbone_weights: str | os.PathLike[str] | None = None,
        input_shape: Sequence[int] | None = None,
        image_sizes: bool = False,
        min_size: int = 800,
        max_size: int = 1333,
        anchor_sizes: Sequence[float] = ANCHOR_SIZES,
        channels: int = 256,
        units: int = 1024,
        proposals: int = 1000,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        name: str | None = None,
    ) -> keras.Model:
        _check_numbers(min_size=min_size, max_size=max_size, channels=channels, units=units)
        _check_numbers(proposals=proposals, max_detections=max_detections)
        _check_shares(score_threshold=score_threshold, iou_threshold=iou_threshold)
        if max_size < min_size:
            raise ValueError(
                f"`max_size` must be at least `min_size`. Received: min_size={min_size!r}, max_size={max_size!r}"
            )
        return build_detector(
            network_of(function, version, backbone),
            classes,
            weights=weights,
            backbone_weights=backbone_weights,
            input_shape=input_shape,
            image_sizes=image_sizes,
            frame=Frame(min_size, max_size, name=layer_names.FRAME),
            anchor_sizes=anchor_sizes,
            channels=channels,
            units=units,
            proposals=proposals,
            detections=Detections(score_threshold, iou_threshold, max_detections, name=layer_names.BOX_DETECTIONS),
            name=name,
        )

    builder.__name__ = builder.__qualname__ = function
    builder.__doc__ = _documentation(function)
    return builder


def build_detector(
    network: DetectorOnBackbone,
    classes: int,
    *,
    weights: str | os.PathLike[str] | None,
    backbone_weights: str | os.PathLike[str] | None,
    input_shape: Sequence[int] | None,
    image_sizes: bool,
    frame: Frame,
    anchor_sizes: Sequence[float],
    channels: int,
    units: int,
    proposals: int,
    detections: Detections,
    name: str | None,
) -> keras.Model:
    """Row of the network -> functional model: frame, normalisation, backbone, pyramid, proposals, heads, detections."""
    detector = network.detector
    number_of_classes = checked_classes(classes)
    if len(anchor_sizes) != len(ANCHOR_SIZES) or not all(size > 0 for size in anchor_sizes):
        raise ValueError(
            f"`anchor_sizes` must be {len(ANCHOR_SIZES)} sides in pixels, one for each map of the pyramid. "
            f"Received: anchor_sizes={anchor_sizes!r}"
        )
    pixels = image_input(network.backbone.design, input_shape, default_shape=(DEFAULT_SIDE, DEFAULT_SIDE, 3))
    if None in pixels.shape[1:]:
        raise ValueError(
            "`input_shape` of a detector must have a fixed height and width. For images of several sizes, give "
            f"the largest sides, and image_sizes=True. Received: input_shape={input_shape!r}"
        )
    size = [keras.Input((2,), dtype="int32", name=layer_names.IMAGE_SIZE)] if image_sizes else []
    image, sizes_in_frame, sizes = frame([pixels, *size] if image_sizes else pixels)

    def head(levels: Mapping[str, Any]) -> dict[str, Any]:
        maps = feature_pyramid(levels, detector, channels)
        logits, deltas = region_proposals(maps, detector, channels)
        propose = Proposals(anchor_sizes, proposals, image.shape[1:3], name=layer_names.RPN_PROPOSALS)
        boxes, scores = propose([*logits, *deltas, sizes_in_frame])
        read = maps[:-1]
        pooled = RoIAlign(BOX_SIZE, name=layer_names.align(layer_names.BOX))([*read, boxes])
        box_logits, box_deltas = box_head(pooled, detector, number_of_classes, channels, units)
        found = detections([box_logits, box_deltas, boxes, scores, sizes_in_frame])
        in_image = BoxesInImage(name=layer_names.BOXES)([found["boxes"], sizes_in_frame, sizes])
        outputs = {**found, layer_names.BOXES: in_image}
        if detector.mask_convolutions:
            pooled = RoIAlign(MASK_SIZE, name=layer_names.align(layer_names.MASK))([*read, found["boxes"]])
            logits_of_masks = mask_head(pooled, detector, number_of_classes, channels)
            outputs[layer_names.MASKS] = SelectMasks(name=layer_names.MASKS)([logits_of_masks, found["labels"]])
        return outputs

    return on_backbone(
        network,
        network.backbone,
        image,
        head,
        task="detect",
        output_stride=network.backbone.design.output_stride,
        include_preprocessing=True,
        weights=weights,
        backbone_weights=backbone_weights,
        name=name or network.name,
    )


def pyramid_of(model: keras.Model) -> keras.Model:
    """Detector -> model of its first part, with its inputs and layers, for training.

    It yields `{"maps": [P2, ..., P5], "logits": [[N, h, w, 3], ...], "deltas": [[N, h, w, 12], ...],
    "boxes": [N, R, 4], "scores": [N, R], "sizes": [N, 2]}`: the maps that the heads read, the answers about the anchors
    of all five maps, the proposals, and the sizes of the images in the frame.
    """
    propose = model.get_layer(layer_names.RPN_PROPOSALS)
    maps = model.get_layer(layer_names.align(layer_names.BOX)).input[:-1]
    *answers, sizes = propose.input
    logits, deltas = answers[: len(ANCHOR_SIZES)], answers[len(ANCHOR_SIZES) :]
    boxes, scores = propose.output
    outputs = {"maps": maps, "logits": logits, "deltas": deltas, "boxes": boxes, "scores": scores, "sizes": sizes}
    return keras.Model(model.inputs, outputs)


def head_on(model: keras.Model, part: Literal["box", "mask"], maps: Sequence[Any], boxes: Any) -> dict[str, Any]:
    """Detector, "box" or "mask", P2 to P5, boxes in the frame `[N, R, 4]` -> the answers of this head, for training.

    The answers are `{"logits": [N * R, 1 + classes], "deltas": [N * R, 4 * (1 + classes)]}`, or for "mask" `{"logits":
    [N * R, 28, 28, 1 + classes]}`.
    """
    names = ["logits", "deltas"] if part == layer_names.BOX else ["logits"]
    align = model.get_layer(layer_names.align(part))
    head = keras.Model(align.output, {name: model.get_layer(f"{part}_{name}").output for name in names})
    return head.call(align([*maps, boxes]))  # not `head(...)`: its layers stand in the graph, and not a model


def _documentation(function: str) -> str:
    rows = [row for row in DETECTORS.values() if row.function == function]
    published = ", ".join(dict.fromkeys(backbone for row in rows for backbone in row.files))
    masks = ""
    if rows[0].mask_convolutions:
        masks = """
    "masks": `[N, 100, 28, 28]` probabilities of the mask within each box; `keras_resnet.masks_in_boxes.paste_masks`
        draws them into an image."""
    paper = "He et al. 2017, arXiv 1703.06870" if masks else "Ren et al. 2015, arXiv 1506.01497"
    return f"""{function}: pixels 0..255 `[N, H, W, 3]`, uint8 or float -> boxes with their scores and classes.

    {paper}, with a feature pyramid: torchvision's `{function.lower()}_resnet50_fpn` and
    `{function.lower()}_resnet50_fpn_v2`. The output is a dict:

    "boxes": `[N, 100, 4]`, x1, y1, x2, y2 in pixels of the image that went in, the best first.
    "scores": `[N, 100]`, from `score_threshold` to 1; 0 behind the last detection.
    "labels": `[N, 100]` int32, indices of the classes from 0; -1 behind the last detection.
    "num_detections": `[N]` int32.{masks}

    Args:
        backbone: {", ".join(BACKBONES)}.
        classes: Number of classes, without the background, which is no class here. torchvision counts it: its files of
            91 outputs fit `classes=90`, and the label here is its label less 1. If weights have another number, the
            last layers of the heads stay random, with a warning.
        version: "v1", or "v2" with BatchNorm in pyramid and heads, and deeper heads.
        weights: None, "{DETECTION_TAG}" (torchvision's, for {published}), or the path of a .safetensors, .pth, .pt,
            .keras or .weights.h5 file of the whole network, in torchvision's earlier or present names.
        backbone_weights: Weights of a classifier with this backbone: "imagenet", a tag, "hf://owner/repository", or a
            path. The weights of its head are ignored.
        input_shape: (height, width, channels), all fixed. Default (800, 800, 3).
        image_sizes: Whether the network has a second input, "image_size": height and width of each image, `[N, 2]`.
            The images of a batch may then have any sizes up to `input_shape`, and stand in its top left corner.
            Otherwise each image fills its pixels.
        min_size: The shorter side of an image is resized to it inside the network, in pixels,
        max_size: unless the longer side would become longer than this.
        anchor_sizes: Sides of the anchors of P2 to P5 and of every second pixel of P5, in pixels after the resize.
        channels: Channels of the pyramid and of the convolutions in the heads.
        units: Units of the dense layers of the box head.
        proposals: Largest number of boxes that the heads look at.
        score_threshold: A detection has a higher score.
        iou_threshold: Largest intersection over union of two detections of a class.
        max_detections: Largest number of detections; the 100 in the shapes above.
        name: Name of the model. Default, for example: "{rows[0].function.lower()}_<backbone>_fpn".

    Raises:
        ValueError: An argument is out of its range.
        keras_resnet.errors.WeightsError: The weights can't be found, read or matched.
    """


FasterRCNN = _builder("FasterRCNN")
MaskRCNN = _builder("MaskRCNN")
