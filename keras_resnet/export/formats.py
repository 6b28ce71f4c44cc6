"""The formats as one table: file, runtime, what each promises and how near to its model it must be."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from keras_resnet.errors import ExportError


@dataclass(frozen=True)
class Tolerance:
    """How near an artifact's probabilities must be to its model's; every bound applies where it is not None."""

    relative_error: float | None = None  # max |artifact - model| / max |model|
    class_error: float | None = None  # of each class: max |artifact - model| / max |model - its mean over the images|
    unexplained_variance: float | None = None  # squared error / variance of the model's answers over the images
    mean_error: float | None = None  # |mean of (artifact - model)|
    top1_agreement_percent: float = 100.0


# Float: ImageNet's ResNet-18 and ResNet-50 with real weights were measured at up to 9e-6, and 5e-5 of a class's own
# range, on 500 images; the second bound sees a fault in a model that is sure of every image. Integer: an output step is
# 1/256, so that rounding moves the mean by at most half a step; the other two bounds lie between what these networks
# gave (variance 0.004 and 0.009, agreement 94 % and up) and what a wrong mean, standard deviation or channel order gave
# (variance from 0.04 up).
_FLOAT = Tolerance(relative_error=5e-5, class_error=1e-3)
_INT8 = Tolerance(unexplained_variance=0.03, mean_error=0.5 / 256, top1_agreement_percent=90.0)


@dataclass(frozen=True)
class Format:
    """One kind of artifact; the defaults are those of a float file of batch size 1."""

    name: str
    file_name: str
    runtime: str
    writer: str  # module:function in keras_resnet.export, (prepared model, path[, calibration images]) -> None
    modules: tuple[str, ...] = ()  # what converter and runtime import beyond TensorFlow
    extra: str | None = None  # of this package, that brings them
    any_batch: bool = False  # whether the batch size is free; otherwise it is 1
    quantized: bool = False  # whether it needs calibration images
    dtype: str = "float32"  # of input and output
    bytes_per_parameter: int = 4
    tolerance: Tolerance = _FLOAT

    @property
    def output_step(self) -> float:
        """Smallest difference between two probabilities that the format can express."""
        return 1 / 256 if self.dtype == "uint8" else 0.0


FORMATS: Mapping[str, Format] = {
    row.name: row
    for row in (
        Format("saved_model", "saved_model", "TensorFlow", "to_savedmodel:to_savedmodel", any_batch=True),
        Format("tflite", "model.tflite", "LiteRT", "to_tflite:to_tflite", ("ai_edge_litert",), "tflite"),
        Format(
            *("tflite-int8", "model-int8.tflite", "LiteRT", "to_tflite:to_tflite_int8", ("ai_edge_litert",), "tflite"),
            quantized=True,
            dtype="uint8",
            bytes_per_parameter=1,
            tolerance=_INT8,
        ),
        Format(
            *("onnx", "model.onnx", "ONNX Runtime", "to_onnx:to_onnx", ("onnx", "tf2onnx", "onnxruntime"), "onnx"),
            any_batch=True,
        ),
    )
}

UNVERIFIED = ".unverified"  # suffix of an artifact's name until it is verified

INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"


def format_named(name: str) -> Format:
    """Name -> row of the table.

    Raises:
        ExportError: There is no such format; the nearest is suggested.
    """
    if name in FORMATS:
        return FORMATS[name]
    nearest = difflib.get_close_matches(name, FORMATS, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise ExportError(f"`formats` must be out of {', '.join(FORMATS)}. Received: {name!r}.{hint}")
