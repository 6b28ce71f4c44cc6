"""The formats as one table: file, runtime, what each promises and how near to its model it must be."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_resnet.errors import ExportError


@dataclass(frozen=True)
class Tolerance:
    """How near an artifact's probabilities must be to its model's; every bound applies where it is not None."""

    relative_error: float | None = None  # max |artifact - model| / max |model|
    unexplained_variance: float | None = None  # squared error / variance of the model's answers over the images
    mean_error: float | None = None  # |mean of (artifact - model)|
    top1_agreement_percent: float = 100.0


@dataclass(frozen=True)
class Format:
    """One kind of artifact."""

    name: str
    file_name: str
    runtime: str
    writer: str  # module:function in keras_resnet.export, (prepared model, path[, calibration images]) -> None
    any_batch: bool  # whether the batch size is free; otherwise it is 1
    quantized: bool  # whether it needs calibration images
    bytes_per_parameter: int
    tolerance: Tolerance


# Float: ImageNet's ResNet-18 and ResNet-50 with real weights were measured at up to 9e-6 on 500 images. Integer: an
# output step is 1/256, so that rounding moves the mean by at most half a step; the other two bounds lie between what
# these networks gave (variance 0.004 and 0.009, agreement 94 % and up) and what a wrong mean, standard deviation or
# channel order gave (variance from 0.04 up).
_FLOAT = Tolerance(relative_error=5e-5)
_INT8 = Tolerance(unexplained_variance=0.03, mean_error=0.5 / 256, top1_agreement_percent=90.0)

FORMATS: Mapping[str, Format] = {
    row.name: row
    for row in (
        Format("saved_model", "saved_model", "TensorFlow", "to_savedmodel:to_savedmodel", True, False, 4, _FLOAT),
        Format("tflite", "model.tflite", "LiteRT", "to_tflite:to_tflite", False, False, 4, _FLOAT),
        Format("tflite-int8", "model-int8.tflite", "LiteRT", "to_tflite:to_tflite_int8", False, True, 1, _INT8),
        Format("onnx", "model.onnx", "ONNX Runtime", "to_onnx:to_onnx", True, False, 4, _FLOAT),
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


def format_of(path: Path) -> Format:
    """Artifact, verified or not -> the row of the table that names such a file.

    Raises:
        ExportError: The file does not exist, or no format has such a name.
    """
    if not path.exists():
        raise ExportError(f"{path}: no such file or folder")
    name = path.name.removesuffix(UNVERIFIED)
    if path.is_dir():
        return FORMATS["saved_model"]
    if name.endswith(".tflite"):
        return FORMATS["tflite-int8" if name.endswith("-int8.tflite") else "tflite"]
    if name.endswith(".onnx"):
        return FORMATS["onnx"]
    raise ExportError(f"{path}: an artifact is a SavedModel folder, a .tflite or an .onnx file")
