"""The table of layouts: for which server, of which artifacts.

`writing` has the functions that write them, so that `keras-resnet layout --help` imports neither NumPy nor Pillow.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Layout(NamedTuple):
    """How a server finds its models."""

    name: str
    title: str  # the server
    kinds: tuple[str, ...]  # what it takes, in the words of `export.files.kind_of`
    start: str | None = None  # command that starts the server on the folder `{out}`


KINDS: Mapping[str, str] = {
    "saved_model": "a SavedModel folder",
    "onnx": "an .onnx file",
    "openvino": "an OpenVINO folder",
    "tflite": "a .tflite file",
}

LAYOUTS: Mapping[str, Layout] = {
    row.name: row
    for row in (
        Layout(
            "tf-serving",
            "TensorFlow Serving",
            ("saved_model",),
            "docker run --rm -p 8501:8501 -v {out}:/models:ro tensorflow/serving "
            "--model_config_file=/models/models.config",
        ),
        Layout(
            "triton",
            "NVIDIA Triton",
            ("onnx", "openvino"),
            "tritonserver --model-repository={out}",
        ),
        Layout(
            "ovms",
            "OpenVINO Model Server",
            ("openvino", "onnx"),  # it would call the input of a TFLite file `serving_default_image:0`
            "docker run --rm -p 8000:8000 -v {out}:/models:ro openvino/model_server --rest_port 8000 "
            "--config_path /models/config.json",
        ),
        Layout("kserve", "KServe", ("onnx", "saved_model")),
        Layout("sagemaker", "Amazon SageMaker", ("saved_model",)),
        Layout("vertex", "Google Vertex AI", ("saved_model",)),
    )
}
