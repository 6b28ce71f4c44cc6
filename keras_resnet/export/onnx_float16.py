"""ONNX graph in float32 -> equal graph with weights and arithmetic in float16; inputs and outputs stay float32."""

from collections.abc import Container
from typing import Any

from keras_resnet.optional import require

_KEPT_INPUTS = {"Resize": (1, 2)}  # region and scales, which must be float32


def to_float16(proto: Any, float_nodes: Container[str]) -> None:
    """Changes a graph in place: every node that reads float32 gets float16, except the named nodes and casts.

    A tensor in float16 has the suffix `_float16`. Where both types are read, a Cast makes one from the other.
    """
    onnx = require("onnx", "onnx")
    float32, float16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    graph, make = proto.graph, onnx.helper.make_node
    floats = _tensors_of(onnx.shape_inference.infer_shapes(proto).graph, float32)
    halves = {
        node.name
        for node in graph.node
        if node.op_type != "Cast" and node.name not in float_nodes and floats & set(node.input)
    }
    read_as_float = {output.name for output in graph.output}
    read_as_float |= {name for node in graph.node if node.name not in halves for name in node.input}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    known: set[str] = set()  # tensors that exist in float16 too
    nodes: list[Any] = []
    for node in graph.node:
        if node.name not in halves:
            nodes.append(node)
            continue
        for place, name in enumerate(node.input):
            if name not in floats or place in _KEPT_INPUTS.get(node.op_type, ()):
                continue
            node.input[place] = half = f"{name}_float16"
            if name not in known and name in constants:
                values = onnx.numpy_helper.to_array(constants[name]).astype("float16")
                graph.initializer.append(onnx.numpy_helper.from_array(values, half))
            elif name not in known:
                nodes.append(make("Cast", [name], [half], name=f"{half}_cast", to=float16))
            known.add(name)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name not in floats:
                continue
            node.output[place] = half = f"{name}_float16"
            known.add(name)
            if name in read_as_float:
                nodes.append(make("Cast", [half], [name], name=f"{half}_cast", to=float32))
    del graph.node[:]
    graph.node.extend(nodes)


def _tensors_of(graph: Any, kind: int) -> set[str]:
    """Graph with the types of its tensors, type -> names of the tensors of this type."""
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == kind} | {
        tensor.name for tensor in graph.initializer if tensor.data_type == kind
    }
