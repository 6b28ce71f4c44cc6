"""The tables of ResNets, of segmentation networks and of detectors: their differences, and the published weights.

The tables hold only facts; `tests/test_variants.py` recomputes every parameter count and MAC count from built networks.
Parameters and MACs follow torchvision's model metadata (its "GFLOPS" are multiply-accumulates).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class InputContract:
    """Pixels that a network expects: RGB, 0..255, short side resized to `resize`, then a centre crop of `size`."""

    size: int = 224
    resize: int = 256
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @classmethod
    def for_size(cls, size: int) -> "InputContract":
        """Crop size in pixels -> contract that keeps torchvision's proportion of crop to resize (224 of 256)."""
        return cls(size=size, resize=round(size * 256 / 224))

    @property
    def sides(self) -> tuple[int | None, int | None]:
        """Height and width of the pixels."""
        return self.size, self.size

    def of_sides(self, height: int, width: int) -> "InputContract":
        """-> contract of a network of that size; a crop must be square."""
        return InputContract.for_size(min(height, width))

    def describe(self) -> dict[str, Any]:
        """-> entry in the description of an artifact."""
        return {
            "resize_short_side": self.resize,
            "centre_crop": self.size,
            "interpolation": self.interpolation,
            "antialias": True,
        }

    def __str__(self) -> str:
        return f"{self.resize} -> {self.size} {self.interpolation}"


@dataclass(frozen=True)
class WholeImage:
    """Pixels that a network of any size expects: RGB, 0..255, the whole image, never cropped or distorted.

    With a height and a width, the image is resized to fit into them, and free pixels, on the right or below, get the
    mean colour. Without them, the image keeps its own size.
    """

    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        if (self.height is None) != (self.width is None) or min(self.height or 1, self.width or 1) < 1:
            raise ValueError(
                "`height` and `width` must both be at least 1, or both None. "
                f"Received: height={self.height}, width={self.width}"
            )

    @property
    def sides(self) -> tuple[int | None, int | None]:
        """Height and width of the pixels; None if the image keeps its own size."""
        return self.height, self.width

    def of_sides(self, height: int, width: int) -> "WholeImage":
        """-> contract of a network of that size."""
        return WholeImage(height, width)

    def describe(self) -> dict[str, Any]:
        """-> entry in the description of an artifact."""
        return {"resize_short_side": None, "centre_crop": None, "interpolation": "bilinear", "antialias": True}

    def area_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image -> height and width of the part that it fills, from the top left."""
        if self.height is None or self.width is None:
            return height, width
        scale = min(self.height / height, self.width / width)
        return max(1, min(self.height, round(scale * height))), max(1, min(self.width, round(scale * width)))


Contract = InputContract | WholeImage  # the way from image files to the pixels of a network
LARGEST_SIDE = 10_000  # largest side of a network's image, in pixels
ANCHOR_SIZES = (32, 64, 128, 256, 512)  # torchvision's: a side for each of P2 to P5, and for every second pixel of P5


def contract_of_fields(fields: Mapping[str, Any]) -> Contract:
    """Untrusted fields of a contract from a file -> contract.

    Raises:
        ValueError: A field is unknown, missing or out of range.
    """
    if set(fields) == {"height", "width"}:
        sides = (fields["height"], fields["width"])
        if sides != (None, None) and not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides):
            raise ValueError(f"'height' and 'width' must be null, or 1 to {LARGEST_SIDE}: {sides!r}"[:200])
        return WholeImage(*sides)
    size, resize, interpolation = (fields.get(key) for key in ("size", "resize", "interpolation"))
    if type(size) is not int or type(resize) is not int or not 1 <= size <= resize <= LARGEST_SIDE:
        raise ValueError(f"'contract' must have 1 <= size <= resize <= {LARGEST_SIDE}: {size!r}, {resize!r}"[:200])
    if interpolation not in ("bilinear", "bicubic"):
        raise ValueError("'interpolation' must be 'bilinear' or 'bicubic'")
    return InputContract(size, resize, interpolation)


@dataclass(frozen=True)
class PublishedWeights:
    """One set of ImageNet-1k weights: repository `timm/<network>.<tag>` on the Hugging Face Hub."""

    top1_percent: float  # ImageNet-1k validation, single centre crop, under `contract`, as published
    contract: InputContract
    licence: str


@dataclass(frozen=True)
class NamedByHash:
    """A published file whose name ends in the first 8 digits of its SHA-256."""

    name: str

    @property
    def sha256_start(self) -> str:
        return self.name.rpartition(".")[0].rpartition("-")[2]


@dataclass(frozen=True)
class PublishedFile(NamedByHash):
    """One file of CIFAR-10 weights. The user must download it from `CIFAR_FILES`, since the Hub does not have it."""

    top1_percent: float  # CIFAR-10 test images without resize or crop, as published
    licence: str


@dataclass(frozen=True)
class TorchvisionFile(NamedByHash):
    """One file of torchvision's weights of a segmentation network or a detector, at `TORCHVISION_FILES`."""

    metrics: Mapping[str, float]  # published metrics by name with unit
    licence: str

    @property
    def url(self) -> str:
        return f"{TORCHVISION_FILES}/{self.name}"


