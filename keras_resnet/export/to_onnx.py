"""Folded model -> ONNX, any batch: float32, float16 weights, or 8-bit integers (QDQ)."""

import contextlib
import gc
import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.answers import IMAGE
from keras_resnet.boxes import suppression_in_one_operation
from keras_resnet.detection_layers.base import BoxLayer
from keras_resnet.export.dilated import in_one_operation
from keras_resnet.export.fold import ConstantPadding2D
from keras_resnet.export.job import Job
from keras_resnet.export.onnx_float16 import to_float16
from keras_resnet.export.onnx_graph import (
    keep_apart,
    remove_unused_constants,
    reverse_channels,
    simplify,
    state_sizes,
)
from keras_resnet.export.quantize import Quantized
from keras_resnet.export.to_savedmodel import serving_function
from keras_resnet.graph import consumers
from keras_resnet.optional import require

# From opset 18 on, tf2onnx 1.17 turns the global average pool into ReduceMean with a second Transpose.
OPSET = 17

INT_WEIGHT_STEPS = {"int8": 127, "uint8": 127, "int7": 63}  # number of steps on either side of zero
_PRODUCTS = ("MatMul", "Gemm")
# They give values that they read, or values between these.
_MOVES = {"Gather", "MaxPool", "Pad", "Reshape", "Resize", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
VNNI_FLAGS = {"avx512_vnni", "avx_vnni", "asimddp", "i8mm"}  # including Arm's equivalents


def to_onnx(job: Job, path: Path) -> None:
    """Folded model -> file in float32."""
    write_float32(job, path, job.model)


def write_float32(job: Job, path: Path, model: keras.Model) -> None:
    """Model to write -> file in float32."""
    proto = _proto(model, job)
    if job.row.any_size:
        state_sizes(proto.graph)
    _save(proto, path)


def to_onnx_float16(job: Job, path: Path) -> None:
    """Folded model -> file with float16 weights and arithmetic, float32 input and output, and boxes in float32."""
    proto = _proto(job.model, job)
    to_float16(proto, set(_box_nodes(proto, job.model)))
    _save(proto, path)


def to_onnx_int8(job: Job, path: Path) -> None:
    """Quantized model -> QDQ file, with kernels of the type that the options name.

    On x86 without VNNI, the product of uint8 and int8 saturates. There, uint8 weights are exact, and int7 weights
    ("reduce_range") are fast but less accurate.
    """
    write_int8(job, path, job.options.int_weights or ("int8" if has_vnni() else "uint8"))


def write_int8(job: Job, path: Path, kind: str) -> None:
    """Quantized model, type of its kernels -> QDQ file: weights per channel, activations uint8, float32 pixels and
    probabilities. The logits and the softmax stay float.
    """
    steps = INT_WEIGHT_STEPS[kind]
    quantized = job.quantized(steps)
    quantization = require("onnxruntime.quantization", "onnx")
    with tempfile.TemporaryDirectory(dir=job.scratch) as folder:
        source = Path(folder, "float.onnx")
        proto = _proto(quantized.model, job)
        _save(proto, source)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it would recommend a preprocessing step that was already done
        try:
            quantization.quantize_static(
                str(source),
                str(path),
                _NoImages(quantized.model.inputs[0].shape[1:], job.row.layout),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QUInt8 if kind == "uint8" else quantization.QuantType.QInt8,
                nodes_to_exclude=list(_float_nodes(proto, quantized, job.row.output.name)),
                extra_options={
                    "TensorQuantOverrides": dict([*_ranges(proto, quantized), *_grids(proto, steps, kind)]),
                    "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
                },
            )
        finally:
            logging.getLogger().setLevel(level)
    if quantized.keep_float:
        onnx = require("onnx", "onnx")
        names = {layer.name for layer in quantized.model.layers}
        proto = onnx.load(str(path))
        keep_apart(proto.graph, lambda node: _layer_of(node, names) in quantized.keep_float)
        _save(proto, path)


def has_vnni() -> bool:
    """-> whether this CPU multiplies 8-bit integers without saturation; False if unknown."""
    try:
        return bool(VNNI_FLAGS & set(Path("/proc/cpuinfo").read_text().split()))
    except OSError:
        return False


def _proto(model: keras.Model, job: Job) -> Any:
    tf2onnx = require("tf2onnx", "onnx")
    function = serving_function(job.finished(in_one_operation(model)), job.row.output.name, batch_size=None)
    nchw = [IMAGE] if job.row.layout == "NCHW" else None
    with suppression_in_one_operation(), _copies_freed():
        proto, _ = tf2onnx.convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=job.options.opset or OPSET,
            inputs_as_nchw=nchw,
            custom_op_handlers={"ResizeBilinear": (_resize_by_size, [])},
        )
    simplify(proto.graph)
    if job.row.colour_order == "BGR":
        reverse_channels(proto.graph, IMAGE, 1 if nchw else 3)
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    outputs = {tensor.name: tensor for tensor in proto.graph.output}
    del proto.graph.output[:]
    proto.graph.output.extend(outputs[output.name] for output in job.row.outputs)
    return proto


