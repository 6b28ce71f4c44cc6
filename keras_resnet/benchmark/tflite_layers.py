"""TFLite file -> time of each layer, each cut out of the file and run by LiteRT as a file of its own.

LiteRT's Python package tells the time of no operator: XNNPACK takes the whole graph as one. What is timed is the
runtime's own kernel, on the tensors of a real inference; what it can't show is what the runtime might do across a cut.
XNNPACK takes a padding into the convolution behind it, so these two stay together.

The other way, to cut after each layer and to take differences between ever longer files, gives small differences of
large times: on a busy machine, ResNet-18's layers of 2.2 ms came out between -22 and +17 ms. Layers that are cut out
were within 2 %.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.benchmark.layers import Layer, layer_name
from keras_resnet.optional import require
from keras_resnet.quiet import quiet_stderr

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


class TfliteLayers:
    """A `LayerTimer` over the pieces of one file."""

    def __init__(self, path: Path, pixels: np.ndarray, threads: int):
        graph = _Graph(path.read_bytes())
        [self._given] = graph.inputs
        self._pixels = pixels.astype(graph.dtype(self._given))
        tensors = {self._given: self._pixels}
        with quiet_stderr():
            self._pieces = [_Piece(graph, operators, tensors, threads) for operators in _pieces(graph)]
        last_reader = {tensor: piece for piece in self._pieces for tensor in piece.inputs}
        for piece in self._pieces:
            piece.read_last = [tensor for tensor in piece.inputs if last_reader[tensor] is piece]

    def run(self) -> None:
        tensors = {self._given: self._pixels}  # tensors that are still to be read
        for piece in self._pieces:
            tensors.update(piece.run(tensors))
            for tensor in piece.read_last:
                del tensors[tensor]

    def layers(self, skip: int) -> list[Layer]:
        return [piece.layer(skip) for piece in self._pieces]


class _Graph:
    """The only subgraph of a file, as objects."""

    def __init__(self, content: bytes):
        self._schema = require("ai_edge_litert.schema_py_generated", "tflite")
        self._model = self._schema.ModelT.InitFromPackedBuf(bytearray(content))
        [graph] = self._model.subgraphs
        self.operators: list[Any] = graph.operators
        self.tensors: list[Any] = graph.tensors
        self.inputs = [int(tensor) for tensor in graph.inputs]
        self.outputs = [int(tensor) for tensor in graph.outputs]
        signatures = self._model.signatureDefs or []
        self._output_names = {
            int(output.tensorIndex): output.name.decode() for signature in signatures for output in signature.outputs
        }
        self._kinds = {number: name for name, number in vars(self._schema.BuiltinOperator).items()}
        self._types = {number: name for name, number in vars(self._schema.TensorType).items()}

    def kind(self, operator: Any) -> str:
        code = self._model.operatorCodes[operator.opcodeIndex]
        return str(self._kinds[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def dtype(self, tensor: int) -> np.dtype:
        return np.dtype(self._types[self.tensors[tensor].type].lower())

    def shape(self, tensor: int) -> tuple[int, ...]:
        shape = self.tensors[tensor].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def name(self, tensor: int) -> str:
        return str(self._output_names.get(tensor) or self.tensors[tensor].name.decode())

    def constant_bytes(self, tensor: int) -> int:
        """-> size of what the file holds for that tensor; zero for an activation."""
        data = self._model.buffers[self.tensors[tensor].buffer].data
        return 0 if data is None else len(data)

    def read_by(self, operators: Sequence[Any]) -> list[int]:
        """-> tensors that these operators read, without the missing ones."""
        return list(dict.fromkeys(int(t) for operator in operators for t in operator.inputs if t >= 0))

    def unpacks(self, operator: Any) -> bool:
        """-> whether it reads only constants, as an operator does that unpacks float16 weights."""
        return all(self.constant_bytes(tensor) for tensor in self.read_by([operator]))

    def cut(self, operators: Sequence[Any], inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """-> file with only these operators and the constants that they read; tensors keep their numbers."""
        schema, model = self._schema, self._model
        buffers = {self.tensors[tensor].buffer for tensor in self.read_by(operators)}
        piece = schema.ModelT(
            version=model.version,
            operatorCodes=model.operatorCodes,
            buffers=[buffer if i in buffers else schema.BufferT() for i, buffer in enumerate(model.buffers)],
            subgraphs=[
                schema.SubGraphT(
                    tensors=self.tensors,
                    inputs=np.asarray(inputs, "int32"),
                    outputs=np.asarray(outputs, "int32"),
                    operators=list(operators),
                )
            ],
        )
        builder = require("flatbuffers", "tflite").Builder()
        builder.Finish(piece.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _pieces(graph: _Graph) -> Iterator[list[Any]]:
    """-> operators that are timed together: one each, with the padding that a convolution takes in.

    What only unpacks constants goes with each of its readers.
    """
    held: dict[int, Any] = {}  # by the tensor that it makes, an operator that goes with its reader
    for operator in graph.operators:
        output = int(operator.outputs[0])
        readers = [other for other in graph.operators if output in other.inputs]
        if graph.unpacks(operator) or (
            graph.kind(operator) == "PAD" and [graph.kind(reader) in _CONVOLUTIONS for reader in readers] == [True]
        ):
            held[output] = operator
        else:
            yield [*(held[tensor] for tensor in graph.read_by([operator]) if tensor in held), operator]


class _Piece:
    """Operators of one layer, opened as a file of their own.

    A layer inside a network finds its inputs in the cache, and the memory of its output, which was another tensor's;
    its weights it does not find there. So both are touched before each run, and there is but one run at a time.
    On one thread the layers of ResNet-50 came to 96 % of the whole file's CPU time, those in integers to 99 %.
    """

    def __init__(self, graph: _Graph, operators: list[Any], tensors: dict[int, np.ndarray], threads: int):
        """`tensors` has what this piece reads, and gets what it makes."""
        read, made = graph.read_by(operators), [int(t) for operator in operators for t in operator.outputs]
        rest = [operator for operator in graph.operators if operator not in operators]
        left = {*graph.read_by(rest), *graph.outputs}
        self.inputs = [tensor for tensor in read if tensor not in made and not graph.constant_bytes(tensor)]
        self.read_last: list[int] = []
        self._outputs = [tensor for tensor in made if tensor in left]
        content = graph.cut(operators, self.inputs, self._outputs)
        interpreter = require("ai_edge_litert.interpreter", "tflite").Interpreter
        self._interpreter = interpreter(model_content=content, num_threads=threads)
        for tensor in self.inputs:
            self._interpreter.resize_tensor_input(tensor, tensors[tensor].shape, strict=False)
        self._interpreter.allocate_tensors()
        self._times_ms: list[float] = []
        tensors.update(self.run(tensors))
        self._times_ms.clear()
        output = self._outputs[-1]
        named = (
            self.inputs[0] if graph.name(output).startswith("tfl.") else output
        )  # the converter added an output named tfl.
        computing = [operator for operator in operators if not graph.unpacks(operator)]
        self._layer = Layer(
            name=layer_name(graph.name(named)),
            operator=", ".join(map(graph.kind, computing)),
            node=graph.name(output),
            output_shape=tensors[output].shape,
            macs=_macs(graph, computing[-1], tensors[output].size),
            traffic_bytes=sum(tensors[tensor].nbytes for tensor in (*self.inputs, *self._outputs))
            + sum(map(graph.constant_bytes, read)),
            ms=0.0,
        )

    def run(self, tensors: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Tensors by number, with its inputs -> its outputs."""
        for tensor in self._outputs:
            self._interpreter.get_tensor(tensor)
        for tensor in self.inputs:
            self._interpreter.set_tensor(tensor, tensors[tensor])
        start = time.perf_counter_ns()
        self._interpreter.invoke()
        self._times_ms.append((time.perf_counter_ns() - start) / 1e6)
        return {tensor: self._interpreter.get_tensor(tensor) for tensor in self._outputs}

    def layer(self, skip: int) -> Layer:
        return replace(self._layer, ms=min(self._times_ms[skip:]))


def _macs(graph: _Graph, operator: Any, outputs: int) -> int:
    """Operator, elements that it makes -> multiply-accumulates."""
    kind = graph.kind(operator)
    if kind not in (*_CONVOLUTIONS, "FULLY_CONNECTED"):
        return 0
    kernel = graph.shape(int(operator.inputs[1]))  # [out, h, w, in], depthwise [1, h, w, out]; dense [out, in]
    return outputs * int(np.prod(kernel[1:3] if kind == "DEPTHWISE_CONV_2D" else kernel[1:]))
