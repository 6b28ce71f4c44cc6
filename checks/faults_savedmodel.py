"""SavedModels whose variables, functions and signatures can be changed, and the faults of these.

See `planted_faults.py`. A SavedModel holds the network several times: once for each signature, and for the function
`serve`. So a fault of the graph hits one of these readers, or all.
"""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from faults import LABELS, SAVED_MODEL, Copy, Fault, InapplicableError, Kernel, Random, one_of
from tensorflow.core.protobuf import saved_model_pb2

from keras_resnet.export.description import read_description
from keras_resnet.export.integrity import seal

VARIABLE = "weights/{}/.ATTRIBUTES/VARIABLE_VALUE"
TEXT = tf.string.as_datatype_enum
SIGNATURES = ("serving_default", "serve_jpeg", "features")


class SavedModelCopy(Copy):
    """A SavedModel folder."""

    def __init__(self, path: Path, format: str, network: Any):
        super().__init__(path, format, read_description(path) or {}, network=network)
        self.proto = saved_model_pb2.SavedModel()
        self.proto.ParseFromString((path / "saved_model.pb").read_bytes())
        [self.meta] = self.proto.meta_graphs
        self.functions = {function.signature.name: function for function in self.meta.graph_def.library.function}
        self.labels: list[str] | None = None  # written to labels.txt in place of the description's
        self.seen_by: str | None = None
        self.reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
        number = 0
        while self.reader.has_tensor(VARIABLE.format(number)):
            values = self.reader.get_tensor(VARIABLE.format(number)).astype("float64")
            bias = self.reader.get_tensor(VARIABLE.format(number + 1)).astype("float64")
            values = values.T[..., None, None] if values.ndim == 2 else values.transpose(3, 2, 0, 1)
            layer = f"weights {number}"
            self.kernels.append(Kernel(layer, values.copy(), bias.copy(), place=number))
            number += 2
        names = [layer.name for layer in network.layers if hasattr(layer, "kernel")]
        if len(names) == len(self.kernels):
            for kernel, name in zip(self.kernels, names, strict=True):
                kernel.name = name

    def _write_numbers(self) -> None:
        if not any(kernel.changed for kernel in self.kernels):
            return
        names = sorted(self.reader.get_variable_to_shape_map())
        tensors = {name: self.reader.get_tensor(name) for name in names}
        for kernel in self.kernels:
            dense = kernel.values.shape[2:] == (1, 1) and tensors[VARIABLE.format(kernel.place)].ndim == 2
            values = kernel.values[..., 0, 0].T if dense else kernel.values.transpose(2, 3, 1, 0)
            tensors[VARIABLE.format(kernel.place)] = values.astype("float32")
            tensors[VARIABLE.format(kernel.place + 1)] = kernel.bias.astype("float32")
        shutil.rmtree(self.path / "variables")
        (self.path / "variables").mkdir()
        tf.raw_ops.SaveV2(
            prefix=str(self.path / "variables" / "variables"),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(tensors[name]) for name in names],
        )

    def finish(self) -> None:
        self._write_numbers()
        (self.path / "saved_model.pb").write_bytes(self.proto.SerializeToString())
        (self.path / "assets" / "description.json").write_text(json.dumps(self.description, indent=2) + "\n")
        labels = self.description["labels"] if self.labels is None else self.labels
        if labels:
            (self.path / "assets" / "labels.txt").write_text("\n".join(labels) + "\n")
        else:
            with contextlib.suppress(OSError):
                (self.path / "assets" / "labels.txt").unlink()
        seal(self.path)

    def body(self, signature: str) -> Any:
        """Signature -> the function that computes it, or the functions of `serve`."""
        name = self.meta.signature_def[signature]
        first = next(iter(name.outputs.values())).name.split(":")[0]
        node = next(node for node in self.meta.graph_def.node if node.name == first)
        wrapper = self.functions[node.attr["f"].func.name]
        inner = next(node for node in wrapper.node_def if node.op == "StatefulPartitionedCall")
        return self.functions[inner.attr["f"].func.name]

    def bodies(self, reader: str) -> list[Any]:
        """Reader of the artifact -> its functions; "all": every function with the network in it."""
        if reader in SIGNATURES:
            return [self.body(reader)]
        networks = [f for f in self.functions.values() if sum(node.op == "Conv2D" for node in f.node_def) > 1]
        if reader == "all":
            return networks
        known = {
            self.body(signature).signature.name for signature in SIGNATURES if signature in self.meta.signature_def
        }
        return [function for function in networks if function.signature.name not in known]

    def drawn(self, random: Random, *readers: str) -> list[Any]:
        """-> the functions of a reader that is drawn, which then also measures the effect."""
        reader = one_of(random, readers or ("serving_default", "serve_jpeg", "features", "serve", "all"))
        self.seen_by = {"all": "predictor", "serving_default": "predictor"}.get(reader, reader)
        self.where = reader
        return self.bodies(reader)