@contextlib.contextmanager
def _copies_freed() -> Iterator[None]:
    """Collects garbage often, and only among the objects that are made inside.

    In each of two dozen passes, tf2onnx 1.17 copies the graph with its weights, and each copy refers to itself. Python
    would leave about 40 of these copies in memory: a few objects, which hold many bytes, start no collection.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.collect()  # without it, the next whole collection would wait for a quarter of the earlier objects
    gc.set_threshold(1000, 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _resize_by_size(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Replaces tf2onnx's node of a bilinear resize by ONNX's resize to a size.

    tf2onnx turns a constant size into a float32 scale, and ONNX rounds down: 13 * float32(97 / 13) pixels become 96. So
    the size is hidden behind an operation that does not look constant.
    """
    handlers = require("tf2onnx.onnx_opset.nn", "onnx")
    size = ctx.make_node("Identity", [node.input[1]])
    ctx.replace_input(node, node.input[1], size.output[0], 1)
    handlers.Resize.version_11(ctx, node)


def _save(proto: Any, path: Path) -> None:
    onnx = require("onnx", "onnx")
    remove_unused_constants(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))


class _NoImages:
    """A reader of one black image. The quantizer needs a reader of calibration images, even if all ranges are given."""

    def __init__(self, shape: tuple[int, int, int], layout: str):
        height, width, channels = shape
        size = (height, width, channels) if layout == "NHWC" else (channels, height, width)
        self._feeds: Iterator[dict[str, np.ndarray]] = iter([{IMAGE: np.zeros((1, *size), "float32")}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def _layer_of(node: Any, names: set[str]) -> str | None:
    """ONNX node -> name of its layer, from the names of tensors, in which tf2onnx keeps Keras' scopes.

    TensorFlow adds a number to a scope that already exists. A convolution that was fused with a padding has a new name,
    but its kernel keeps the layer's name.
    """
    for tensor in (*node.output, *node.input[1:]):
        for scope in tensor.split("/"):
            for name in (scope, re.sub(r"_\d+$", "", scope)):
                if name in names:
                    return name
    return None


def _box_nodes(proto: Any, model: keras.Model) -> Iterator[str]:
    """-> names of the nodes of layers that compute boxes, which a file holds in float32.

    A node without a layer's name, as converters add them to change a shape, belongs to what it reads.
    """
    names = {layer.name for layer in model.layers}
    boxes = {layer.name for layer in model.layers if isinstance(layer, BoxLayer)}
    made: set[str] = set()
    for node in proto.graph.node:
        layer = _layer_of(node, names)
        if layer in boxes or (layer is None and made & set(node.input[:1])):
            made |= set(node.output)
            yield node.name


def _ranges(proto: Any, quantized: Quantized) -> Iterator[tuple[str, list[dict[str, np.float32]]]]:
    names = {layer.name for layer in quantized.model.layers}
    known = {IMAGE: _bounds((0.0, 255.0))}
    yield IMAGE, known[IMAGE]
    for node in proto.graph.node:
        if node.op_type in _PRODUCTS:
            continue  # the output of this node stays float
        layer = _layer_of(node, names)
        for tensor in node.output:
            if layer is not None and isinstance(quantized.model.get_layer(layer), ConstantPadding2D):
                known[tensor] = _bounds((0.0, 255.0))
            elif layer is not None and layer in quantized.ranges:
                known[tensor] = _bounds(quantized.ranges[layer])
            elif node.op_type in _MOVES and node.input[0] in known:
                known[tensor] = known[node.input[0]]
            if tensor in known:
                yield tensor, known[tensor]


def _grids(proto: Any, steps: int, kind: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """-> grid of each rounded kernel by name of its tensor: a step for each output channel, or one step."""
    onnx = require("onnx", "onnx")
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    zero_point = np.uint8(128) if kind == "uint8" else np.int8(0)
    for node in proto.graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in tensors:
            kernel = onnx.numpy_helper.to_array(
                tensors[node.input[1]]
            )  # [out, in, h, w], or [in, out] of a dense layer
            limits = np.abs(kernel).reshape(len(kernel), -1).max(axis=1) if kernel.ndim == 4 else np.abs(kernel).max()
            scales = np.broadcast_to(np.maximum(limits, 1e-12) / steps, kernel.shape[0 if kernel.ndim == 4 else 1])
            rows = [{"scale": np.float32(scale), "zero_point": zero_point} for scale in scales]
            yield node.input[1], [{"axis": 0 if kernel.ndim == 4 else 1, **rows[0]}, *rows[1:]]


def _bounds(limits: tuple[float, float]) -> list[dict[str, np.float32]]:
    return [{"rmin": np.float32(limits[0]), "rmax": np.float32(limits[1])}]


def _float_nodes(proto: Any, quantized: Quantized, output: str) -> Iterator[str]:
    """-> names of nodes that stay float: the caller's layers, those after the last matrix product, BatchNorm, and
    nodes whose results have no known range.

    A BatchNorm that could not be folded is a product and a sum, and the range of the product is not known. In a
    detector, boxes stay float, and convolutions that only boxes are computed from: 256 steps would give many anchors
    one score. So do transposed convolutions, whose kernels are not rounded.
    """
    model = quantized.model
    readers = consumers(model)
    boxes = set(_box_nodes(proto, model))
    kept = {
        layer.name
        for layer in model.layers
        if layer.name in quantized.keep_float
        or isinstance(layer, (keras.layers.BatchNormalization, keras.layers.Conv2DTranspose))
        or (isinstance(layer, keras.layers.Conv2D) and _are_boxes(readers[layer.name]))
    }
    names = {layer.name for layer in model.layers}
    unknown = set(_without_range(proto, quantized))
    after: set[str] = set()  # tensors behind the last matrix product; in a detector, masks may follow it
    if not boxes:
        products = [node for node in proto.graph.node if node.op_type in ("MatMul", "Gemm")]
        after = set(products[-1].output) if products else set()
    for node in proto.graph.node:
        if after & set(node.input) or (not boxes and output in node.output):
            after |= set(node.output)
            yield node.name
        elif node.name in boxes or _layer_of(node, names) in kept or unknown & set(node.output):
            yield node.name


def _without_range(proto: Any, quantized: Quantized) -> Iterator[str]:
    """-> tensors whose range is not known. One that only a ReLU reads needs none: its node is fused with the ReLU."""
    known = dict(_ranges(proto, quantized))
    readers: dict[str, list[str]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    for node in proto.graph.node:
        for name in node.output:
            if name not in known and node.op_type not in _PRODUCTS and readers.get(name) != ["Relu"]:
                yield name


def _are_boxes(layers: Sequence[Any]) -> bool:
    """Layers that read a tensor -> whether it is read, and only to compute boxes."""
    return bool(layers) and all(isinstance(layer, BoxLayer) for layer in layers)
