"""ONNX graph from tf2onnx -> equal graph of operators for which ONNX Runtime has fast kernels."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.optional import require


def simplify(graph: Any) -> None:
    """Changes the graph in place. Unchanged nodes keep the names of their tensors."""
    _gemm_for_dense(graph)
    _padding_into_pooling(graph)
    _softmax_over_last_axis(graph)
    _relu_before_move(graph)


def keep_apart(graph: Any, kept: Callable[[Any], bool]) -> None:
    """Changes an integer graph so that the given nodes stay float in ONNX Runtime too.

    When ONNX Runtime loads a graph, it turns every node between a DequantizeLinear and a QuantizeLinear into integers,
    even if its kernel was not rounded. It does not look past a Clip.
    """
    onnx = require("onnx", "onnx")
    makers = {output: node for node in graph.node for output in node.output}
    lowest = onnx.numpy_helper.from_array(np.finfo("float32").min, "lowest_float")
    for node in [node for node in graph.node if kept(node)]:
        for place, name in enumerate(node.input):
            if name in makers and makers[name].op_type == "DequantizeLinear":
                same = f"{node.name}_input_{place}"
                clip = onnx.helper.make_node("Clip", [name, lowest.name], [same], name=same)
                graph.node.insert(list(graph.node).index(node), clip)
                node.input[place] = same
    if any(lowest.name in node.input for node in graph.node):
        graph.initializer.append(lowest)


def state_sizes(graph: Any) -> None:
    """States height and width of the maps in a graph of any size, as shares of the sides of an earlier map.

    ONNX Runtime adds the shortcut of a block within the convolution before it, and computes the ReLU there too, only if
    it knows that both terms have one shape. By itself, it does not see that a dilated convolution keeps the size. To
    the additions of DeepLabV3, it therefore brought both terms into another layout and back.
    """
    onnx = require("onnx", "onnx")
    known: dict[str, tuple[_Side, _Side]] = {}
    for node in graph.node:
        output = node.output[0]
        if node.op_type in ("Conv", "MaxPool"):
            settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
            if len(settings.get("kernel_shape", ())) != 2:
                continue
            earlier = known.get(node.input[0], (None, None))
            height, width = (_side_after(settings, axis, side) for axis, side in enumerate(earlier))
            known[output] = height or _Side(f"height of {output}"), width or _Side(f"width of {output}")
        elif node.op_type in ("Relu", "Add"):
            terms = {known.get(name) for name in node.input}
            if len(terms) == 1 and (same := terms.pop()):
                known[output] = same
    outputs = {tensor.name for tensor in graph.output}
    for name, sides in known.items():
        if name not in outputs:
            shape = [None, None, *map(str, sides)]
            graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))


class _Side(NamedTuple):
    """Height or width of a map: one of an earlier map / product of the strides since, rounded up."""

    earlier: str
    stride: int = 1

    def __str__(self) -> str:
        return f"{self.earlier} / {self.stride}"


def _side_after(settings: dict[str, Any], axis: int, given: _Side | None) -> _Side | None:
    """Attributes of a convolution or pooling, 0 for the height and 1 for the width, this side of its input -> of its
    output; None: it is not known, or there is other padding than the kernel's span less one.
    """
    if given is None or settings.get("ceil_mode"):
        return None
    spanned = (settings["kernel_shape"][axis] - 1) * settings.get("dilations", (1, 1))[axis]
    pads = settings.get("pads", (0, 0, 0, 0))
    is_same = settings.get("auto_pad") in (b"SAME_UPPER", b"SAME_LOWER")
    if not is_same and pads[axis] + pads[axis + 2] != spanned:
        return None
    return _Side(given.earlier, given.stride * settings.get("strides", (1, 1))[axis])


def remove_unused_constants(graph: Any) -> None:
    """Removes constants that no node reads, as `simplify` leaves them. ONNX Runtime would warn of each."""
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in used:
            del graph.initializer[place]


def _gemm_for_dense(graph: Any) -> None:
    """MatMul and Add of a constant -> Gemm, because ONNX Runtime would compute an integer MatMul in float."""
    onnx = require("onnx", "onnx")
    constants = _constants(graph)
    for product, addition in _pairs(graph, "MatMul", "Add"):
        kernel, bias = (constants.get(name) for name in (product.input[1], _other(addition, product.output[0])))
        if kernel is None or bias is None or (kernel.ndim, bias.ndim) != (2, 1):
            continue
        inputs = [*product.input, _other(addition, product.output[0])]
        gemm = onnx.helper.make_node("Gemm", inputs, addition.output, name=product.name)
        graph.node.insert(list(graph.node).index(product), gemm)
        graph.node.remove(product)
        graph.node.remove(addition)


def _padding_into_pooling(graph: Any) -> None:
    """ReLU, Pad with zeros, MaxPool -> ReLU, MaxPool that pads with the lowest value: ReLU gives nothing below 0."""
    onnx = require("onnx", "onnx")
    constants = _constants(graph)
    makers = {output: node for node in graph.node for output in node.output}
    for padding, pooling in _pairs(graph, "Pad", "MaxPool"):
        modes = {attribute.name: attribute.s for attribute in padding.attribute}
        maker = makers.get(padding.input[0])
        names = {attribute.name for attribute in pooling.attribute}
        amounts = constants.get(padding.input[1])
        values = constants.get(padding.input[2], np.ones(1)) if len(padding.input) > 2 else np.zeros(1)
        if (
            maker is None
            or maker.op_type != "Relu"
            or amounts is None
            or len(amounts) != 8
            or names & {"pads", "auto_pad"}
        ):
            continue
        if modes.get("mode", b"constant") != b"constant" or values.any() or amounts[[0, 1, 4, 5]].any():
            continue
        pooling.input[0] = padding.input[0]
        pooling.attribute.append(onnx.helper.make_attribute("pads", amounts[[2, 3, 6, 7]].tolist()))
        graph.node.remove(padding)


def _softmax_over_last_axis(graph: Any) -> None:
    """Softmax of another axis, Transpose that makes this axis the last -> Transpose, Softmax of the last axis.

    ONNX Runtime would transpose the values before and after its own Softmax: 15 ms instead of 3 for 224 x 224 pixels of
    21 classes.
    """
    onnx = require("onnx", "onnx")
    for softmax, transpose in _pairs(graph, "Softmax", "Transpose"):
        [axis] = [attribute.i for attribute in softmax.attribute if attribute.name == "axis"] or [-1]
        [order] = [list(attribute.ints) for attribute in transpose.attribute]
        if axis % len(order) != order[-1] or order[-1] == len(order) - 1:
            continue
        given, moved = softmax.input[0], softmax.output[0]
        first = onnx.helper.make_node("Transpose", [given], [moved], name=transpose.name, perm=order)
        last = onnx.helper.make_node("Softmax", [moved], transpose.output, name=softmax.name, axis=-1)
        place = list(graph.node).index(softmax)
        graph.node.remove(softmax)
        graph.node.remove(transpose)
        graph.node.insert(place, first)
        graph.node.insert(place + 1, last)


def _relu_before_move(graph: Any) -> None:
    """Reshape or Transpose, ReLU -> ReLU, Reshape or Transpose: ReLU is fused only with what stands right before it.

    tf2onnx moves the channels of a map of one pixel before the ReLU behind an addition.
    """
    onnx = require("onnx", "onnx")
    for kind in ("Reshape", "Transpose"):
        for move, relu in _pairs(graph, kind, "Relu"):
            rectified = f"{relu.output[0]}__before_{kind}"
            first = onnx.helper.make_node("Relu", [move.input[0]], [rectified], name=relu.name)
            graph.node.insert(list(graph.node).index(move), first)
            graph.node.remove(relu)
            move.input[0], move.output[0] = rectified, relu.output[0]


def _pairs(graph: Any, first: str, second: str) -> Iterator[tuple[Any, Any]]:
    """-> pairs of nodes: a node of the first operator and its only reader, a node of the second operator."""
    outputs = {output.name for output in graph.output}
    for node in [node for node in graph.node if node.op_type == first]:
        readers = [other for other in graph.node if node.output[0] in other.input]
        if len(readers) == 1 and readers[0].op_type == second and node.output[0] not in outputs:
            yield node, readers[0]


def _constants(graph: Any) -> dict[str, np.ndarray]:
    onnx = require("onnx", "onnx")
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _other(node: Any, name: str) -> str:
    """Node of two inputs, one input -> the other input."""
    return str(next(given for given in node.input if given != name))