def nodes(function: Any, *kinds: str) -> list[Any]:
    return [node for node in function.node_def if node.op in kinds]


def named(function: Any, name: str) -> Any:
    return next(node for node in function.node_def if node.name == name)


def constant_of(function: Any, reference: str) -> Any:
    return named(function, reference.split(":")[0])


def set_constant(node: Any, change: Callable[[np.ndarray], np.ndarray]) -> None:
    before = tf.make_ndarray(node.attr["value"].tensor)
    after = np.asarray(change(before.copy()))
    if after.dtype.kind in "OSU":
        tensor = tf.make_tensor_proto(after.tolist(), dtype=tf.string, shape=after.shape)
    else:
        tensor = tf.make_tensor_proto(after.astype(before.dtype), shape=after.shape)
    node.attr["value"].tensor.CopyFrom(tensor)


def at_same_place(functions: list[Any], random: Random, *kinds: str) -> list[tuple[Any, Any]]:
    """-> the node of these kinds at one place that is drawn, in each function."""
    count = min(len(nodes(function, *kinds)) for function in functions)
    if not count:
        raise InapplicableError(f"no {' or '.join(kinds)}")
    place = int(random.integers(count))
    return [(function, nodes(function, *kinds)[place]) for function in functions]


def in_graph(change: Callable[[Any, Any, Random], str], *kinds: str, readers: tuple[str, ...] = ()) -> Callable:
    def plant(copy: SavedModelCopy, random: Random) -> str:
        functions = copy.drawn(random, *readers)
        seed, text = int(random.integers(2**31)), ""
        for function, node in at_same_place(functions, random, *kinds):
            text = change(function, node, np.random.default_rng(seed))
        return f"{copy.where}: {text}"

    return plant


PORTS = {
    "Relu": "activations",
    "Relu6": "activations",
    "Softmax": "softmax",
    "LogSoftmax": "logsoftmax",
    "Sigmoid": "y",
}


def become(function: Any, node: Any, op: str) -> None:
    """Changes a node's operation; what reads the node follows the new name of its output."""
    old, new = (f"{node.name}:{PORTS.get(kind, 'output')}:0" for kind in (node.op, op))
    node.op = op
    for reader in function.node_def:
        for place, name in enumerate(reader.input):
            if name == old:
                reader.input[place] = new
    for name, value in function.ret.items():
        if value == old:
            function.ret[name] = new
    if not node.attr["T"].type:
        node.attr["T"].type = tf.float32.as_datatype_enum


def op_in_place(op: str) -> Callable[[Any, Any, Random], str]:
    def change(function: Any, node: Any, random: Random) -> str:
        before = node.op
        become(function, node, op)
        if op == "Identity":
            for name in [name for name in node.attr if name not in ("T", "_output_shapes")]:
                del node.attr[name]
            del node.input[1:]
        return f"{node.name}: {op} in place of {before}"

    return change


def dilated(function: Any, node: Any, random: Random) -> str:
    if node.attr["padding"].s != b"SAME" or list(node.attr["strides"].list.i) != [1, 1, 1, 1]:
        raise InapplicableError("padding or stride")
    node.attr["dilations"].list.i[:] = [1, 2, 2, 1]
    return f"{node.name}: dilation 2"


def pads_moved(function: Any, node: Any, random: Random) -> str:
    constant = constant_of(function, node.input[1])
    amounts = tf.make_ndarray(constant.attr["value"].tensor)
    axes = [axis for axis in range(len(amounts)) if amounts[axis].sum() > 0]
    axis = int(one_of(random, axes))
    total, before = int(amounts[axis].sum()), amounts[axis].tolist()
    other = one_of(random, [v for v in range(total + 1) if v != before[0]])

    def change(values: np.ndarray) -> np.ndarray:
        values[axis] = [other, total - other]
        return values

    set_constant(constant, change)
    return f"{node.name}: axis {axis}, {before} -> {[other, total - other]}"


