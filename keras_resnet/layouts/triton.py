"""Artifact -> a model in a repository of NVIDIA Triton: `config.pbtxt`, class names, version folder."""

from pathlib import Path

from keras_resnet.answers import PROBABILITIES
from keras_resnet.errors import ExportError
from keras_resnet.export.runtimes import Tensor
from keras_resnet.export.tflite_metadata import LABELS_FILE, labels_text
from keras_resnet.layouts.given import Given, copy_artifact

LARGEST_BATCH = 16  # images that Triton may put together, as `predict` does
BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}
_TYPES = {"float32": "FP32", "uint8": "UINT8", "int8": "INT8", "int32": "INT32", "tensor(int64)": "INT64"}


def write_version(given: Given, folder: Path) -> None:
    """ONNX file or OpenVINO folder, new folder -> its copy in it, under the name that Triton looks for."""
    copy_artifact(given, folder if given.kind == "openvino" else folder / "model.onnx")


def files_beside(given: Given) -> dict[str, str]:
    """-> files beside the version folders: the configuration, and the names of the classes if there are any."""
    labels = _labels(given)
    return {"config.pbtxt": configuration(given), **({LABELS_FILE: labels} if labels else {})}


def configuration(given: Given) -> str:
    """-> `ModelConfig` as a text of Protocol Buffers.

    Triton puts the images of several requests together, up to `LARGEST_BATCH`, if the batch size of the file is free.

    Raises:
        ExportError: The file has a type of numbers that Triton does not know.
    """
    runtime = given.artifact.runtime
    tensors = {**runtime.inputs, **runtime.outputs}
    in_batches = all(tensor.shape[:1] == (None,) for tensor in tensors.values())
    lines = [
        f'name: "{given.name}"',
        f'backend: "{BACKENDS[given.kind]}"',
        f"max_batch_size: {LARGEST_BATCH if in_batches else 0}",
        *(f"input {_tensor(name, tensor, in_batches)}" for name, tensor in runtime.inputs.items()),
    ]
    for name, tensor in runtime.outputs.items():
        # Triton's extension for classification reads them; it is for one score of each class.
        labels = f' label_filename: "{LABELS_FILE}"' if name == PROBABILITIES and _labels(given) else ""
        lines.append(f"output {_tensor(name, tensor, in_batches, labels)}")
    return "\n".join([*lines, *(["dynamic_batching { }"] if in_batches else [])]) + "\n"


def _labels(given: Given) -> str | None:
    is_classifier = [len(tensor.shape) for tensor in given.artifact.runtime.outputs.values()] == [2]
    return labels_text(given.artifact.class_names) if is_classifier and given.artifact.class_names else None


def _tensor(name: str, tensor: Tensor, in_batches: bool, more: str = "") -> str:
    """Name, shape and type of an input or output -> its part of the configuration."""
    if tensor.dtype not in _TYPES:
        raise ExportError(f"{name} has the type {tensor.dtype}. Triton's layout knows {', '.join(_TYPES)}")
    sides = [-1 if side is None else side for side in tensor.shape[1 if in_batches else 0 :]]
    # The configuration has no shape without sides: one number for each image is stated as a row of one number.
    shape = f"dims: {sides}" if sides else "dims: [1] reshape { shape: [] }"
    return f'{{ name: "{name}" data_type: TYPE_{_TYPES[tensor.dtype]} {shape}{more} }}'
