"""Readers of finished files that owe nothing to this package: what a TFLite or ONNX file holds, and what it answers."""

from collections import Counter
from typing import NamedTuple

import numpy as np


class Tensor(NamedTuple):
    """One tensor of a TFLite file."""

    dtype: str
    shape: tuple
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int
    values: np.ndarray | None  # of a constant

    def real_values(self):
        """-> the constant in floating point."""
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        scales, zero_points = (
            part.reshape(shape) if len(part) > 1 else part for part in (self.scales, self.zero_points)
        )
        return (self.values.astype("float64") - zero_points) * scales

    def limits(self):
        """-> the least and the greatest number that its integers can stand for."""
        info = np.iinfo(self.dtype)
        return tuple((np.array([info.min, info.max]) - self.zero_points[0]) * self.scales[0])


class Operator(NamedTuple):
    """One operator of a TFLite file."""

    name: str
    activation: str | None  # that is fused with it
    inputs: tuple
    outputs: tuple


def tflite_operators(path):
    """TFLite file -> its operators, in order; fails where there is more than one graph, or an operator not built in."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    dtypes = {value: key.lower() for key, value in vars(schema.TensorType).items() if isinstance(value, int)}
    fused = {value: key for key, value in vars(schema.ActivationFunctionType).items() if isinstance(value, int)}
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    [graph] = model.subgraphs
    assert all(code.customCode is None for code in model.operatorCodes), "a custom or Flex operator"

    def tensor(index):
        it, quantization = graph.tensors[index], graph.tensors[index].quantization
        data, dtype = model.buffers[it.buffer].data, dtypes[it.type]
        empty = np.array([])
        scales, zero_points = (
            empty if quantization is None or part is None else np.array(part)
            for part in ((quantization.scale, quantization.zeroPoint) if quantization else (None, None))
        )
        shape = () if it.shape is None else tuple(it.shape)
        values = None if data is None or not len(data) else np.frombuffer(bytes(data), dtype).reshape(shape)
        return Tensor(dtype, shape, scales, zero_points, quantization.quantizedDimension if quantization else 0, values)

    tensors = [tensor(index) for index in range(len(graph.tensors))]
    operators = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        activation = getattr(operator.builtinOptions, "fusedActivationFunction", None)
        operators.append(
            Operator(
                names[max(code.builtinCode, code.deprecatedBuiltinCode)],
                None if activation is None else fused[activation],
                tuple(tensors[index] for index in operator.inputs if index >= 0),
                tuple(tensors[index] for index in operator.outputs),
            )
        )
    return operators


def counted(operators):
    """Operators of TFLite, or nodes of ONNX -> how many there are of each kind."""
    return Counter(getattr(operator, "op_type", None) or operator.name for operator in operators)


def run_tflite(path, pixels):
    """TFLite file, pixels uint8 `[N, H, W, C]` -> probabilities, one image at a time, through its signature."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path)).get_signature_runner("serving_default")
    given, answer = run.get_input_details()["image"], run.get_output_details()["probabilities"]
    stored = np.concatenate([run(image=image[None].astype(given["dtype"]))["probabilities"] for image in pixels])
    if answer["dtype"] == np.float32:
        return stored
    scale, zero_point = answer["quantization"]
    return (stored.astype("float32") - zero_point) * scale


def run_onnx(path, pixels):
    """ONNX file, pixels uint8 `[N, H, W, C]` -> probabilities; they go in as they are laid out in the file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pixels = pixels.astype("float32")
    if session.get_inputs()[0].shape[1] == pixels.shape[3]:
        pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return session.run(["probabilities"], {"image": pixels})[0]


def run_savedmodel(path, pixels):
    """SavedModel folder, pixels uint8 `[N, H, W, C]` -> probabilities."""
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    return module.signatures["serving_default"](image=tf.constant(pixels, tf.float32))["probabilities"].numpy()


def run(path, pixels):
    """Artifact, pixels uint8 `[N, H, W, C]` -> probabilities `[N, classes]`."""
    return {".tflite": run_tflite, ".onnx": run_onnx, "": run_savedmodel}[path.suffix](path, pixels)


class OnnxGraph:
    """An ONNX file: its nodes, its constants, and which node makes a tensor."""

    def __init__(self, path):
        import onnx

        self.proto = onnx.load(str(path))
        self.nodes = list(self.proto.graph.node)
        self.constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self.proto.graph.initializer}
        self.makers = {output: node for node in self.nodes for output in node.output}

    @property
    def opset(self):
        return {entry.domain: entry.version for entry in self.proto.opset_import}[""]

    @property
    def input_shape(self):
        dims = self.proto.graph.input[0].type.tensor_type.shape.dim
        return [dim.dim_param or dim.dim_value for dim in dims]

    def of_kind(self, kind):
        return [node for node in self.nodes if node.op_type == kind]

    def stored(self, tensor):
        """Tensor that a DequantizeLinear makes of constants -> (integers, scales, zero points)."""
        node = self.makers[tensor]
        assert node.op_type == "DequantizeLinear"
        return tuple(self.constants[name] for name in node.input)