@dataclass(frozen=True)
class Design:
    """The common design of the networks for a data set (He et al. 2015, arXiv 1512.03385)."""

    data: str
    stem: Literal["7x7 and pool", "3x3"]  # the strides are 4 and 1
    filters: int  # filters of the stem and width of the first stage; each later stage doubles them
    shortcut: Literal["projection", "padded"]  # shortcut where the shape changes: options B and A of the paper
    classes: int
    contract: InputContract
    output_strides: tuple[int, ...]  # possible strides of the last stage; the last one is the default
    dense_layer: str  # name of the dense layer in published state dicts

    @property
    def output_stride(self) -> int:
        """Default stride of the last stage. On images smaller than it, this stage would see more padding than image."""
        return self.output_strides[-1]


IMAGENET = Design(  # section 4.1
    data="ImageNet-1k",
    stem="7x7 and pool",
    filters=64,
    shortcut="projection",
    classes=1000,
    contract=InputContract(224, 256),
    output_strides=(8, 16, 32),
    dense_layer="fc",
)

CIFAR = Design(  # section 4.2
    data="CIFAR-10",
    stem="3x3",
    filters=16,
    shortcut="padded",
    classes=10,
    contract=InputContract(32, 32),
    output_strides=(4,),
    dense_layer="linear",
)


@dataclass(frozen=True)
class Variant:
    """One network of the family."""

    name: str
    design: Design
    block: Literal["basic", "bottleneck"]
    blocks_per_stage: tuple[int, ...]
    parameters: int  # trainable, with a head of the design's number of classes
    gmacs: float  # 10^9 multiply-accumulates of one image of the design's size
    weights: Mapping[str, PublishedWeights]
    file: PublishedFile | None = None

    @property
    def function(self) -> str:
        """Name of the function in `keras_resnet` that builds the network: "ResNet50" for "resnet50"."""
        return self.name.replace("resnet", "ResNet")

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the stages' outputs, from "C2" on, the paper's conv2_x."""
        return tuple(f"C{stage}" for stage, _ in enumerate(self.blocks_per_stage, start=2))

    @property
    def files(self) -> tuple[NamedByHash, ...]:
        """Published files that are not on the Hub."""
        return () if self.file is None else (self.file,)

    @property
    def expansion(self) -> int:
        """Output channels of a block per unit of its width."""
        return 4 if self.block == "bottleneck" else 1

    def tag_of(self, weights: object) -> str | None:
        """Source of weights, as `weights=` takes it -> tag of this row that it stands for, or None.

        "imagenet", a tag, and the repository of a tag ("hf://timm/resnet50.a1_in1k") stand for a tag. A path object
        never does.
        """
        if not isinstance(weights, str):
            return None
        repository = f"hf://timm/{self.name}."
        tag = DEFAULT_TAG if weights == "imagenet" else weights
        if weights.startswith(repository):
            tag = weights.removeprefix(repository).rstrip("/")
        return tag if tag in self.weights else None


@dataclass(frozen=True)
class NetworkOnBackbone:
    """One network over a backbone, and the row of its architecture: of segmentation, one of `ARCHITECTURES`."""

    architecture: str  # for example "deeplabv3"
    backbone: Variant
    weights: Mapping[str, TorchvisionFile]  # published weights by tag

    @property
    def name(self) -> str:
        return f"{self.architecture}_{self.backbone.name}"

    @property
    def files(self) -> tuple[NamedByHash, ...]:
        """Published files, none of which is on the Hub."""
        return tuple(self.weights.values())

    def tag_of(self, weights: object) -> str | None:
        """Source of weights, as `weights=` takes it -> tag that it stands for, or None."""
        return weights if isinstance(weights, str) and weights in self.weights else None


@dataclass(frozen=True)
class DetectorOnBackbone(NetworkOnBackbone):
    """One detector: a backbone, and a row of `DETECTORS`."""

    @property
    def name(self) -> str:
        """As torchvision names it: "maskrcnn_resnet50_fpn_v2"."""
        return f"{self.detector.function.lower()}_{self.backbone.name}_fpn{self.detector.suffix}"

    @property
    def detector(self) -> "Detector":
        return DETECTORS[self.architecture]


@dataclass(frozen=True)
class Architecture:
    """Properties of a segmentation architecture, for any backbone. `heads.segmentation` has the decoders."""

    function: str  # name of the function in `keras_resnet.segmentation`
    title: str
    output_strides: tuple[int, ...]  # possible strides of C5; the last one is the default
    has_auxiliary_head: bool
    files: Mapping[str, TorchvisionFile]  # published weights by backbone

    @property
    def name(self) -> str:
        """First part of its networks' names: "deeplabv3" in "deeplabv3_resnet50"."""
        return self.function.lower()


