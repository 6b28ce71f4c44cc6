"""Artifact -> the format that its graph has, by the types of its kernels and of what they are multiplied with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_resnet.export.files import IR_FILE, kind_of, onnx_file
from keras_resnet.export.onnx_file import FLOAT16, read_graph
from keras_resnet.export.openvino_core import openvino_core
from keras_resnet.optional import require

_QUANTIZED_INPUT = {"int8": "tflite-int8", "uint8": "tflite-int8", "int16": "tflite-int16x8"}
# Place of the kernel among the inputs of the operations that have one.
_ONNX_KERNELS = {"Conv": 1, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1}
_TFLITE_KERNELS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
_PASSED = {"Transpose", "Reshape", "Identity", "Cast", "Unsqueeze", "Squeeze"}  # between a constant and its reader
_OPENVINO_KERNELS = {"Convolution": 1, "ConvolutionBackpropData": 1, "GroupConvolution": 1, "MatMul": 1}
# In OpenVINO's graphs, the rounding of a kernel stands there too.
_OPENVINO_PASSED = {"Convert", "FakeQuantize", "Multiply", "Reshape", "Subtract", "Transpose"}


def format_in_graph(path: Path) -> str:
    """Artifact -> name of the format that its numbers have; it is not run."""
    prefix = kind_of(path)
    if prefix == "saved_model":
        return prefix
    if prefix == "web":
        return {"onnx": "web-float32", "onnx-int8": "web"}.get(format_in_graph(onnx_file(path)), "onnx-float16")
    kinds = set({"tflite": _tflite_kinds, "onnx": _onnx_kinds, "openvino": _openvino_kinds}[prefix](path))
    # A file of integers may have layers in float, and one of 16-bit weights may have some in float32.
    order = ("tflite-int16x8", f"{prefix}-int8", "tflite-dynamic", f"{prefix}-float16")
    return next((kind for kind in order if kind in kinds), prefix)


def _onnx_kinds(path: Path) -> Iterator[str]:
    graph = read_graph(path)
    makers = {name: node for node in graph.nodes for name in node.outputs}
    for node in graph.nodes:
        place = _ONNX_KERNELS.get(node.operation)
        if place is None or len(node.inputs) <= place:
            continue
        name = node.inputs[place]
        while name in makers and makers[name].operation in _PASSED:
            name = makers[name].inputs[0]
        if name in makers and makers[name].operation == "DequantizeLinear":
            yield "onnx-int8"
        elif graph.constants.get(name) == FLOAT16:
            yield "onnx-float16"


def _openvino_kinds(path: Path) -> Iterator[str]:
    """16-bit kernels are no format here: the float formats' bounds refuse such a file."""
    for node in openvino_core().read_model(path / IR_FILE).get_ops():
        place = _OPENVINO_KERNELS.get(node.get_type_name())
        if place is None:
            continue
        source = node.input_value(place).get_node()
        while source.get_type_name() in _OPENVINO_PASSED:
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Constant" and source.get_element_type().get_type_name() in ("i8", "u8"):
            yield "openvino-int8"


def _tflite_kinds(path: Path) -> Iterator[str]:
    interpreter = require("ai_edge_litert.interpreter", "tflite").Interpreter(
        model_path=str(path), experimental_op_resolver_type=_plain_operations()
    )
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    types = {index: tensor["dtype"].__name__ for index, tensor in tensors.items()}
    operations = interpreter._get_ops_details()  # there is no public way to read operations
    makers = {int(index): operation for operation in operations for index in operation["outputs"]}
    for operation in operations:
        place = _TFLITE_KERNELS.get(operation["op_name"])
        if place is None:
            continue
        index = int(operation["inputs"][place])
        value = int(operation["inputs"][2 if operation["op_name"] == "TRANSPOSE_CONV" else 0])
        source = makers.get(index)
        if source is not None and source["op_name"] == "DEQUANTIZE":  # 16-bit weights, expanded before their use
            index = int(source["inputs"][0])
        if types.get(index) == "float16":
            yield "tflite-float16"
        elif types.get(index) in ("int8", "uint8"):
            yield _QUANTIZED_INPUT.get(types.get(value, ""), "tflite-dynamic")


def _plain_operations() -> Any:
    return require("ai_edge_litert.interpreter", "tflite").OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
