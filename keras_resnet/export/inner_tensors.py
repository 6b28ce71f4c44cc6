"""Artifact -> the values that its runtime computes on the way to the answer."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.export.files import onnx_file
from keras_resnet.export.formats import BROWSER
from keras_resnet.export.microcontroller import open_all_tensors
from keras_resnet.export.openvino_core import openvino_core
from keras_resnet.export.running import IN_BFLOAT16, MICRO, OPENVINO
from keras_resnet.export.runtimes import float_pixels, is_nchw, quantized_values, read_openvino, real_values
from keras_resnet.optional import require

_PRODUCTS = ("Convolution", "ConvolutionBackpropData", "MatMul")  # OpenVINO's names

InnerTensors = Mapping[str, np.ndarray]  # float32, images in order, channels last, by the runtime's own names
Run = Callable[[np.ndarray], InnerTensors]  # pixels uint8 `[N, H, W, C]` -> tensors

OUTPUT = "output of the file"  # key of the tensor that a file of one output answers with

# RoIAlign computes each sample of all boxes with five axes, in gigabytes. No value that is compared has so many.
MOST_AXES = 4


def open_inner(path: Path, runtime: str, colour_order: str = "RGB") -> Run | None:
    """Artifact, its runtime, colour order of its input -> function that computes all its tensors; None for TensorFlow,
    which does not show them.

    For a page, ONNX Runtime computes them.

    The runtimes do not optimise here: every tensor that the file names is computed as the file states it.
    """
    openvino = dict.fromkeys((OPENVINO, IN_BFLOAT16), _open_openvino)  # in float32
    tflite = {"LiteRT": _open_tflite, MICRO: _open_micro}
    opener = {**tflite, **dict.fromkeys(("ONNX Runtime", BROWSER), _open_onnx), **openvino}.get(runtime)
    run = None if opener is None else opener(path)
    return run if run is None or colour_order == "RGB" else lambda pixels: run(pixels[..., ::-1])


def _open_tflite(path: Path) -> Run:
    interpreter = plain_litert(model_path=str(path))

    def compute(values: np.ndarray) -> None:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        interpreter.invoke()

    return _tflite_run(interpreter, compute, interpreter.get_tensor)


def _open_micro(path: Path) -> Run:
    interpreter = open_all_tensors(path.read_bytes())

    def compute(values: np.ndarray) -> None:
        interpreter.set_input(values, 0)
        interpreter.invoke()

    return _tflite_run(
        plain_litert(model_path=str(path)), compute, lambda index: interpreter.GetTensor(index, 0)["tensor_data"]
    )


def plain_litert(**source: Any) -> Any:
    """`model_path` or `model_content` -> LiteRT's interpreter without delegates, which keeps all tensors."""
    litert = require("ai_edge_litert.interpreter", "tflite")
    interpreter = litert.Interpreter(
        **source,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        num_threads=os.cpu_count(),
    )
    interpreter.allocate_tensors()
    return interpreter


def _tflite_run(litert: Any, compute: Callable[[np.ndarray], None], tensor_at: Callable[[int], np.ndarray]) -> Run:
    """LiteRT's interpreter, which knows the tensors' names, and a runtime's two functions -> function for images."""
    given = litert.get_input_details()[0]
    varying = {given["index"]}  # tensors that depend on the image
    for operation in litert._get_ops_details():
        if varying & set(operation["inputs"]):
            varying |= set(operation["outputs"])
    inner = [
        tensor
        for tensor in litert.get_tensor_details()
        if tensor["index"] in varying and 1 < len(tensor["shape"]) <= MOST_AXES
    ]

    def run(pixels: np.ndarray) -> InnerTensors:
        found: dict[str, list[np.ndarray]] = {}
        for image in pixels:
            compute(quantized_values(image[None], given))
            for tensor in inner:
                try:
                    values = real_values(tensor_at(tensor["index"]), tensor)
                except ValueError:  # a tensor that was merged into another one
                    continue
                if values.dtype == np.float32:
                    found.setdefault(f"{tensor['index']}: {tensor['name']}", []).append(values)
        tensors = {name: np.concatenate(values) for name, values in found.items() if len(values) == len(pixels)}
        return _with_output(tensors, [f"{tensor['index']}: {tensor['name']}" for tensor in litert.get_output_details()])

    return run


