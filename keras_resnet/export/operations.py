"""SavedModel or OpenVINO folder -> the operations in it that inference does not need, found before it is opened.

A SavedModel is a program. TensorFlow's operations include some that read, write or send files, or call Python, and
some functions run as soon as it is loaded. This module reads `saved_model.pb` as data, compares the operations of every
function, called or not, with the table below, and runs nothing.

What TensorFlow's own saver does is needed, and is dangerous elsewhere: `SaveV2` in a signature would write any file.
These operations may stand only in the functions that the saver's nodes name, which nothing else may refer to. When
Python loads a SavedModel, it never calls these two functions: it restores the variables by operations of its own.

The operations of OpenVINO's own sets only compute. Others would come from a library that extends it, which this package
never loads, and OpenVINO refuses them too.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from keras_resnet.errors import ExportError
from keras_resnet.export.files import GRAPH_FILE, IR_FILE, kind_of
from keras_resnet.export.ir_file import read_ir
from keras_resnet.optional import require
from keras_resnet.printable import printable
from keras_resnet.regular_files import read_regular

OUTSIDE = "the graph itself"  # outside of all functions
MOST_NAMED = 5  # operations in an error message

# Arithmetic, shapes, control flow and decoding: what the writer emits for each task, and what other networks need. None
# of these reads or writes a file, a socket, the terminal or another process.
_NAMES = """
Abs Acos Acosh Add AddN AddV2 All Angle Any ArgMax ArgMin AsString Asin Asinh Assert Atan Atan2 Atanh AvgPool AvgPool3D
BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchNormWithGlobalNormalization BatchToSpaceND BiasAdd Bitcast BitwiseAnd
BitwiseOr BitwiseXor BroadcastArgs BroadcastTo Bucketize Case Cast Ceil CheckNumerics ClipByValue
CombinedNonMaxSuppression Complex ComplexAbs Concat ConcatOffset ConcatV2 Conj Const ControlTrigger Conv Conv2D
Conv2DBackpropInput Conv3D
Cos Cosh CropAndResize Cross Cumprod Cumsum DecodeAndCropJpeg DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng
DecodeWebP DepthToSpace DepthwiseConv2dNative Diag DiagPart Dilation2D DisableCopyOnRead Div DivNoNan DynamicPartition
DynamicStitch Einsum Elu EmptyTensorList EnsureShape Enter Equal Erf Erfc Erfinv Exit Exp ExpandDims Expm1
ExtractImagePatches ExtractJpegShape FFT FFT2D FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather
GatherNd GatherV2 Greater GreaterEqual HSVToRGB IFFT IFFT2D IRFFT IRFFT2D Identity IdentityN If Imag InTopK InTopKV2
Inv Invert InvertPermutation IsFinite IsInf IsNan L2Loss LRN LeakyRelu LeftShift Less LessEqual LinSpace Log Log1p
LogSoftmax LogicalAnd LogicalNot LogicalOr LoopCond MatMul MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2
MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 Max MaxPool MaxPool3D MaxPoolV2 Maximum Mean Merge Min Minimum MirrorPad Mod
Mul MulNoNan Neg NextIteration NoOp NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4
NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder PlaceholderWithDefault Pow
PreventGradient Prod QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 RFFT
RFFT2D RGBToHSV Range Rank ReadVariableOp Real RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic
ResizeBilinear ResizeNearestNeighbor ResourceGather Reverse ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt
ScaleAndTranslate ScatterNd SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum Select SelectV2 Selu Shape ShapeN
Sigmoid Sign Sin Sinh Size Slice Snapshot Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Split SplitV Sqrt
Square SquaredDifference Squeeze StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile StaticRegexFullMatch
StopGradient StridedSlice StringFormat StringJoin StringLength Sub Substr Sum Switch Tan Tanh TensorArrayCloseV3
TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3
TensorArrayV3 TensorArrayWriteV3 TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather
TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize
TensorListSetItem TensorListSplit TensorListStack TensorScatterAdd TensorScatterUpdate TensorStridedSliceUpdate Tile
TopK TopKV2 Transpose TruncateDiv TruncateMod Unpack UnravelIndex UnsortedSegmentMax UnsortedSegmentMin
UnsortedSegmentSum VariableShape Where While Xdivy Xlog1py Xlogy ZerosLike
"""
_INFERENCE = frozenset(_NAMES.split())
# Outside of all functions, for TensorFlow Serving: Python does not run this part. Elsewhere they would change weights.
_OUTSIDE = frozenset({"VarHandleOp", "VarIsInitializedOp", "AssignVariableOp"})
_SAVER = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "AssignVariableOp"})

# The first row whose pattern an operation's name matches states its effect in an error message.
_EFFECTS = (
    (r"PyFunc|Numpy", "calls Python code"),
    (r"WriteFile|^Save|MergeV2|^PrintV2$|Summary|Audio|Snapshot|Checkpoint", "writes files of the graph's choice"),
    (r"ReadFile|Reader|^Restore|FromTextFile|Dataset|MatchingFiles|ShardedFilename|Iterator", "reads files"),
    (r"^Print$|^Debug", "prints, or sends what it is given elsewhere"),
    (r"Collective|^_?(Host)?(Send|Recv)|RemoteCall|Rpc|TPU|Tpu|Worker", "talks to other processes or machines"),
    (r"Xla", "runs code that is compiled from the file"),
    (r"Table", "keeps a table, which can be filled from files"),
    (r"^Assign|Variable|VarHandle", "changes variables"),
)
_UNKNOWN = "is not known to be harmless"


class Finding(NamedTuple):
    """What a folder of an artifact holds beyond inference."""

    what: str  # operation, or what else
    effect: str
    where: str = ""  # function or layer of the operation


def check_operations(folder: Path) -> None:
    """Raises `ExportError` if a folder holds more than inference needs; it is not opened."""
    findings = unneeded(folder)
    if not findings:
        return
    counts = Counter(finding.where for finding in findings)
    texts = [f"{one.what}{f' in {one.where}' if one.where else ''} ({one.effect})" for one in findings[:MOST_NAMED]]
    more = f", and {len(findings) - MOST_NAMED} more" if len(findings) > MOST_NAMED else ""
    raise ExportError(
        f"{folder}: holds more than a network needs: {printable('; '.join(texts))}{more}, in "
        f"{len(counts)} {'place' if len(counts) == 1 else 'places'}. Opening it would let it do so; it was not opened. "
        "If you trust the place where it came from, give --trust (in Python, trust=True)"
    )


def unneeded(folder: Path) -> list[Finding]:
    """SavedModel or OpenVINO folder -> what it holds beyond inference, in the order of the file.

    Raises:
        ExportError: The folder's graph can't be read.
    """
    if kind_of(folder) == "web":
        return [*_odd_files(folder)]
    if kind_of(folder) == "openvino":
        return [*_odd_files(folder), *_other_graphs(folder), *_foreign_layers(folder)]
    return [*_odd_files(folder), *_other_graphs(folder), *_findings(_read(folder / GRAPH_FILE))]


def _foreign_layers(folder: Path) -> Iterator[Finding]:
    """OpenVINO folder -> its layers, also those inside others, whose operation is in none of OpenVINO's own sets."""
    for layer in read_ir(folder / IR_FILE).iter("layer"):
        kind, opset, name = (str(layer.get(key)) for key in ("type", "version", "name"))
        if not re.fullmatch(r"opset\d+", opset):
            yield Finding(f"{kind} of {opset}", _UNKNOWN, f"layer {name}")


