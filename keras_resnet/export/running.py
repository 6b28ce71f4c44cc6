"""How an artifact is run where a caller wants it otherwise than its format says: another runtime, other numbers."""

from dataclasses import replace
from typing import NamedTuple

from keras_resnet.errors import ExportError
from keras_resnet.export.formats import BFLOAT16, Format

OPENVINO, IN_BFLOAT16, MICRO = "OpenVINO", "OpenVINO in bfloat16", "TensorFlow Lite Micro"
RUNTIME_MODULES = {  # what is imported to run an artifact
    "TensorFlow": "tensorflow",
    "LiteRT": "ai_edge_litert.interpreter",
    "ONNX Runtime": "onnxruntime",
    OPENVINO: "openvino",
    IN_BFLOAT16: "openvino",
    MICRO: "tflite_micro",
}
RUNTIMES, PRECISIONS = ("openvino", "tflite-micro"), ("float32", "bfloat16")


class Running(NamedTuple):
    """How an artifact is run."""

    runtime: str | None = None  # None: its format's own; "openvino" runs ONNX files too, "tflite-micro" tflite-int8
    precision: str | None = None  # in which OpenVINO computes what a file holds in float32. None: float32

    def of(self, row: Format) -> Format:
        """Row of the table -> row of an artifact that is run so.

        Raises:
            ExportError: The runtime can't run this format, or has no such precision.
        """
        if self.runtime not in (None, *RUNTIMES) or self.precision not in (None, *PRECISIONS):
            raise ExportError(
                f"`runtime` (--runtime) must be {', '.join(RUNTIMES)} or left out, and `precision` (--precision) must "
                f"be one of {', '.join(PRECISIONS)} or left out. Received: {self.runtime} and {self.precision}"
            )
        if self.runtime == "tflite-micro":
            if row.name != "tflite-int8":
                raise ExportError(
                    "`runtime` (--runtime) tflite-micro is for tflite-int8 files: a microcontroller computes in "
                    f"integers. Received: {row.name}, with {row.numbers} in it. Export the network as tflite-int8"
                )
            row = replace(row, runtime=MICRO, extra="micro", modules=("ai_edge_litert", "tflite_micro"))
        if self.runtime == "openvino":
            if row.runtime not in (OPENVINO, "ONNX Runtime") or row.verified_in:
                raise ExportError(
                    "`runtime` (--runtime) openvino is for ONNX files, which OpenVINO runs too. "
                    f"Received: {row.name}, which only {row.runtime} runs"
                )
            row = replace(row, runtime=OPENVINO, extra="openvino")
        if self.precision is not None and row.runtime != OPENVINO:
            raise ExportError(
                "`precision` (--precision) is for OpenVINO: give an OpenVINO folder, or an ONNX file and --runtime "
                f"openvino. Received: {row.name}, which {row.runtime} runs"
            )
        if self.precision == "bfloat16":
            tolerance = row.tolerance if row.bytes_per_parameter == 1 else BFLOAT16
            row = replace(row, runtime=IN_BFLOAT16, tolerance=tolerance)
        return row


AS_WRITTEN = Running()