def add_rewired(function: Any, node: Any, random: Random) -> str:
    adds = nodes(function, "AddV2")
    place = next(i for i, other in enumerate(adds) if other.name == node.name)
    if place < 3:
        raise InapplicableError("the first sums")
    stage = node.name.split("block")[0]
    if adds[place - 1].name.split("block")[0] != stage:
        raise InapplicableError("another shape")
    side = int(random.integers(2))
    node.input[side] = adds[place - 1].input[int(random.integers(2))]
    return f"{node.name}: input {side} is {node.input[side]}"


def bias_left_out(function: Any, node: Any, random: Random) -> str:
    become(function, node, "Identity")
    del node.input[1:]
    for name in [name for name in node.attr if name not in ("T", "_output_shapes")]:
        del node.attr[name]
    return f"{node.name}: no bias"


# --- serve_jpeg ---------------------------------------------------------------------------------------------------


def _decoder(copy: SavedModelCopy, text: str) -> Any:
    copy.seen_by = "serve_jpeg"
    return next(f for f in copy.functions.values() if any(text in node.name for node in f.node_def))


def jpeg_labels(change: str) -> Callable[[SavedModelCopy, Random], str]:
    def plant(copy: SavedModelCopy, random: Random) -> str:
        copy.seen_by = "serve_jpeg"
        texts = [n for n in copy.meta.graph_def.node if n.op == "Const" and n.attr["dtype"].type == TEXT]
        texts += [n for n in nodes(copy.body("serve_jpeg"), "Const") if n.attr["dtype"].type == TEXT]
        count = copy.description["output"]["classes"]
        [node] = [n for n in texts if tf.make_ndarray(n.attr["value"].tensor).size == count]
        changed = LABELS[change]

        def encoded(values: np.ndarray) -> np.ndarray:
            return np.array([name.encode() for name in changed([v.decode() for v in values], random) or []], object)

        set_constant(node, encoded)
        return "labels of serve_jpeg only"

    return plant


def jpeg_resize(copy: SavedModelCopy, random: Random) -> str:
    function = _decoder(copy, "resize/ScaleAndTranslate")
    factor = float(random.choice([1.06, 1.14, 1.5, 2]))
    node = named(function, "map/while/mul/x")
    set_constant(node, lambda value: value * factor)
    return f"resize x {factor}"


def jpeg_interpolation(copy: SavedModelCopy, random: Random) -> str:
    function = _decoder(copy, "resize/ScaleAndTranslate")
    kind = one_of(random, [b"keyscubic", b"lanczos5", b"box", b"gaussian"])
    for node in nodes(function, "ScaleAndTranslate"):
        node.attr["kernel_type"].s = kind
    return f"kernel {kind.decode()}"


def jpeg_antialias(copy: SavedModelCopy, random: Random) -> str:
    function = _decoder(copy, "resize/ScaleAndTranslate")
    for node in nodes(function, "ScaleAndTranslate"):
        node.attr["antialias"].b = False
    return "no antialias"


def jpeg_bgr(copy: SavedModelCopy, random: Random) -> str:
    """The pixels are reversed along their last axis after clipping."""
    function = _decoder(copy, "resize/ScaleAndTranslate")
    clip = named(function, "map/while/clip_by_value")
    axis, flip = function.node_def.add(), function.node_def.add()
    axis.name, axis.op = "map/while/fault_axis", "Const"
    axis.attr["dtype"].type = tf.int32.as_datatype_enum
    axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.array([2], "int32")))
    flip.name, flip.op = "map/while/fault_flip", "ReverseV2"
    flip.input.extend(["map/while/clip_by_value:z:0", "map/while/fault_axis:output:0"])
    flip.attr["T"].type, flip.attr["Tidx"].type = tf.float32.as_datatype_enum, tf.int32.as_datatype_enum
    for node in function.node_def:
        if node.name != flip.name:
            for place, name in enumerate(node.input):
                if name == f"{clip.name}:z:0":
                    node.input[place] = f"{flip.name}:output:0"
    return "serve_jpeg reads BGR"


