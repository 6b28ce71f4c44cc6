"""The table of formats: file, runtime, purpose, options and tolerances."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from keras_resnet.answers import SCORES, Output
from keras_resnet.errors import ExportError

# On 42 street scenes, 1.8 million pixels, U-Net over ResNet-18 was measured at up to 3.2e-5, and 3.2e-2 in float16.
PIXELS_FACTOR = 5
# Values without bounds may vary little beside their largest one, which is the unit of the mean error. Small networks
# with random weights reached 0.0079 and 0.056 in the integer formats.
VALUES_MEAN_FACTOR, VALUES_VARIANCE_FACTOR = 10, 4


@dataclass(frozen=True)
class LayerTolerance:
    """Bounds for the error of each layer of an artifact, whose input are the values before it in the artifact itself.

    The unit is the variance of a channel over images and places, plus the squares of a quarter of its mean and of 1/255
    of the layer's range. Where values are 8-bit integers, their rounding is no error.
    """

    layer_noise: float  # mean over a layer's channels of the variance of the error / mean of the unit
    channel_noise: float  # variance of a channel's error / unit
    channel_scale: float  # |slope of artifact over model - 1| of a channel that varies by steps, less 2 standard errors
    channel_mean: float  # (|mean error of a channel| less 3 standard errors over the images) / square root of the unit
    logits_mean: float  # bound of `channel_mean` for the layer before a softmax, where each shift favours a class
    # Least share of the 255 steps between the lowest and the highest value of a layer, in the median of all layers.
    range_use: float | None = None
    softmax: float = 1e-3  # largest distance of the answers from the softmax of the file's own logits
    softmax_per_class: float = 0.0  # what each class adds to it


@dataclass(frozen=True)
class BoxTolerance:
    """Bounds for the difference between an artifact's detections and its model's.

    A detection is matched with one of its class at its place; errors are root mean squares over all matched ones.
    """

    least_iou: float  # smallest intersection over union of two boxes that are one detection
    matched_percent: float  # smallest share of the detections that must be in both
    margin: float  # a detection counts whose score is so far above the last one of its image
    score_error: float
    box_error: float  # in longer sides of the box
    mask_error: float


# Small networks with random weights, whose scores lie close to each other, were measured at up to 1e-7, 4e-7 and 1e-6.
_FLOAT_BOXES = BoxTolerance(0.99, 99.0, 1e-3, 2e-5, 2e-4, 1e-4)

# A trained Faster R-CNN was measured at 98.7 %, 0.024 and 0.030 in `tflite-int8`, and 98.4 %, 0.034 and 0.038 in
# `tflite-dynamic`. A small Mask R-CNN with random weights: 92 %, 0.006, 0.030 and 0.007; 94 %, 0.004, 0.016 and 0.006.
_INTEGER_BOXES = BoxTolerance(0.5, 85.0, 0.1, 0.05, 0.06, 0.05)


@dataclass(frozen=True)
class Tolerance:
    """Bounds for the difference between an artifact's and its model's probabilities; a bound of None does not apply."""

    relative_error: float | None = None  # max |artifact - model| / max |model|
    class_error: float | None = None  # per class: max |artifact - model| / max |model - its mean over the images|
    unexplained_variance: float | None = None  # squared error / variance of the model's answers over the images
    mean_error: float | None = None  # |mean of (artifact - model)|
    top1_agreement_percent: float = 100.0
    margin: float = 0.0  # smallest difference of an image's best two probabilities for which its class must agree
    batch_error: float = 1e-5  # largest change of a probability between two batch sizes
    boundary_error: float | None = None  # root of the mean squared error of the best two answers, between two classes
    # A layer of a network with random statistics had a noise of 2.6e-7, in ONNX Runtime and OpenVINO alike.
    layers: LayerTolerance = LayerTolerance(5e-7, 1e-6, 1e-3, 1e-3, 1e-3)
    boxes: BoxTolerance = _FLOAT_BOXES

    def of_pixels(self) -> "Tolerance":
        """-> tolerance for a network that answers for every pixel: among more values, the largest error is larger."""
        relative, of_class = (
            None if bound is None else PIXELS_FACTOR * bound for bound in (self.relative_error, self.class_error)
        )
        return replace(self, relative_error=relative, class_error=of_class)

    def of_values(self) -> "Tolerance":
        """-> tolerance for a network that answers with values without bounds."""
        mean = None if self.mean_error is None else VALUES_MEAN_FACTOR * self.mean_error
        variance = None if self.unexplained_variance is None else VALUES_VARIANCE_FACTOR * self.unexplained_variance
        layers = replace(self.layers, layer_noise=VALUES_VARIANCE_FACTOR * self.layers.layer_noise)
        return replace(self, mean_error=mean, unexplained_variance=variance, layers=layers)


# Float: ResNet-18 and ResNet-50 with ImageNet weights differed by up to 9e-6, and 5e-5 of the range of a class, on 500
# images; the second bound finds a fault in a model that is confident about every image. 16-bit numbers keep 11 bits: a
# logit of 20 is rounded by up to 2^-7, and so a probability by up to 2^-8.
# Integer: an output step is 1/256, so that rounding changes the mean by at most half a step. The other two bounds lie
# between the results of these networks (variance at most 0.009, agreement at least 94 %) and the results with a wrong
# mean, standard deviation or channel order (variance at least 0.04). Between two classes, the error was at most 0.10 in
# int8 and 0.12 in dynamic files, of ResNet-18, ResNet-20, ResNet-50 and artifacts of random networks.
_FLOAT = Tolerance(relative_error=5e-5, class_error=1e-3)
_FLOAT16 = Tolerance(
    relative_error=2e-2,
    unexplained_variance=1e-4,
    mean_error=1e-3,  # independent answers of random networks were measured at up to 3e-4
    top1_agreement_percent=99.0,
    layers=LayerTolerance(1e-4, 1e-2, 1e-2, 0.1, 0.02, softmax=4e-3),
    boxes=BoxTolerance(0.5, 97.0, 0.02, 1e-2, 2e-2, 1e-2),
)
# What OpenVINO computes in bfloat16, which keeps 8 bits, of a file in float32: a ResNet-18 with ImageNet weights was
# measured at a variance of 1e-4. The layers are compared in float32.
BFLOAT16 = Tolerance(
    unexplained_variance=0.002,
    mean_error=1e-3,
    top1_agreement_percent=97.0,
    margin=0.05,
    batch_error=2**-7,
    boxes=_INTEGER_BOXES,
)
_INTEGER = Tolerance(
    unexplained_variance=0.03,
    mean_error=0.5 / 256,
    top1_agreement_percent=95.0,
    margin=0.2,
    boundary_error=0.18,
    layers=LayerTolerance(0.004, 0.08, 0.2, 0.05, 0.02, range_use=0.4),
    boxes=_INTEGER_BOXES,
)
# Its activations are float, and nothing corrects its biases. Random networks were measured at a channel noise of up to
# 0.068 and a logits mean of up to 0.145.
_DYNAMIC = replace(_INTEGER, boundary_error=0.15, layers=LayerTolerance(0.006, 0.1, 0.1, 0.3, 0.2))
# LiteRT's softmax of 16 bits counts at least 2^-14 for each class, even if its exponential is nearly 0.
_INTEGER16 = replace(
    _INTEGER, boundary_error=None, layers=LayerTolerance(0.015, 0.05, 0.1, 0.3, 0.3, softmax_per_class=2**-14)
)


@dataclass(frozen=True)
class Options:
    """Options of formats. An option applies to formats whose row names it; None is the format's default."""

    opset: int | None = None  # ONNX opset, 11 to 18; default 17
    layout: Literal["NHWC", "NCHW"] | None = None  # input layout of ONNX files; default NHWC
    colour_order: Literal["RGB", "BGR"] | None = None  # order of the input's channels; default RGB
    default_signature: Literal["pixels", "jpeg"] | None = (
        None  # what `serving_default` of a SavedModel takes: pixels, or encoded images; default pixels
    )
    any_size: bool | None = None  # whether height and width are free (formats in float but TFLite); default False
    input_dtype: Literal["uint8", "int8", "float32"] | None = None  # input of tflite-int8; default uint8
    output_dtype: Literal["uint8", "int8", "float32"] | None = None  # output of tflite-int8; default uint8
    ranges: Literal["minmax", "mse"] | None = None  # method for activation ranges; default mse from 64 images on
    int_weights: Literal["int8", "int7", "uint8"] | None = (
        None  # type of onnx-int8's kernels; default int8 if this CPU has VNNI, else uint8
    )
    keep_float: Sequence[str] | None = None  # names of layers that int8 formats leave in float
    argmax: bool | None = None  # segmentation: write the class of each pixel (`mask`) instead of probabilities
    score_threshold: float | None = None  # detection: a detection has a higher score; default as the model has it
    iou_threshold: float | None = None  # detection: largest IoU of two detections of a class; default likewise
    web_runtime: str | None = None  # folder with npm's package onnxruntime-web; default: npm fetches it
    max_detections: int | None = None  # detection: largest number of detections in an image; default likewise
    raw_heads: bool | None = None  # detection: write the network before its proposals, without post-processing

    def __post_init__(self) -> None:
        if isinstance(self.keep_float, str):
            raise ExportError(f"`keep_float` must be a list of names. Received: keep_float={self.keep_float!r}")
        if self.keep_float is not None:
            object.__setattr__(self, "keep_float", tuple(self.keep_float))

    def given(self) -> dict[str, Any]:
        """-> options that the caller set."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


BROWSER = "headless Chromium"  # runtime that verifies pages

# Options of one task, for all formats.
TASK_OPTIONS = ("argmax", "score_threshold", "iou_threshold", "max_detections", "raw_heads")
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "opset": tuple(range(11, 19)),
    "layout": ("NHWC", "NCHW"),
    "colour_order": ("RGB", "BGR"),
    "default_signature": ("pixels", "jpeg"),
    "any_size": (True, False),
    "argmax": (True, False),
    "raw_heads": (True, False),
    "input_dtype": ("uint8", "int8", "float32"),
    "output_dtype": ("uint8", "int8", "float32"),
    "ranges": ("minmax", "mse"),
    "int_weights": ("int8", "int7", "uint8"),
}


@dataclass(frozen=True)
class Format:
    """One kind of artifact. The defaults fit a float file of batch size 1."""

    name: str
    file_name: str
    runtime: str
    promise: str
    writer: str  # module:function in keras_resnet.export, which takes (job, path)
    modules: tuple[str, ...] = ()  # modules that converter and runtime import besides TensorFlow
    extra: str | None = None  # extra of this package that installs them
    options: tuple[str, ...] = ()  # fields of `Options` that apply to it
    any_batch: bool = False  # whether the batch size is free; otherwise it is 1
    calibrated: bool = False  # whether it needs calibration images
    integer: bool = False  # whether it is valid only for the range of real images
    integer_answers: bool = False  # whether it computes answers as integers, even if the output is float
    first_opset: int = CHOICES["opset"][0]  # first allowed opset of ONNX formats
    learned: bool = False  # whether it can be written with the ranges of quantization-aware training
    verified_in: str | None = (
        None  # runtime in which it is verified, if it is not the one that runs it for this package
    )
    verified_images: int | None = None  # largest number of images for verification in a slow runtime
    bytes_per_parameter: int = 4
    tolerance: Tolerance = _FLOAT
    input_dtype: str = "float32"
    output_dtype: str = "float32"
    layout: str = "NHWC"
    colour_order: str = "RGB"  # order of the channels, where they are 3
    default_signature: str = "pixels"
    any_size: bool = False
    keep_float: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = (SCORES,)

    @property
    def output(self) -> Output:
        """The first output. It is the only one, unless the task's networks give several."""
        return self.outputs[0]

    def dtype_of(self, output: Output) -> str:
        """-> type of the numbers of one of its outputs."""
        return output.dtype or self.output_dtype

    @property
    def numbers(self) -> str:
        """-> the numbers in which a file's weights are kept."""
        return {4: "float32", 2: "float16", 1: "int8"}[self.bytes_per_parameter]

    @property
    def output_step(self) -> float:
        """Smallest difference between two probabilities that the format can express."""
        return 0.0 if self.output_dtype == "float32" and not self.integer_answers else 1 / 256

    def chosen(self, options: Options) -> "Format":
        """-> the row, changed by the options."""
        names = {field.name for field in fields(self)}  # without argmax, which needs the number of classes
        return replace(self, **{k: v for k, v in options.given().items() if k in self.options and k in names})


