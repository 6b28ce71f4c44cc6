"""Folded model -> OpenVINO folder of `model.xml` and `model.bin`, any batch, by way of an ONNX file."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_resnet.export.description import properties_of
from keras_resnet.export.dilated import in_parts
from keras_resnet.export.files import IR_FILE
from keras_resnet.export.ir_file import set_properties
from keras_resnet.export.ir_roundings import remove_roundings
from keras_resnet.export.job import Job
from keras_resnet.export.runtimes import read_openvino
from keras_resnet.export.to_onnx import INT_WEIGHT_STEPS, has_vnni, write_float32, write_int8
from keras_resnet.optional import require

# For 2048 channels of 28x28 pixels, the sum of 1x1 convolutions takes 0.92 of the time of a kernel with rate 12, and
# 0.74 with rate 24; in bfloat16, for which OpenVINO 2026.4 has no fast convolution of such rates, 0.20 and 0.10.
LARGEST_SHARE = 0.6


def to_openvino(job: Job, folder: Path) -> None:
    """Folded model -> folder in float32."""
    model = in_parts(job.model, LARGEST_SHARE)
    _convert(job, folder, lambda path: write_float32(job, path, model), lambda network: None)


def to_openvino_int8(job: Job, folder: Path) -> None:
    """Quantized model -> folder with the integers of `onnx-int8`, and fewer roundings.

    OpenVINO computes with kernels of uint8 in float32. Without VNNI, only kernels of 7 bits are exact.
    """
    kind = "int8" if has_vnni() else "int7"
    learned = job.quantized(INT_WEIGHT_STEPS[kind]).is_learned
    _convert(job, folder, lambda path: write_int8(job, path, kind), lambda network: remove_roundings(network, learned))


def _convert(job: Job, folder: Path, write_onnx: Callable[[Path], None], change: Callable[[Any], None]) -> None:
    """Job, functions that write its ONNX file and change the network which OpenVINO reads from it -> folder."""
    openvino = require("openvino", "openvino")
    with tempfile.TemporaryDirectory(dir=job.scratch) as scratch:
        source = Path(scratch, "model.onnx")
        write_onnx(source)
        model = read_openvino(source)
        change(model)
        model.set_friendly_name(job.model.name)
        set_properties(model, properties_of(job.description))
        folder.mkdir()
        openvino.save_model(model, folder / IR_FILE, compress_to_fp16=False)