def jpeg_crop_offset(copy: SavedModelCopy, random: Random) -> str:
    function = _decoder(copy, "resize/ScaleAndTranslate")
    set_constant(named(function, "map/while/truediv_1/y"), lambda value: value * 4)
    return "crop a quarter from the corner in place of the middle"


def jpeg_grey_levels(copy: SavedModelCopy, random: Random) -> str:
    function = _decoder(copy, "resize/ScaleAndTranslate")
    limit = int(random.integers(120, 250))
    set_constant(named(function, "map/while/clip_by_value/Minimum/y"), lambda value: np.full_like(value, limit))
    return f"pixels at most {limit}"


def jpeg_decoder(copy: SavedModelCopy, random: Random) -> str:
    copy.seen_by = "serve_jpeg"
    function = next(f for f in copy.functions.values() if nodes(f, "DecodeJpeg"))
    [node] = nodes(function, "DecodeJpeg")
    kind = one_of(random, ["fast", "half size", "grey"])
    if kind == "fast":
        node.attr["dct_method"].s = b"INTEGER_FAST"
    elif kind == "half size":
        node.attr["ratio"].i = 2
    else:
        node.attr["fancy_upscaling"].b = False
    return f"JPEG decoded otherwise: {kind if kind != 'grey' else 'no smooth chroma'}"


def jpeg_indices(copy: SavedModelCopy, random: Random) -> str:
    """`labels` and `indices` come from something other than the probabilities."""
    copy.seen_by = "serve_jpeg"
    function = copy.body("serve_jpeg")
    [top] = nodes(function, "TopKV2")
    negated = function.node_def.add()
    negated.name, negated.op = "fault_negated", "Neg"
    negated.input.append(top.input[0])
    negated.attr["T"].type = tf.float32.as_datatype_enum
    top.input[0] = "fault_negated:y:0"
    return "the least probable classes in place of the most probable"


def jpeg_fewer(copy: SavedModelCopy, random: Random) -> str:
    copy.seen_by = "serve_jpeg"
    function = copy.body("serve_jpeg")
    [top] = nodes(function, "TopKV2")
    set_constant(constant_of(function, top.input[1]), lambda value: np.ones_like(value))
    for node in (*function.node_def, *wrapper_of(copy, "serve_jpeg").node_def, *copy.meta.graph_def.node):
        node.attr.pop("_output_shapes", None)
    return "one class in place of five"


# --- signatures ---------------------------------------------------------------------------------------------------


def wrapper_of(copy: SavedModelCopy, signature: str) -> Any:
    first = next(iter(copy.meta.signature_def[signature].outputs.values())).name.split(":")[0]
    node = next(node for node in copy.meta.graph_def.node if node.name == first)
    return copy.functions[node.attr["f"].func.name]


def levels_swapped(copy: SavedModelCopy, random: Random) -> str:
    """Two levels of `features` under each other's name, in the function itself."""
    copy.seen_by = "features"
    function = copy.body("features")
    names = sorted(function.ret)
    a, b = (names[index] for index in random.choice(len(names), 2, replace=False))
    function.ret[a], function.ret[b] = function.ret[b], function.ret[a]
    return f"outputs {a} and {b} of features exchanged"


def level_of_the_block_before(copy: SavedModelCopy, random: Random) -> str:
    copy.seen_by = "features"
    function = copy.body("features")
    relus = {node.name: place for place, node in enumerate(nodes(function, "Relu"))}
    for node in nodes(function, "Identity"):
        source = node.input[0].split(":")[0]
        place = relus.get(source, 0)
        if place >= 3:
            other = nodes(function, "Relu")[place - 2].name
            node.input[0] = f"{other}:activations:0"
            return f"a level is {other}"
    raise InapplicableError("no level found")


def signature_missing(copy: SavedModelCopy, random: Random) -> str:
    name = one_of(random, ["features", "serve_jpeg"])
    copy.seen_by = name
    del copy.meta.signature_def[name]
    graph = copy.meta.object_graph_def.nodes
    for node in graph:
        for place in reversed(range(len(node.children))):
            if node.children[place].local_name == name:
                del node.children[place]
    return f"no {name}"


