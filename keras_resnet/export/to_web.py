"""Folded model -> folder with a page that runs the network in a browser: the page, the network, and its runtime."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from keras_resnet.errors import ExportError
from keras_resnet.export.description import asset_files
from keras_resnet.export.files import NETWORK_FILE
from keras_resnet.export.job import Job
from keras_resnet.export.to_onnx import to_onnx, write_int8
from keras_resnet.export.web_folder import programs
from keras_resnet.export.web_runtime import write_runtime

# A browser multiplies bytes exactly, whatever their signs. uint8 kernels are exact in ONNX Runtime too, on any CPU.
INT_WEIGHTS = "uint8"


def to_web(job: Job, folder: Path) -> None:
    """Quantized model -> folder with the network of `onnx-int8`."""
    _write(job, folder, partial(write_int8, kind=INT_WEIGHTS))


def to_web_float32(job: Job, folder: Path) -> None:
    """Folded model -> folder with the network of `onnx`."""
    _write(job, folder, to_onnx)


def _write(job: Job, folder: Path, write_onnx: Callable[[Job, Path], None]) -> None:
    if job.contract is None or job.description["input"]["size"][2] != 3:
        raise ExportError(
            f"{job.row.name} needs a network that takes {job.task.takes}, which the page makes of pictures. Received: "
            f"an input of {job.description['input']['size']}. The format onnx holds this network"
        )
    if job.options.raw_heads:
        raise ExportError(
            f"{job.row.name} must be exported without `raw_heads` (--raw-heads): the page shows boxes. Received: "
            "raw_heads=True"
        )
    folder.mkdir()
    write_runtime(job.options.web_runtime, folder, job.scratch)
    for name, content in programs().items():
        (folder / name).write_text(content, encoding="utf-8")
    asset_files(folder, job.description)
    write_onnx(job, folder / NETWORK_FILE)
