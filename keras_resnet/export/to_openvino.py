"""Folded model -> OpenVINO folder of `model.xml` and `model.bin`, any batch, by way of an ONNX file."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from keras_resnet.export.description import properties_of
from keras_resnet.export.files import IR_FILE
from keras_resnet.export.ir_file import set_properties
from keras_resnet.export.job import Job
from keras_resnet.export.to_onnx import to_onnx, to_onnx_int8
from keras_resnet.optional import require


def to_openvino(job: Job, folder: Path) -> None:
    """Folded model -> folder in float32."""
    _convert(job, folder, to_onnx)


def to_openvino_int8(job: Job, folder: Path) -> None:
    """Quantized model -> folder with the integers of `onnx-int8`, which OpenVINO computes in 8 bits."""
    _convert(job, folder, to_onnx_int8)


def _convert(job: Job, folder: Path, write_onnx: Callable[[Job, Path], None]) -> None:
    openvino = require("openvino", "openvino")
    with tempfile.TemporaryDirectory(dir=job.scratch) as scratch:
        source = Path(scratch, "model.onnx")
        write_onnx(job, source)
        # `convert_model` gives equal graphs, and would report the conversion to Intel.
        model = openvino.Core().read_model(source)
        model.set_friendly_name(job.model.name)
        set_properties(model, properties_of(job.description))
        folder.mkdir()
        openvino.save_model(model, folder / IR_FILE, compress_to_fp16=False)