_TFLITE: dict[str, Any] = {"runtime": "LiteRT", "modules": ("ai_edge_litert",), "extra": "tflite"}
_ONNX: dict[str, Any] = {
    "runtime": "ONNX Runtime",
    "modules": ("onnx", "tf2onnx", "onnxruntime"),
    "extra": "onnx",
    "any_batch": True,
}
_OPENVINO: dict[str, Any] = {
    "runtime": "OpenVINO",
    "modules": ("onnx", "tf2onnx", "onnxruntime", "openvino"),  # it is written by way of an ONNX file
    "extra": "openvino",
    "any_batch": True,
}
_INT8: dict[str, Any] = {
    "calibrated": True,
    "integer": True,
    "learned": True,
    "bytes_per_parameter": 1,
    "tolerance": _INTEGER,
}

_WEB: dict[str, Any] = {**_ONNX, "extra": "web", "verified_in": BROWSER, "verified_images": 32}

FORMATS: Mapping[str, Format] = {
    row.name: row
    for row in (
        Format(
            "saved_model",
            "saved_model",
            "TensorFlow",
            "servers: pixels, encoded images or features; any batch",
            "to_savedmodel:to_savedmodel",
            options=("any_size", "default_signature"),
            any_batch=True,
        ),
        Format("tflite", "model.tflite", promise="phones: exact", writer="to_tflite:to_tflite", **_TFLITE),
        Format(
            "tflite-float16",
            "model-float16.tflite",
            promise="phones' GPUs: half the size, nearly exact",
            writer="to_tflite:to_tflite_float16",
            bytes_per_parameter=2,
            tolerance=_FLOAT16,
            **_TFLITE,
        ),
        Format(
            "tflite-dynamic",
            "model-dynamic.tflite",
            promise="CPUs: a quarter of the size, no calibration images",
            writer="to_tflite:to_tflite_dynamic",
            integer=True,
            bytes_per_parameter=1,
            tolerance=_DYNAMIC,
            **_TFLITE,
        ),
        Format(
            "tflite-int8",
            "model-int8.tflite",
            promise="phones, NPUs, microcontrollers: only integers; boxes of detectors in float32",
            writer="to_tflite:to_tflite_int8",
            options=("input_dtype", "output_dtype", "ranges", "keep_float"),
            input_dtype="uint8",
            output_dtype="uint8",
            integer_answers=True,
            **_TFLITE,
            **_INT8,
        ),
        Format(
            "tflite-int16x8",
            "model-int16x8.tflite",
            promise="accelerators with 16-bit activations: nearly exact; slow on CPUs",
            writer="to_tflite:to_tflite_int16x8",
            calibrated=True,
            integer=True,
            verified_images=32,
            bytes_per_parameter=1,
            tolerance=_INTEGER16,
            **_TFLITE,
        ),
        Format(
            "onnx",
            "model.onnx",
            promise="servers and browsers: exact; any batch",
            writer="to_onnx:to_onnx",
            options=("opset", "layout", "colour_order", "any_size"),
            **_ONNX,
        ),
        Format(
            "onnx-float16",
            "model-float16.onnx",
            promise="GPUs: half the size, nearly exact; any batch",
            writer="to_onnx:to_onnx_float16",
            options=("opset", "layout", "colour_order", "any_size"),
            bytes_per_parameter=2,
            tolerance=replace(_FLOAT16, batch_error=2**-10),  # two steps of float16 below 1, for sums in another order
            **_ONNX,
        ),
        Format(
            "onnx-int8",
            "model-int8.onnx",
            promise="servers' CPUs: a quarter of the size, float answers, boxes of detectors in float32; any batch",
            writer="to_onnx:to_onnx_int8",
            options=("opset", "layout", "colour_order", "ranges", "int_weights", "keep_float"),
            first_opset=13,  # the first opset with a scale for each channel
            **_ONNX,
            **_INT8,
        ),
        Format(
            "openvino",
            "model_openvino",
            promise="servers' x86 CPUs: exact; any batch",
            writer="to_openvino:to_openvino",
            options=("colour_order", "any_size"),
            **_OPENVINO,
        ),
        Format(
            "openvino-int8",
            "model-int8_openvino",
            promise="servers' x86 CPUs: a quarter of the size, float answers, as `onnx-int8`; any batch",
            writer="to_openvino:to_openvino_int8",
            options=("colour_order", "ranges", "keep_float"),
            **_OPENVINO,
            **_INT8,
        ),
        Format(
            "web",
            "web",
            promise="browsers: a page that answers there, with the network of `onnx-int8`",
            writer="to_web:to_web",
            options=("ranges", "keep_float", "web_runtime"),
            **_WEB,
            **_INT8,
        ),
        Format(
            "web-float32",
            "web-float32",
            promise="browsers: a page that answers there, with the network of `onnx`",
            writer="to_web:to_web_float32",
            options=("web_runtime",),
            **_WEB,
        ),
    )
}


