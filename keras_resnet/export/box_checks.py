"""Checks of a detector's file that need no image: the types of its operations, its anchors and its thresholds.

The TFLite converter decides for each operation whether it computes in integers. It follows the rounded tensors, and
what only compares, chooses or copies takes their type. Boxes in 256 steps would lie several pixels off, and many scores
would be equal.

A wrong threshold, or wrong anchors of a map on which nothing was found, may change no answer to the compared images.
The file holds both as constants, which are looked up.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np

from keras_resnet import layer_names
from keras_resnet.boxes import just_below
from keras_resnet.detection_layers.anchors import anchors_of
from keras_resnet.detection_layers.proposals import IOU_THRESHOLD
from keras_resnet.detection_layers.roi_align import FIRST_LEVEL, least_areas
from keras_resnet.export.files import kind_of, onnx_file
from keras_resnet.export.formats import Format
from keras_resnet.export.runtimes import read_openvino
from keras_resnet.optional import require
from keras_resnet.tasks.base import Check

# What detectors compute of boxes and scores. Their convolutions need none of these.
_NAMES = """
DIV EQUAL EXP FLOOR GATHER GATHER_ND GREATER GREATER_EQUAL LESS LESS_EQUAL LOG LOGISTIC LOG_SOFTMAX MAXIMUM MINIMUM
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 NOT_EQUAL SELECT SELECT_V2 SOFTMAX SUM TOPK_V2 WHILE
"""
_OF_BOXES = frozenset(_NAMES.split())
_WITH_KERNELS = ("CONV_2D", "FULLY_CONNECTED")
_SHORT = ("INT8", "UINT8", "INT16", "FLOAT16")


def box_checks(path: Path, row: Format, model: keras.Model) -> Iterator[Check]:
    """File of a detector, its row of the table, the prepared model -> checks of the graph, which is not run."""
    if kind_of(path) == "tflite":
        yield numbers_check(path, row)
    yield constants_check(path, constants_of(model))


def numbers_check(path: Path, row: Format) -> Check:
    """TFLite file of a detector, its row of the table -> check of the types of its operations."""
    wrong = Counter[str]()
    for operation, types in _tflite_operations(path):
        short = next((each for each in types if each in _SHORT), None)
        if operation in _OF_BOXES and short is not None:
            wrong[f"{operation} in {short}"] += 1
        elif operation in _WITH_KERNELS and row.calibrated and not row.keep_float and types[:2] != ["INT8", "INT8"]:
            wrong[f"{operation} of {types[0]} by {types[1]}"] += 1
    required = "boxes and scores in float32" + (", convolutions and dense layers in int8" if row.calibrated else "")
    measured = ", ".join(f"{count} {name}" for name, count in sorted(wrong.items()))
    return Check("box numbers", measured or required, required, not wrong)


def constants_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Detector -> what a file of it holds as constants, by its name for people."""
    propose = model.get_layer(layer_names.RPN_PROPOSALS)
    detections = model.get_layer(layer_names.BOX_DETECTIONS)
    anchors = {
        f"anchors of {size:g} pixels": anchors_of(size, logits.shape[1:3], propose.frame_sides)
        for size, logits in zip(propose.anchor_sizes, propose.input, strict=False)
    }
    areas = least_areas(len(model.get_layer(layer_names.align(layer_names.BOX)).input) - 1)
    thresholds = {
        "score threshold": np.float32(detections.score_threshold),
        "IoU threshold": np.float32(just_below(detections.iou_threshold)),
        "IoU threshold of proposals": np.float32(just_below(IOU_THRESHOLD)),
        **{f"least area of level {FIRST_LEVEL + 1 + index}": np.float32(area) for index, area in enumerate(areas)},
    }
    return {**anchors, **{name: np.asarray(value) for name, value in thresholds.items()}}


def constants_check(path: Path, wanted: Mapping[str, np.ndarray]) -> Check:
    """File of any kind, constants of its model -> check that it holds them."""
    sizes = {each.size for each in wanted.values()}
    held = [values for values in _CONSTANTS[kind_of(path)](path) if values.size in sizes]
    lacks = [name for name, each in wanted.items() if not any(_is_equal(values, each) for values in held)]
    return Check("box constants", f"without {', '.join(lacks)}" if lacks else "all there", ", ".join(wanted), not lacks)


def _is_equal(held: np.ndarray, wanted: np.ndarray) -> bool:
    """A file may hold anchors as integers, and a file of 16-bit numbers may hold thresholds rounded."""
    if held.size != wanted.size or (np.issubdtype(held.dtype, np.integer) and wanted.ndim == 0):
        return False
    return np.array_equal(held.ravel(), wanted.ravel().astype(held.dtype))


def _savedmodel_constants(path: Path) -> Iterator[np.ndarray]:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    types = (tf.float32.as_datatype_enum, tf.int32.as_datatype_enum)
    [meta] = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    for function in meta.graph_def.library.function:
        for node in function.node_def:
            if node.op == "Const" and node.attr["dtype"].type in types:
                yield tf.make_ndarray(node.attr["value"].tensor)


def _onnx_constants(path: Path) -> Iterator[np.ndarray]:
    onnx = require("onnx", "onnx")
    types = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64)

    for tensor in onnx.load(str(onnx_file(path))).graph.initializer:
        if tensor.data_type in types:
            yield onnx.numpy_helper.to_array(tensor)


def _openvino_constants(path: Path) -> Iterator[np.ndarray]:
    for node in read_openvino(path).get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("f32", "i32", "i64"):
            yield node.data


def _tflite_constants(path: Path) -> Iterator[np.ndarray]:
    from tensorflow.lite.python import schema_py_generated as schema

    types = {
        schema.TensorType.FLOAT32: np.float32,
        schema.TensorType.FLOAT16: np.float16,
        schema.TensorType.INT32: np.int32,
    }
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            buffer = model.Buffers(tensor.Buffer())
            if tensor.Type() in types and buffer.DataLength():
                yield buffer.DataAsNumpy().view(types[tensor.Type()])


def _tflite_operations(path: Path) -> Iterator[tuple[str, list[str]]]:
    """-> name of each operation, also inside of loops, and the types of its inputs, in the schema's words."""
    from tensorflow.lite.python import schema_py_generated as schema

    operations, types = (
        {number: name for name, number in vars(kind).items() if not name.startswith("_")}
        for kind in (schema.BuiltinOperator, schema.TensorType)
    )
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    names = [operations[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            inputs = (operator.Inputs(index) for index in range(operator.InputsLength()))
            # An optional input that is left out has the index -1.
            yield names[operator.OpcodeIndex()], [types[graph.Tensors(i).Type()] for i in inputs if i >= 0]


_CONSTANTS: Mapping[str, Callable[[Path], Iterator[np.ndarray]]] = {
    "saved_model": _savedmodel_constants,
    "tflite": _tflite_constants,
    "onnx": _onnx_constants,
    "web": _onnx_constants,
    "openvino": _openvino_constants,
}