def _open_onnx(path: Path) -> Run:
    onnx, onnxruntime = require("onnx", "onnx"), require("onnxruntime", "onnx")
    proto = onnx.load(str(onnx_file(path)))
    inputs = {tensor.name for tensor in proto.graph.input} - {tensor.name for tensor in proto.graph.initializer}
    readers: dict[str, set[str]] = {}
    varying = set(inputs)  # tensors that depend on the image
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
        if varying & set(node.input):
            varying |= set(node.output)
    axes = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in onnx.shape_inference.infer_shapes(proto).graph.value_info
    }
    # What is rounded next exists only after the rounding.
    names = [
        name
        for node in proto.graph.node
        if node.op_type != "QuantizeLinear"
        for name in node.output
        if name in varying and readers.get(name) != {"QuantizeLinear"} and axes.get(name, 0) <= MOST_AXES
    ]
    outputs = [tensor.name for tensor in proto.graph.output]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # a fault is an exception; the messages would stand between the lines of a table
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    nchw = is_nchw(tuple(side if isinstance(side, int) else None for side in given.shape))

    def run(pixels: np.ndarray) -> InnerTensors:
        names = [tensor.name for tensor in session.get_outputs()]
        tensors = _inner(names, session.run(None, {given.name: float_pixels(pixels, nchw)}), len(pixels))
        return _with_output(tensors, outputs)

    return run


def _open_openvino(path: Path) -> Run:
    model = read_openvino(path)
    outputs = len(model.outputs)
    varying = {tensor.get_node().get_name() for tensor in model.inputs}  # operations that depend on the image
    inner = []
    for node in model.get_ordered_ops():
        if any(value.get_node().get_name() in varying for value in node.input_values()):
            varying.add(node.get_name())
            inner.append(node)
    for node in inner:
        for output in node.outputs():
            following = [reader.get_node() for reader in output.get_target_inputs()]
            readers = {reader.get_type_name() for reader in following}
            # What is rounded next exists only after the rounding. Where a product is read, OpenVINO 2026.4 adds a wrong
            # bias to the product of a file of integers.
            has_bias = node.get_type_name() in _PRODUCTS and all(_adds_a_constant(each, varying) for each in following)
            axes = output.partial_shape.rank
            is_small = axes.is_static and axes.get_length() <= MOST_AXES
            if is_small and readers not in (set(), {"Result"}, {"FakeQuantize"}) and not has_bias:
                model.add_outputs(output)
    request = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    names = [output.get_node().input_value(0).get_node().get_name() for output in model.outputs]
    nchw = is_nchw(tuple(None if side.is_dynamic else int(side.get_length()) for side in model.inputs[0].partial_shape))

    def run(pixels: np.ndarray) -> InnerTensors:
        answers = request.infer([float_pixels(pixels, nchw)])
        return _with_output(_inner(names, [values.copy() for values in answers.values()], len(pixels)), names[:outputs])

    return run


def _adds_a_constant(node: Any, varying: set[str]) -> bool:
    values = [value.get_node().get_name() for value in node.input_values()]
    return node.get_type_name() == "Add" and len(varying.intersection(values)) == 1


def _with_output(tensors: dict[str, np.ndarray], outputs: Sequence[str]) -> InnerTensors:
    """Tensors, names of the file's outputs -> these tensors, the only output also as `OUTPUT` if it is of floats."""
    only = outputs[0] if len(outputs) == 1 else None
    return {**tensors, OUTPUT: tensors[only]} if only in tensors else tensors


def _inner(names: Sequence[str], tensors: Sequence[np.ndarray], images: int) -> dict[str, np.ndarray]:
    """Names and values of tensors `[N, C, ...]`, number of images -> tensors that have a value for each image."""
    found = {}
    for name, values in zip(names, tensors, strict=True):
        if values.dtype in (np.float16, np.float32) and values.ndim > 1 and len(values) % images == 0:
            found[name] = values = values.astype("float32")
            if values.ndim == 4:  # most have the channels first, but not those behind the last transposition
                found[f"{name}, channels moved last"] = values.transpose(0, 2, 3, 1)
    return found