UNVERIFIED = ".unverified"  # suffix of an artifact's name before verification


def all_formats() -> list[str]:
    """-> names of the formats of `--formats all`: a format that needs a browser must be named."""
    return [name for name, row in FORMATS.items() if row.verified_in is None]


def takers_of(option: str) -> list[str]:
    """Name of an option -> names of the formats that take it."""
    return [row.name for row in FORMATS.values() if option in row.options]


def format_named(name: str) -> Format:
    """Name -> row of the table.

    Raises:
        ExportError: There is no such format; the message suggests the nearest name.
    """
    if name in FORMATS:
        return FORMATS[name]
    nearest = difflib.get_close_matches(name, FORMATS, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ExportError(f"`formats` (--formats) must be among {', '.join(FORMATS)}, or all. Received: {name!r}.{hint}")


def check_options(options: Options, rows: list[Format]) -> None:
    """Raises `ExportError` if an option is invalid, applies to no chosen format, or conflicts with another option."""
    for name, value in options.given().items():
        if name in CHOICES and value not in CHOICES[name]:
            raise ExportError(
                f"`{name}` must be one of {', '.join(map(str, CHOICES[name]))}. Received: {name}={value!r}"
            )
        if name not in TASK_OPTIONS and not any(name in row.options for row in rows):
            raise ExportError(
                f"`{name}` belongs to {', '.join(takers_of(name))}. "
                f"Received: {name}={value!r} for {', '.join(row.name for row in rows)}"
            )
    if options.argmax and options.output_dtype is not None:
        raise ExportError(
            "`output_dtype` must be left out with `argmax`, whose output is always uint8. "
            f"Received: output_dtype={options.output_dtype!r}"
        )
    if options.argmax and any(row.name == "tflite-int16x8" for row in rows):
        raise ExportError(
            "`argmax` (--argmax) must be left out for tflite-int16x8: LiteRT's converter has no such operation of 16 "
            f"bits. Received: argmax=True for {', '.join(row.name for row in rows)}"
        )
    for row in rows:
        if options.opset is not None and "opset" in row.options and options.opset < row.first_opset:
            raise ExportError(
                f"`opset` (--opset) of {row.name} must be {row.first_opset} or later. Received: opset={options.opset}"
            )