def signature_of_another(copy: SavedModelCopy, random: Random) -> str:
    """`serving_default` runs a function whose softmax is left out."""
    copy.seen_by = "predictor"
    function = copy.body("serving_default")
    [node] = nodes(function, "Softmax")
    op_in_place("Identity")(function, node, random)
    return "serving_default gives logits"


def softmax_otherwise(function: Any, node: Any, random: Random) -> str:
    become(function, node, one_of(random, ["Sigmoid", "LogSoftmax"]))
    return f"{node.op} in place of Softmax"


def names_in_assets(change: str) -> Callable[[SavedModelCopy, Random], str]:
    def plant(copy: SavedModelCopy, random: Random) -> str:
        copy.labels = LABELS[change](list(copy.description["labels"]), random)
        return "labels.txt only"

    return plant


def border(copy: SavedModelCopy, random: Random) -> str:
    """The constant border that stands for the mean colour around the picture becomes black or white."""
    functions = copy.drawn(random)
    for function in functions:
        sums = [node for node in nodes(function, "AddV2") if "pad" in node.name]
        if not sums:
            raise InapplicableError("no border")
        set_constant(constant_of(function, sums[0].input[1]), lambda value: np.zeros_like(value))
    return f"{copy.where}: a black border in place of the mean colour"


FAULTS = [
    Fault("ReLU removed", SAVED_MODEL, in_graph(op_in_place("Identity"), "Relu"), group="graph"),
    Fault("another ReLU", SAVED_MODEL, in_graph(op_in_place("Relu6"), "Relu"), group="graph"),
    Fault("dilation", SAVED_MODEL, in_graph(dilated, "Conv2D"), group="graph"),
    Fault("pads moved", SAVED_MODEL, in_graph(pads_moved, "Pad"), group="graph"),
    Fault("border", SAVED_MODEL, border, group="graph"),
    Fault("Add reads another tensor", SAVED_MODEL, in_graph(add_rewired, "AddV2"), group="graph"),
    Fault("bias left out", SAVED_MODEL, in_graph(bias_left_out, "BiasAdd"), group="graph"),
    Fault("average in place of maximum", SAVED_MODEL, in_graph(op_in_place("AvgPool"), "MaxPool"), group="graph"),
    Fault("maximum in place of average", SAVED_MODEL, in_graph(op_in_place("Max"), "Mean"), group="graph"),
    Fault(
        "softmax removed",
        SAVED_MODEL,
        in_graph(op_in_place("Identity"), "Softmax", readers=("serving_default", "serve_jpeg", "serve", "all")),
        group="answers",
    ),
    Fault(
        "sigmoid in place of softmax",
        SAVED_MODEL,
        in_graph(softmax_otherwise, "Softmax", readers=("serving_default", "serve_jpeg", "serve", "all")),
        group="answers",
    ),
    Fault("serving_default gives logits", SAVED_MODEL, signature_of_another, group="signature"),
    Fault("levels of features exchanged", SAVED_MODEL, levels_swapped, "features", "signature"),
    Fault("a level of another block", SAVED_MODEL, level_of_the_block_before, "features", "signature"),
    Fault("signature missing", SAVED_MODEL, signature_missing, "features", "signature"),
    Fault("serve_jpeg: labels rotated", SAVED_MODEL, jpeg_labels("rotated"), "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: labels reversed", SAVED_MODEL, jpeg_labels("reversed"), "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: two labels swapped", SAVED_MODEL, jpeg_labels("two swapped"), "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: resize", SAVED_MODEL, jpeg_resize, "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: interpolation", SAVED_MODEL, jpeg_interpolation, "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: antialias", SAVED_MODEL, jpeg_antialias, "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: BGR", SAVED_MODEL, jpeg_bgr, "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: crop", SAVED_MODEL, jpeg_crop_offset, "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: grey levels", SAVED_MODEL, jpeg_grey_levels, "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: decoder", SAVED_MODEL, jpeg_decoder, "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: indices", SAVED_MODEL, jpeg_indices, "serve_jpeg", "serve_jpeg"),
    Fault("serve_jpeg: fewer answers", SAVED_MODEL, jpeg_fewer, "serve_jpeg", "serve_jpeg"),
    Fault("labels.txt rotated", SAVED_MODEL, names_in_assets("rotated"), "labels file", "labels"),
    Fault("labels.txt, two swapped", SAVED_MODEL, names_in_assets("two swapped"), "labels file", "labels"),
]
