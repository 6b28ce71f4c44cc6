"""Artifact -> the format that its graph has, by the types of its kernels and of what they are multiplied with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_resnet.export.files import is_tflite
from keras_resnet.optional import require

_QUANTIZED_INPUT = {"int8": "tflite-int8", "uint8": "tflite-int8", "int16": "tflite-int16x8"}
# Place of the kernel among the inputs of the operations that have one.
_ONNX_KERNELS = {"Conv": 1, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1}
_TFLITE_KERNELS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
_PASSED = {"Transpose", "Reshape", "Identity", "Cast", "Unsqueeze", "Squeeze"}  # between a constant and its reader


def format_in_graph(path: Path) -> str:
    """SavedModel folder, .tflite or .onnx file -> name of the format that its numbers have; the file is not run."""
    if path.is_dir():
        return "saved_model"
    prefix, read = ("tflite", _tflite_kinds) if is_tflite(path) else ("onnx", _onnx_kinds)
    kinds = set(read(path))
    # A file of integers may have layers in float, and one of 16-bit weights may have some in float32.
    order = ("tflite-int16x8", f"{prefix}-int8", "tflite-dynamic", f"{prefix}-float16")
    return next((kind for kind in order if kind in kinds), prefix)


def _onnx_kinds(path: Path) -> Iterator[str]:
    onnx = require("onnx", "onnx")
    graph = onnx.load(str(path), load_external_data=False).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        place = _ONNX_KERNELS.get(node.op_type)
        if place is None or len(node.input) <= place:
            continue
        name = node.input[place]
        while name in makers and makers[name].op_type in _PASSED:
            name = makers[name].input[0]
        if name in makers and makers[name].op_type == "DequantizeLinear":
            yield "onnx-int8"
        elif types.get(name) == onnx.TensorProto.FLOAT16:
            yield "onnx-float16"


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