@dataclass(frozen=True)
class Detector:
    """Properties of a detector with a feature pyramid, for any backbone. `heads.detection` has its parts."""

    function: str  # name of the function in `keras_resnet.detection`
    version: Literal["v1", "v2"]
    rpn_convolutions: int  # 3x3 convolutions of the region proposal network
    has_batch_norm: bool  # whether convolutions of the pyramid and of the heads have BatchNorm, and no bias
    box_convolutions: int  # 3x3 convolutions of the box head
    box_dense_layers: int  # dense layers of the box head that follow
    mask_convolutions: int  # 3x3 convolutions of the mask head; 0: no masks
    files: Mapping[str, TorchvisionFile]  # published weights by backbone
    file_epsilon: float = 1e-5  # epsilon of BatchNorm with which the published files compute

    @property
    def name(self) -> str:
        return f"{self.function.lower()}_{self.version}"

    @property
    def suffix(self) -> str:
        """Last part of its networks' names."""
        return "" if self.version == "v1" else f"_{self.version}"


Network = Variant | NetworkOnBackbone


def _tv(top1_percent: float) -> PublishedWeights:
    """torchvision IMAGENET1K_V1; top-1 from torchvision's metadata."""
    return PublishedWeights(top1_percent, InputContract(224, 256, "bilinear"), "BSD-3-Clause")


def _tv2(top1_percent: float) -> PublishedWeights:
    """torchvision IMAGENET1K_V2; top-1 from torchvision's metadata."""
    return PublishedWeights(top1_percent, InputContract(224, 232, "bilinear"), "BSD-3-Clause")


def _rsb(top1_percent: float) -> PublishedWeights:
    """ "ResNet strikes back" (arXiv 2110.00476); top-1 from timm's results at 224, crop_pct 0.95, bicubic."""
    return PublishedWeights(top1_percent, InputContract(224, 235, "bicubic"), "Apache-2.0")


def _cifar(depth: int, parameters: int, gmacs: float, sha256_start: str, error_percent: float) -> Variant:
    """Row of a CIFAR network of `6n + 2` layers; file and test error from the README of `CIFAR_FILES`."""
    name, blocks = f"resnet{depth}", (depth - 2) // 6
    file = PublishedFile(f"{name}-{sha256_start}.th", round(100 - error_percent, 2), "BSD-2-Clause")
    return Variant(name, CIFAR, "basic", (blocks,) * 3, parameters, gmacs, {}, file)


def _coco(name: str, mean_iou_percent: float, pixel_accuracy_percent: float) -> TorchvisionFile:
    """torchvision's COCO_WITH_VOC_LABELS_V1; metrics from its metadata, on COCO val2017 with VOC's classes."""
    metrics = {"mean_iou_percent": mean_iou_percent, "pixel_accuracy_percent": pixel_accuracy_percent}
    return TorchvisionFile(name, metrics, "BSD-3-Clause")


def _detection(name: str, box_ap_percent: float, mask_ap_percent: float | None = None) -> TorchvisionFile:
    """torchvision's COCO_V1; metrics from its metadata, on COCO val2017."""
    metrics = {"box_ap_percent": box_ap_percent}
    if mask_ap_percent is not None:
        metrics["mask_ap_percent"] = mask_ap_percent
    return TorchvisionFile(name, metrics, "BSD-3-Clause")


VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant(
            "resnet18",
            IMAGENET,
            "basic",
            (2, 2, 2, 2),
            parameters=11_689_512,
            gmacs=1.814,
            weights={
                "tv_in1k": _tv(69.758),
                "a1_in1k": _rsb(71.504),
                "a2_in1k": _rsb(70.634),
                "a3_in1k": _rsb(68.250),
            },
        ),
        Variant(
            "resnet34",
            IMAGENET,
            "basic",
            (3, 4, 6, 3),
            parameters=21_797_672,
            gmacs=3.664,
            weights={
                "tv_in1k": _tv(73.314),
                "a1_in1k": _rsb(76.420),
                "a2_in1k": _rsb(75.520),
                "a3_in1k": _rsb(72.996),
            },
        ),
        Variant(
            "resnet50",
            IMAGENET,
            "bottleneck",
            (3, 4, 6, 3),
            parameters=25_557_032,
            gmacs=4.089,
            weights={
                "tv_in1k": _tv(76.130),
                "tv2_in1k": _tv2(80.858),
                "a1_in1k": _rsb(80.382),
                "a2_in1k": _rsb(79.828),
                "a3_in1k": _rsb(78.052),
            },
        ),
        Variant(
            "resnet101",
            IMAGENET,
            "bottleneck",
            (3, 4, 23, 3),
            parameters=44_549_160,
            gmacs=7.801,
            weights={
                "tv_in1k": _tv(77.374),
                "tv2_in1k": _tv2(81.886),
                "a1_in1k": _rsb(81.494),
                "a2_in1k": _rsb(81.344),
                "a3_in1k": _rsb(79.836),
            },
        ),
        Variant(
            "resnet152",
            IMAGENET,
            "bottleneck",
            (3, 8, 36, 3),
            parameters=60_192_808,
            gmacs=11.514,
            weights={
                "tv_in1k": _tv(78.312),
                "tv2_in1k": _tv2(82.284),
                "a1_in1k": _rsb(81.998),
                "a2_in1k": _rsb(81.764),
                "a3_in1k": _rsb(80.548),
            },
        ),
        _cifar(20, 269_722, 0.041, "12fca82f", error_percent=8.27),
        _cifar(32, 464_154, 0.069, "d509ac18", error_percent=7.37),
        _cifar(44, 658_586, 0.097, "014dd654", error_percent=6.90),
        _cifar(56, 853_018, 0.125, "4bfd9763", error_percent=6.61),
        _cifar(110, 1_727_962, 0.253, "1d1ed7c2", error_percent=6.32),
    )
}

DEFAULT_TAG = "tv_in1k"  # meaning of weights="imagenet"
TORCHVISION_FILES = "https://download.pytorch.org/models"
CIFAR_FILES = "https://github.com/akamaster/pytorch_resnet_cifar10"  # the files are in the folder pretrained_models

BACKBONES = tuple(variant.name for variant in VARIANTS.values() if "C5" in variant.levels)  # for other tasks

ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "FCN",
            "Fully convolutional network (Long et al. 2015, arXiv 1411.4038; torchvision's, on a dilated backbone)",
            output_strides=(8,),
            has_auxiliary_head=True,
            files={
                "resnet50": _coco("fcn_resnet50_coco-1167a1af.pth", 60.5, 91.4),
                "resnet101": _coco("fcn_resnet101_coco-7ecb50ca.pth", 63.7, 91.9),
            },
        ),
        Architecture(
            "DeepLabV3",
            "DeepLabV3 (Chen et al. 2017, arXiv 1706.05587; torchvision's)",
            output_strides=(16, 8),
            has_auxiliary_head=True,
            files={
                "resnet50": _coco("deeplabv3_resnet50_coco-cd0a2569.pth", 66.4, 92.4),
                "resnet101": _coco("deeplabv3_resnet101_coco-586e9e4e.pth", 67.4, 92.4),
            },
        ),
        Architecture(
            "DeepLabV3Plus",
            "DeepLabV3+ (Chen et al. 2018, arXiv 1802.02611; plain atrous convolutions)",
            output_strides=(8, 16),
            has_auxiliary_head=False,
            files={},
        ),
        Architecture(
            "UNet",
            "U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with a ResNet as its encoder",
            output_strides=(32,),
            has_auxiliary_head=False,
            files={},
        ),
    )
}

DETECTION_TAG = "COCO_V1"  # torchvision's name of the published weights of all detectors

DETECTORS: Mapping[str, Detector] = {
    detector.name: detector
    for detector in (
        Detector(
            "FasterRCNN",
            "v1",
            rpn_convolutions=1,
            has_batch_norm=False,
            box_convolutions=0,
            box_dense_layers=2,
            mask_convolutions=0,
            files={"resnet50": _detection("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", 37.0)},
            file_epsilon=0.0,
        ),
        Detector(
            "FasterRCNN",
            "v2",
            rpn_convolutions=2,
            has_batch_norm=True,
            box_convolutions=4,
            box_dense_layers=1,
            mask_convolutions=0,
            files={"resnet50": _detection("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", 46.7)},
        ),
        Detector(
            "MaskRCNN",
            "v1",
            rpn_convolutions=1,
            has_batch_norm=False,
            box_convolutions=0,
            box_dense_layers=2,
            mask_convolutions=4,
            files={"resnet50": _detection("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 37.9, 34.6)},
            file_epsilon=0.0,
        ),
        Detector(
            "MaskRCNN",
            "v2",
            rpn_convolutions=2,
            has_batch_norm=True,
            box_convolutions=4,
            box_dense_layers=1,
            mask_convolutions=4,
            files={"resnet50": _detection("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 47.4, 41.8)},
        ),
    )
}