def _read(path: Path) -> Any:
    saved_model_pb2 = require("tensorflow.core.protobuf.saved_model_pb2", None)

    try:
        saved = saved_model_pb2.SavedModel.FromString(read_regular(path))
    except Exception as error:  # protobuf's DecodeError derives directly from Exception
        raise ExportError(f"{path}: can't be read: {error}") from error
    if not saved.meta_graphs:
        raise ExportError(f"{path}: holds no graph: it is damaged")
    return saved


def _odd_files(folder: Path) -> Iterator[Finding]:
    """Links that lead elsewhere, pipes and devices."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() and not path.is_file():  # a link to a file is how caches keep what they download
            yield Finding(f"the link {name}", "leads to something else than a file")
        elif not path.is_file() and not path.is_dir():
            yield Finding(f"the file {name}", "is a pipe or a device")


def _other_graphs(folder: Path) -> Iterator[Finding]:
    """Files from which TensorFlow could read another graph."""
    for name in ("saved_model.pbtxt", "saved_model.cpb"):
        if (folder / name).exists():
            yield Finding(f"the file {name}", f"is a second graph beside {GRAPH_FILE}")


def _findings(saved: Any) -> Iterator[Finding]:
    """Parsed `SavedModel` -> findings."""
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].HasField("object_graph_def"):
        what = f"{len(saved.meta_graphs)} graphs" if len(saved.meta_graphs) != 1 else "a graph without its objects"
        yield Finding(f"{what}, as TensorFlow 1 wrote them", "has operations that run while it is opened")
    for meta in saved.meta_graphs:
        for asset in meta.asset_file_def:
            name = PurePosixPath(asset.filename)
            if name.is_absolute() or ".." in name.parts or "\\" in asset.filename:
                yield Finding(f"the asset {asset.filename}", "lies outside of the folder")
        yield from _of_graph(meta)


def _of_graph(meta: Any) -> Iterator[Finding]:
    graph = meta.graph_def
    functions = list(graph.library.function)
    savers = _saver_functions(meta)
    seen: dict[Finding, None] = {}  # an ordered set
    for where, nodes in [(OUTSIDE, graph.node), *((f"function {f.signature.name}", f.node_def) for f in functions)]:
        allowed = _INFERENCE | {f.signature.name for f in functions}  # a node can call a function by its name
        if where == OUTSIDE:
            allowed |= _OUTSIDE
        elif where.removeprefix("function ") in savers:
            allowed |= _SAVER
        for node in nodes:
            if node.op not in allowed:
                seen[Finding(node.op, _effect(node.op), where)] = None
    for function in functions:
        # By this attribute, TensorFlow's optimizer may exchange a function for another that nothing here refers to.
        if "api_implements" in function.attr:
            seen[
                Finding("api_implements", "exchanges a function for another", f"function {function.signature.name}")
            ] = None
    yield from seen


def _saver_functions(meta: Any) -> set[str]:
    """-> names of the functions that are called by the saver's two nodes, and that nothing else refers to."""
    graph = meta.graph_def
    own = {meta.saver_def.save_tensor_name.partition(":")[0], meta.saver_def.restore_op_name.partition(":")[0]}
    called = defaultdict(set)
    for node in graph.node:
        called[node.name in own].update(_functions_of([node]))
    elsewhere = called[False]
    for function in graph.library.function:
        elsewhere |= _functions_of(function.node_def)
        elsewhere.update(name for attr in function.attr.values() for name in _named_in(attr))
    for gradient in graph.library.gradient:
        elsewhere |= {gradient.function_name, gradient.gradient_func}
    objects = meta.object_graph_def
    elsewhere.update(objects.concrete_functions)
    for node in objects.nodes:
        elsewhere.update(node.function.concrete_functions)
        elsewhere |= {node.bare_concrete_function.concrete_function_name, node.captured_tensor.concrete_function}
    return called[True] - elsewhere


def _functions_of(nodes: Iterable[Any]) -> set[str]:
    """Nodes -> names to which they refer: their operations, which can be functions, and functions in attributes."""
    return {name for node in nodes for name in (node.op, *(n for attr in node.attr.values() for n in _named_in(attr)))}


def _named_in(attr: Any) -> Iterator[str]:
    """Value of an attribute -> names of functions in it, at any depth."""
    for function in ([attr.func] if attr.HasField("func") else []) + list(attr.list.func):
        yield function.name
        for inner in function.attr.values():
            yield from _named_in(inner)


def _effect(operation: str) -> str:
    return next((effect for pattern, effect in _EFFECTS if re.search(pattern, operation)), _UNKNOWN)
