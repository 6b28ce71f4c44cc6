"""ONNX file -> time of each node that ONNX Runtime executes, by the runtime's own trace.

The runtime runs its optimized graph: nodes are fused, renamed and added. The graph of
the file tells what each node stands for: the node has kept its own name, or the name of a tensor.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.benchmark.layers import Layer, layer_name
from keras_resnet.export.runtimes import is_nchw
from keras_resnet.optional import require

_PRODUCTS = ("Conv", "MatMul", "Gemm")  # nodes of a file that multiply; only these have MACs


class OnnxLayers:
    """A `LayerTimer` over a session that writes a trace."""

    def __init__(self, path: Path, pixels: np.ndarray, threads: int):
        onnxruntime = require("onnxruntime", "onnx")
        self._folder = tempfile.TemporaryDirectory()
        optimized = Path(self._folder.name, "optimized.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name, "trace"))
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3  # it warns that the optimized graph is made for this machine
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        [given] = self._session.get_inputs()
        if is_nchw(tuple(side if isinstance(side, int) else None for side in given.shape)):
            pixels = pixels.transpose(0, 3, 1, 2)
        self._feed = {given.name: np.ascontiguousarray(pixels, "float32")}
        self._file = _Graph(path, self._feed[given.name].shape)
        self._optimized = _Graph(optimized)

    def run(self) -> None:
        self._session.run(None, self._feed)

    def layers(self, skip: int) -> list[Layer]:
        trace = json.loads(Path(self._session.end_profiling()).read_text())
        self._folder.cleanup()
        times_ms: dict[str, list[float]] = {}
        nodes: dict[str, dict[str, Any]] = {}  # in the order of execution
        for event in trace:
            if event["cat"] == "Node":
                index = event["args"]["node_index"]
                times_ms.setdefault(index, []).append(event["dur"] / 1e3)
                nodes[index] = event
        return [self._layer(event, min(times_ms[index][skip:])) for index, event in nodes.items()]

    def _layer(self, event: dict[str, Any], ms: float) -> Layer:
        name, arguments = event["name"].removesuffix("_kernel_time"), event["args"]
        node = self._optimized.nodes.get(name)
        origin = None if node is None else self._origin(node)
        [shape] = arguments["output_type_shape"][0].values()
        product = origin is not None and origin.op_type in _PRODUCTS
        traffic_bytes = sum(int(arguments[f"{what}_size"]) for what in ("activation", "output", "parameter"))
        if product:
            elements, kernel_bytes = self._file.kernel(origin)
            others = [int(np.prod(shape)) for given in arguments["input_type_shape"][1:] for shape in given.values()]
            if max(others, default=0) < elements:  # the runtime has packed the kernel and lists it no more
                traffic_bytes += kernel_bytes
        return Layer(
            name=layer_name(name) if node is None else self._name(node, origin),
            operator=arguments["op_name"],
            node=name,
            output_shape=tuple(shape),
            macs=self._file.macs(origin) if product else 0,
            traffic_bytes=traffic_bytes,
            ms=ms,
        )

    def _origin(self, node: Any) -> Any:
        """Executed node -> the file's node that it stands for; of a fused one, the product. None if it was added."""
        found = self._file.nodes.get(_plain(node.name))
        found = found or next((self._file.makers[t] for t in _tensors(node) if t in self._file.makers), None)
        product = next((kind for kind in _PRODUCTS if kind in node.op_type), None)
        if product is None:
            return found if found is not None and found.op_type in node.op_type else None
        kinds = ("Conv",) if product == "Conv" else ("MatMul", "Gemm")
        while found is not None and found.op_type not in kinds:
            found = self._file.makers.get(found.input[0])
        return found

    def _name(self, node: Any, origin: Any) -> str:
        if origin is not None:
            # A node that the converter has rewritten has a name of its own; its kernel keeps the layer's.
            texts = (origin.name, *origin.input[1:2], *origin.output)
            return layer_name(next((text for text in texts if "/" in text), origin.name))
        # What the runtime has added works on a tensor of the file, or on what another node makes.
        tensors = [tensor for tensor in map(_plain, (*node.output, *node.input)) if tensor in self._file.makers]
        before = self._optimized.makers.get(node.input[0])
        if tensors or before is None:
            return layer_name(tensors[0] if tensors else node.name)
        return self._name(before, self._origin(before))


def _plain(name: str) -> str:
    """Name that the runtime gave to a node or tensor -> the file's name in it."""
    return re.sub(r"_token_\d+$", "", name).removeprefix("InsertedPrecisionFreeCast_")


def _tensors(node: Any) -> list[str]:
    """Executed node -> names of the file's tensors that it makes; a node in the blocked layout is named after it."""
    return [_plain(name.removesuffix("_nchwc")) for name in (node.name, *node.output)]


class _Graph:
    """Nodes of a file by their names and by the tensors that they make."""

    def __init__(self, path: Path, image_shape: tuple[int, ...] | None = None):
        """With the shape of its input, sizes are known too."""
        onnx = require("onnx", "onnx")
        proto = onnx.load(str(path))
        self.nodes = {node.name: node for node in proto.graph.node}
        self.makers = {tensor: node for node in proto.graph.node for tensor in node.output}
        self._constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        if image_shape is None:
            return
        for side, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, image_shape, strict=True):
            side.dim_value = size
        del proto.graph.value_info[:]  # shapes of another batch
        for tensor in proto.graph.output:
            tensor.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        self._shapes = dict(_shapes(inferred))

    def macs(self, product: Any) -> int:
        """Conv, MatMul or Gemm -> its multiply-accumulates."""
        outputs, kernel = self._shapes[product.output[0]], self._shapes[product.input[1]]
        channels = outputs[1 if product.op_type == "Conv" else -1]
        return int(np.prod(outputs)) * int(np.prod(kernel)) // channels

    def kernel(self, product: Any) -> tuple[int, int]:
        """Conv, MatMul or Gemm -> elements of its kernel, and bytes in which the file holds them."""
        tensor = product.input[1]
        while tensor in self.makers:  # what makes float numbers of the integers that are stored
            tensor = self.makers[tensor].input[0]
        stored = self._constants.get(tensor)
        if stored is None:
            return 0, 0
        types = require("onnx", "onnx").helper
        elements = int(np.prod(stored.dims))
        return elements, elements * types.tensor_dtype_to_np_dtype(stored.data_type).itemsize


def _shapes(graph: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for tensor in (*graph.value_info, *graph.output):
        yield tensor.name, tuple(side.dim_value for side in tensor.type.tensor_type.shape.dim)
