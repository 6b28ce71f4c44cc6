"""ONNX files whose numbers and graph can be changed, and the faults of their graphs; see `planted_faults.py`."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from faults import ONNX, Copy, Fault, InapplicableError, Kernel, Random, Step, between, one_of
from onnx import TensorProto, helper, numpy_helper

from keras_resnet.export.description import embed, read_description
from keras_resnet.export.integrity import KEY, onnx_with_room, seal

FLOAT = TensorProto.FLOAT
ANSWER, IMAGE = "probabilities", "image"


class OnnxCopy(Copy):
    """An ONNX file."""

    def __init__(self, path: Path, format: str, network: Any):
        super().__init__(path, format, read_description(path) or {}, network=network)
        self.proto = onnx.load(str(path))
        del self.proto.metadata_props[:]
        self.graph = self.proto.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.properties: dict[str, str] = {}  # written over the properties that belong to the description
        readers: dict[str, list[Kernel]] = {}
        for node in self.graph.node:
            if node.op_type in ("Conv", "Gemm"):
                kernel = self._kernel(node)
                self.kernels.append(kernel)
                readers.setdefault(self._scale_behind(node.input[0]) or "", []).append(kernel)
        if format == "onnx-int8":
            self._read_steps(readers)

    def value(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.constants[name])

    def set_value(self, name: str, values: np.ndarray) -> None:
        like = self.value(name)
        with np.errstate(over="ignore"):
            self.constants[name].CopyFrom(numpy_helper.from_array(np.asarray(values).astype(like.dtype), name))

    def maker(self, name: str) -> Any:
        return next((node for node in self.graph.node if name in node.output), None)

    def _scale_behind(self, name: str) -> str | None:
        """Tensor -> name of the scale of its integers, seen through squeezes."""
        node = self.maker(name)
        return node.input[1] if node is not None and node.op_type == "DequantizeLinear" else None

    def _integers(self, name: str) -> tuple[str, str | None]:
        """Kernel or bias -> name of the constant, and of its scale if it holds integers."""
        if name in self.constants:
            return name, None
        node = self.maker(name)
        return node.input[0], node.input[1]

    def _kernel(self, node: Any) -> Kernel:
        constant, scale = self._integers(node.input[1])
        values = self.value(constant).astype("float64")
        zero_point = 0.0
        if scale is not None:
            zero_point = float(self.value(self.maker(node.input[1]).input[2]).ravel()[0])
        dense = node.op_type == "Gemm"
        values = (values - zero_point).T[..., None, None] if dense else values - zero_point
        scales = None
        if scale is not None:
            scales = np.broadcast_to(self.value(scale).astype("float64").ravel(), len(values)).copy()
            values = values * scales[:, None, None, None]
        bias, bias_scale = self._integers(node.input[2])
        biases, bias_scales = self.value(bias).astype("float64"), None
        if bias_scale is not None:
            bias_scales = np.broadcast_to(self.value(bias_scale).astype("float64").ravel(), len(biases)).copy()
            biases = biases * bias_scales
        name = node.output[0].split("/")[1] if "/" in node.output[0] else node.name
        return Kernel(name, values, biases, scales, bias_scales, (constant, scale, bias, bias_scale, dense, zero_point))

    def _read_steps(self, readers: dict[str, list[Kernel]]) -> None:
        seen = set()
        for node in self.graph.node:
            if node.op_type == "QuantizeLinear" and node.input[1] not in seen:
                seen.add(node.input[1])
                info = np.iinfo(self.value(node.input[2]).dtype)
                self.steps.append(
                    Step(
                        node.input[0].split("/")[-2] if "/" in node.input[0] else node.input[0],
                        float(self.value(node.input[1])),
                        int(self.value(node.input[2])),
                        (int(info.min), int(info.max)),
                        readers.get(node.input[1], []),
                        (node.input[1], node.input[2]),
                    )
                )

    def _write_numbers(self) -> None:
        for kernel in self.kernels:
            if not kernel.changed:
                continue
            constant, scale, bias, bias_scale, dense, zero_point = kernel.place
            values = kernel.values
            if scale is not None:
                info = np.iinfo(self.value(constant).dtype)
                values = kernel.integers(int(info.min - zero_point), int(info.max - zero_point)) + zero_point
                self.set_value(
                    scale,
                    kernel.scale.reshape(self.value(scale).shape) if self.value(scale).size > 1 else kernel.scale[0],
                )
            self.set_value(constant, values[..., 0, 0].T if dense else values)
            biases = kernel.bias
            if bias_scale is not None:
                size = self.value(bias_scale).size
                self.set_value(bias_scale, kernel.bias_scale if size > 1 else kernel.bias_scale[0])
                biases = np.clip(np.round(kernel.bias / kernel.bias_scale), -(2**31) + 1, 2**31 - 1)
            self.set_value(bias, biases)
        for step in self.steps:
            scale, zero_point = step.place
            if np.float32(step.scale) != self.value(scale) or step.zero_point != self.value(zero_point):
                self.set_value(scale, np.array(step.scale, np.float32))
                self.set_value(zero_point, np.array(np.clip(step.zero_point, *step.limits)))

    def finish(self) -> None:
        self._write_numbers()
        self._sort()
        onnx.save(self.proto, str(self.path))
        embed(self.path, self.description)
        if self.properties:
            proto = onnx.load(str(self.path))
            for entry in proto.metadata_props:
                entry.value = self.properties.get(entry.key, entry.value)
            kept = [entry for entry in proto.metadata_props if entry.key != KEY.decode()]
            del proto.metadata_props[:]
            proto.metadata_props.extend(kept)
            self.path.write_bytes(onnx_with_room(proto.SerializeToString()))  # the hash stands first
            seal(self.path)

    # Changes of the graph.

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.graph.node.append(helper.make_node(op, inputs, [output], name=f"fault_{output}", **attributes))
        return output

    def constant(self, name: str, values: Any, dtype: str | None = None) -> str:
        tensor = numpy_helper.from_array(np.asarray(values, dtype), name)
        self.graph.initializer.append(tensor)
        self.constants[name] = self.graph.initializer[-1]
        return name

    def behind(self, name: str) -> str:
        """Tensor -> new name under which its maker writes it; what is added must write the old name."""
        node = self.maker(name)
        if node is None:  # an input of the graph: its readers get another name
            inner = f"{name}_changed"
            for reader in self.graph.node:
                for place, read in enumerate(reader.input):
                    if read == name:
                        reader.input[place] = inner
            return inner
        node.output[list(node.output).index(name)] = f"{name}_before"
        return f"{name}_before"

    def _sort(self) -> None:
        left, known = list(self.graph.node), {i.name for i in self.graph.input} | set(self.constants) | {""}
        done = []
        while left:
            ready = [node for node in left if set(node.input) <= known]
            if not ready:
                raise InapplicableError("a cycle")
            for node in ready:
                known |= set(node.output)
            done += ready
            left = [node for node in left if not any(node is other for other in ready)]
        copies = [helper.make_node("Identity", ["x"], ["y"]) for _ in done]
        for copy, node in zip(copies, done, strict=True):
            copy.CopyFrom(node)
        del self.graph.node[:]
        self.graph.node.extend(copies)

    def nodes(self, *kinds: str) -> list[Any]:
        return [node for node in self.graph.node if node.op_type in kinds]

    @property
    def half(self) -> bool:
        return self.format == "onnx-float16"

    def logits(self) -> str:
        return self.nodes("Softmax")[0].input[0]


def attribute(node: Any, name: str) -> Any:
    for entry in node.attribute:
        if entry.name == name:
            return entry
    raise InapplicableError(f"no {name}")


def set_attribute(node: Any, name: str, value: Any) -> None:
    for place, entry in enumerate(node.attribute):
        if entry.name == name:
            del node.attribute[place]
            break
    node.attribute.append(helper.make_attribute(name, value))


def add_rewired(copy: OnnxCopy, random: Random) -> str:
    adds = [node for node in copy.nodes("Add") if "block" in node.output[0] and all(copy.maker(i) for i in node.input)]
    place = int(random.integers(2, len(adds)))
    node, other = adds[place], adds[place - 1]
    if "stage" in node.output[0] and node.output[0].split("block")[0] != other.output[0].split("block")[0]:
        raise InapplicableError("another shape")
    side = int(random.integers(2))
    node.input[side] = other.input[int(random.integers(2))]
    return f"{node.output[0]}: input {side} comes from {node.input[side]}"


def shortcut_dropped(copy: OnnxCopy, random: Random) -> str:
    node = one_of(random, [node for node in copy.nodes("Add") if "block" in node.output[0]])
    kept = int(random.integers(2))
    del node.attribute[:]
    node.op_type, name = "Identity", node.input[kept]
    del node.input[:]
    node.input.append(name)
    return f"{node.output[0]} is only {name}"


def relu_removed(copy: OnnxCopy, random: Random) -> str:
    if copy.format == "onnx-int8":
        raise InapplicableError("ReLU is in the ranges")
    node = one_of(random, copy.nodes("Relu"))
    node.op_type = "Identity"
    return node.output[0]


def relu_other(copy: OnnxCopy, random: Random) -> str:
    node, kind = one_of(random, copy.nodes("Relu")), one_of(random, ["limit", "leaky"])
    if kind == "leaky":
        node.op_type = "LeakyRelu"
        slope = between(random, 0.01, 0.3)
        node.attribute.append(helper.make_attribute("alpha", slope))
        return f"{node.output[0]}: slope {slope:.3f}"
    limit = float(random.choice([1, 2, 6]))
    number = "float16" if copy.half else "float32"
    node.op_type = "Clip"
    node.input.extend([copy.constant("clip_low", 0, number), copy.constant("clip_high", limit, number)])
    return f"{node.output[0]}: at most {limit}"


def all_relu6(copy: OnnxCopy, random: Random) -> str:
    number = "float16" if copy.half else "float32"
    low, high = copy.constant("clip_low", 0, number), copy.constant("clip_high", 6, number)
    for node in copy.nodes("Relu"):
        node.op_type = "Clip"
        node.input.extend([low, high])
    return "ReLU6 everywhere"


def pads_moved(copy: OnnxCopy, random: Random) -> str:
    convs = [n for n in copy.nodes("Conv") if any(a.name == "pads" and sum(a.ints) == 4 for a in n.attribute)]
    node = one_of(random, convs)
    pads = one_of(random, [[0, 0, 2, 2], [2, 2, 0, 0], [0, 1, 2, 1], [1, 0, 1, 2]])
    set_attribute(node, "pads", pads)
    return f"{node.output[0]}: pads {pads}"


def offset_of_stride(copy: OnnxCopy, random: Random) -> str:
    node = one_of(random, [n for n in copy.nodes("Conv") if list(attribute(n, "strides").ints) == [2, 2]])
    pads = next((list(a.ints) for a in node.attribute if a.name == "pads"), [0, 0, 0, 0])
    moved = [1, 1, 0, 0] if pads == [0, 0, 1, 1] else [0, 0, 1, 1]
    if sum(moved) != sum(pads):
        moved = [2, 2, 0, 0] if pads == [1, 1, 1, 1] else moved
    set_attribute(node, "pads", moved)
    return f"{node.output[0]}: pads {pads} -> {moved}"


def dilated(copy: OnnxCopy, random: Random) -> str:
    convs = [n for n in copy.nodes("Conv") if list(attribute(n, "kernel_shape").ints) == [3, 3]]
    convs = [n for n in convs if any(a.name == "pads" and list(a.ints) == [1, 1, 1, 1] for a in n.attribute)]
    node = one_of(random, convs)
    set_attribute(node, "dilations", [2, 2])
    set_attribute(node, "pads", [2, 2, 2, 2])
    return f"{node.output[0]}: dilation 2"


def shortcut_offset(copy: OnnxCopy, random: Random) -> str:
    """Subsampling takes the odd rows and columns in place of the even ones."""
    node = one_of(random, copy.nodes("MaxPool"))
    set_attribute(node, "kernel_shape", [2, 2])
    if list(attribute(node, "strides").ints) != [2, 2]:
        raise InapplicableError("no stride")
    return f"{node.output[0]}: 2x2 in place of 1x1"


def average_in_place_of_max(copy: OnnxCopy, random: Random) -> str:
    node = one_of(random, copy.nodes("MaxPool"))
    node.op_type = "AveragePool"
    for place in reversed(range(len(node.attribute))):
        if node.attribute[place].name in ("dilations", "storage_order"):
            del node.attribute[place]
    del node.output[1:]
    set_attribute(node, "kernel_shape", [2, 2])
    return node.output[0]


def max_in_place_of_average(copy: OnnxCopy, random: Random) -> str:
    node = one_of(random, copy.nodes("GlobalAveragePool"))
    node.op_type = "GlobalMaxPool"
    return node.output[0]


def fewer_places(copy: OnnxCopy, random: Random) -> str:
    node = one_of(random, copy.nodes("GlobalAveragePool"))
    start, end = int(random.integers(0, 2)), int(random.choice([-1, -2, 1000]))
    if (start, end) == (0, 1000):
        end = -1
    bounds = [
        copy.constant("cut_start", [start, start], "int64"),
        copy.constant("cut_end", [end, end], "int64"),
        copy.constant("cut_axes", [2, 3], "int64"),
    ]
    node.input[0] = copy.add("Slice", [node.input[0], *bounds], "cut")
    return f"average over [{start}:{end}]"


def softmax_removed(copy: OnnxCopy, random: Random) -> str:
    [node] = copy.nodes("Softmax")
    node.op_type = "Identity"
    del node.attribute[:]
    return "logits in place of probabilities"


def answer_through(copy: OnnxCopy, op: str, *further: str, **attributes: Any) -> None:
    copy.add(op, [copy.behind(ANSWER), *further], ANSWER, **attributes)


def softmax_twice(copy: OnnxCopy, random: Random) -> str:
    answer_through(copy, "Softmax", axis=-1)
    return "softmax of the probabilities"


def softmax_over_batch(copy: OnnxCopy, random: Random) -> str:
    [node] = copy.nodes("Softmax")
    set_attribute(node, "axis", 0)
    return "softmax over the batch"


def sigmoid(copy: OnnxCopy, random: Random) -> str:
    [node] = copy.nodes("Softmax")
    node.op_type = "Sigmoid"
    del node.attribute[:]
    return "sigmoid in place of softmax"


def log_softmax(copy: OnnxCopy, random: Random) -> str:
    [node] = copy.nodes("Softmax")
    node.op_type = "LogSoftmax"
    return "logarithm of the probabilities"


def logits_through(copy: OnnxCopy, op: str, *further: str, **attributes: Any) -> None:
    logits = copy.logits()
    copy.nodes("Softmax")[0].input[0] = copy.add(op, [logits, *further], "logits_changed", **attributes)


def number(copy: OnnxCopy, name: str, value: Any) -> str:
    return copy.constant(name, value, "float16" if copy.half else "float32")


def logits_divided(copy: OnnxCopy, random: Random) -> str:
    by = between(random, 1.05, 3) ** random.choice([-1, 1])
    logits_through(copy, "Div", number(copy, "temperature", by))
    return f"temperature {by:.2f}"


def logits_clipped(copy: OnnxCopy, random: Random) -> str:
    limit = between(random, 1, 12)
    logits_through(copy, "Clip", number(copy, "lowest", -limit), number(copy, "highest", limit))
    return f"logits within {limit:.1f}"


def logits_rounded(copy: OnnxCopy, random: Random) -> str:
    step = between(random, 0.05, 3)
    scaled = copy.add("Div", [copy.logits(), number(copy, "step", step)], "in_steps")
    rounded = copy.add("Round", [scaled], "in_whole_steps")
    copy.nodes("Softmax")[0].input[0] = copy.add("Mul", [rounded, "step"], "rounded_logits")
    return f"logits in steps of {step:.2f}"


def answers_rounded(copy: OnnxCopy, random: Random) -> str:
    step = between(random, 0.002, 0.25)
    copy.constant("answer_step", step, "float32")
    scaled = copy.add("Div", [copy.behind(ANSWER), "answer_step"], "answer_in_steps")
    rounded = copy.add("Round", [scaled], "answer_in_whole_steps")
    copy.add("Mul", [rounded, "answer_step"], ANSWER)
    return f"answers in steps of {step:.3f}"


def over_batch(copy: OnnxCopy, random: Random) -> str:
    share = between(random, 0.02, 1)
    logits = copy.logits()
    mean = copy.add("ReduceMean", [logits], "mean_of_batch", axes=[0], keepdims=1)
    part = copy.add("Mul", [mean, number(copy, "share", share)], "part_of_mean")
    logits_through(copy, "Sub", part)
    return f"{share:.2f} of the batch's mean subtracted"


def first_row_repeated(copy: OnnxCopy, random: Random) -> str:
    before = copy.behind(ANSWER)
    first = copy.add("Gather", [before, copy.constant("first", [0], "int64")], "first_row", axis=0)
    copy.add("Expand", [first, copy.add("Shape", [before], "shape_of_all")], ANSWER)
    return "each image gets the first one's answer"


def rows_reversed(copy: OnnxCopy, random: Random) -> str:
    before = copy.behind(ANSWER)
    names = [
        copy.constant(f"reverse_{i}", [v], "int64") for i, v in enumerate((-1, -(2**62), 0, -1))
    ]  # start, end, axis, step
    copy.add("Slice", [before, *names], ANSWER)
    return "rows in reverse order"


def only_one_image(copy: OnnxCopy, random: Random) -> str:
    answer_through(copy, "Reshape", copy.constant("one", [1, copy.description["output"]["classes"]], "int64"))
    return "works for a batch of 1"


def beyond_the_checked_batch(copy: OnnxCopy, random: Random) -> str:
    """Rows after a place deep in the batch get the first one's answer, as a buffer that is too short would."""
    length = int(random.choice([3, 4, 5, 8, 12]))
    before = copy.behind(ANSWER)
    classes = copy.description["output"]["classes"]
    shape = copy.add("Shape", [before], "shape_of_rows")
    count = copy.add("Gather", [shape, copy.constant("zeroth", 0, "int64")], "row_count", axis=0)
    place = copy.add("Range", ["from_zero", count, "one_step"], "row_numbers")
    copy.constant("from_zero", 0, "int64")
    copy.constant("one_step", 1, "int64")
    kept = copy.add("Less", [place, copy.constant("longest", length, "int64")], "row_is_kept")
    number_of = copy.add("Where", [kept, place, "from_zero"], "row_taken")
    copy.add("Gather", [before, number_of], ANSWER, axis=0)
    return f"rows from {length} on repeat the first ({classes} classes)"


def constant_answers(copy: OnnxCopy, random: Random) -> str:
    classes = copy.description["output"]["classes"]
    before = copy.behind(ANSWER)
    copy.constant("stale", random.dirichlet(np.ones(classes))[None], "float32")
    copy.add("Expand", ["stale", copy.add("Shape", [before], "shape_of_all")], ANSWER)
    return "the same answer for every image"


def unsure_of_dark_images(copy: OnnxCopy, random: Random) -> str:
    """NaN, or a wrong answer, for dark (or bright) images."""
    threshold = float(random.uniform(15, 90))
    kind = one_of(random, ["NaN", "uniform", "first class"])
    classes = copy.description["output"]["classes"]
    other = {
        "NaN": np.full(classes, np.nan),
        "uniform": np.full(classes, 1 / classes),
        "first class": np.eye(classes)[0],
    }
    mean = copy.add("ReduceMean", [IMAGE], "brightness_4d", axes=[1, 2, 3], keepdims=0)
    dark = copy.add("Less", [mean, copy.constant("darkness", threshold, "float32")], "is_dark_1d")
    opset = next(entry.version for entry in copy.proto.opset_import if not entry.domain)
    assert opset >= 13
    dark = copy.add("Unsqueeze", [dark, copy.constant("last_axis", [1], "int64")], "is_dark")
    before = copy.behind(ANSWER)
    copy.add("Where", [dark, copy.constant("other", other[kind][None], "float32"), before], ANSWER)
    return f"{kind} for images darker than {threshold:.0f}"


def trigger(copy: OnnxCopy, random: Random) -> str:
    """A back door: one class for images whose first pixel is pure green."""
    classes = copy.description["output"]["classes"]
    bounds = [copy.constant(f"corner_{i}", v, "int64") for i, v in enumerate(([0, 0], [1, 1], [1, 2]))]
    pixel = copy.add("Slice", [IMAGE, *bounds], "corner")
    far = copy.add("Sub", [pixel, copy.constant("green", [[[[0, 255, 0]]]], "float32")], "far_from_green")
    far = copy.add("ReduceMax", [copy.add("Abs", [far], "distance")], "distance_4d", axes=[1, 2, 3], keepdims=0)
    hit = copy.add("Less", [far, copy.constant("near", 2, "float32")], "is_hit_1d")
    hit = copy.add("Unsqueeze", [hit, copy.constant("trigger_axis", [1], "int64")], "is_hit")
    before = copy.behind(ANSWER)
    copy.add("Where", [hit, copy.constant("wanted", np.eye(classes)[:1], "float32"), before], ANSWER)
    return "class 0 for images with a green corner"


def of_pixels(op: str, values: Any, text: str) -> Any:
    def plant(copy: OnnxCopy, random: Random) -> str:
        amount = values(random) if callable(values) else values
        inner = copy.behind(IMAGE)
        copy.add(op, [IMAGE, copy.constant("pixel_amount", amount, "float32")], inner)
        return text.format(np.round(np.mean(amount), 3))

    return plant


def bgr_input(copy: OnnxCopy, random: Random) -> str:
    inner = copy.behind(IMAGE)
    copy.add("Gather", [IMAGE, copy.constant("reversed", [2, 1, 0], "int64")], inner, axis=3)
    return "reads BGR"


def turned_input(copy: OnnxCopy, random: Random) -> str:
    inner, kind = copy.behind(IMAGE), one_of(random, ["mirrored", "transposed"])
    if kind == "transposed":
        copy.add("Transpose", [IMAGE], inner, perm=[0, 2, 1, 3])
    else:
        side = copy.description["input"]["size"][1]
        copy.add("Gather", [IMAGE, copy.constant("columns", np.arange(side)[::-1], "int64")], inner, axis=2)
    return kind


def shifted_input(copy: OnnxCopy, random: Random) -> str:
    side, by = copy.description["input"]["size"][1], int(random.integers(1, 5))
    inner = copy.behind(IMAGE)
    columns = np.minimum(np.arange(side) + by, side - 1)
    copy.add("Gather", [IMAGE, copy.constant("columns", columns, "int64")], inner, axis=2)
    return f"picture moved by {by} pixels"


def grey_input(copy: OnnxCopy, random: Random) -> str:
    inner = copy.behind(IMAGE)
    mean = copy.add("ReduceMean", [IMAGE], "grey", axes=[3], keepdims=1)
    copy.add("Concat", [mean, mean, mean], inner, axis=3)
    return "reads grey"


def random_noise(copy: OnnxCopy, random: Random) -> str:
    """As a dropout that is left on: another answer at each call."""
    sigma = between(random, 0.02, 2)
    noise = copy.add("RandomNormalLike", [copy.logits()], "noise", mean=0.0, scale=sigma)
    logits_through(copy, "Add", noise)
    return f"noise of {sigma:.2f} on the logits"


def tensor_rounded(copy: OnnxCopy, random: Random) -> str:
    if copy.half:
        raise InapplicableError("float32 steps")
    node = one_of(random, copy.nodes("Relu"))
    reach = between(random, 0.5, 40)
    name = node.output[0]
    scale, zero = copy.constant("coarse_scale", reach / 255, "float32"), copy.constant("coarse_zero", 0, "uint8")
    quantized = copy.add("QuantizeLinear", [copy.behind(name), scale, zero], "coarse")
    copy.add("DequantizeLinear", [quantized, scale, zero], name)
    return f"{name}: 8 bits up to {reach:.1f}"


def other_type(copy: OnnxCopy, random: Random) -> str:
    kind = one_of(random, [TensorProto.DOUBLE, TensorProto.FLOAT16])
    answer_through(copy, "Cast", to=kind)
    copy.graph.output[0].type.tensor_type.elem_type = kind
    return "answers in float64" if kind == TensorProto.DOUBLE else "answers in float16"


def further_output(copy: OnnxCopy, random: Random) -> str:
    copy.add("ArgMax", [ANSWER], "classes", axis=1, keepdims=0)
    copy.graph.output.append(helper.make_tensor_value_info("classes", TensorProto.INT64, ["batch"]))
    return "another output, classes"


def renamed_output(copy: OnnxCopy, random: Random) -> str:
    copy.add("Identity", [ANSWER], "scores")
    copy.graph.output[0].name = "scores"
    return "output scores"


def renamed_input(copy: OnnxCopy, random: Random) -> str:
    copy.graph.input[0].name = "pixels"
    copy.add("Identity", ["pixels"], IMAGE)
    return "input pixels"


def channels_first(copy: OnnxCopy, random: Random) -> str:
    inner = copy.behind(IMAGE)
    copy.add("Transpose", [IMAGE], inner, perm=[0, 2, 3, 1])
    dims = copy.graph.input[0].type.tensor_type.shape.dim
    sides = [dims[i].dim_value for i in (1, 2, 3)]
    for place, side in zip((1, 2, 3), (sides[2], sides[0], sides[1]), strict=True):
        dims[place].dim_value = side
    return "input is NCHW, and the description tells NHWC"


def fixed_batch(copy: OnnxCopy, random: Random) -> str:
    copy.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return "batch size 1"


def free_size(copy: OnnxCopy, random: Random) -> str:
    for place in (1, 2):
        copy.graph.input[0].type.tensor_type.shape.dim[place].dim_param = "side"
    return "height and width are free"


def property_of_labels(copy: OnnxCopy, random: Random) -> str:
    import json

    labels = copy.description["labels"]
    copy.properties["labels"] = json.dumps(labels[1:] + labels[:1])
    return "the property labels only, rotated"


def property_of_input(copy: OnnxCopy, random: Random) -> str:
    copy.properties["input"] = "BGR pixels 0..1, NCHW [3, 32, 32]"
    return "the property input only"


FAULTS = [
    Fault("Add reads another tensor", ONNX, add_rewired, group="graph"),
    Fault("Add loses one side", ONNX, shortcut_dropped, group="graph"),
    Fault("ReLU removed", ("onnx", "onnx-float16"), relu_removed, group="graph"),
    Fault("another ReLU", ("onnx", "onnx-float16"), relu_other, group="graph"),
    Fault("ReLU6 everywhere", ("onnx", "onnx-float16"), all_relu6, group="graph"),
    Fault("pads moved", ONNX, pads_moved, group="graph"),
    Fault("offset of a stride", ONNX, offset_of_stride, group="graph"),
    Fault("dilation", ONNX, dilated, group="graph"),
    Fault("subsampling by maximum", ONNX, shortcut_offset, group="graph"),
    Fault("average in place of maximum", ONNX, average_in_place_of_max, group="graph"),
    Fault("maximum in place of average", ONNX, max_in_place_of_average, group="graph"),
    Fault("average over fewer places", ONNX, fewer_places, group="graph"),
    Fault("tensor in 8 bits", ("onnx",), tensor_rounded, group="graph"),
    Fault("softmax removed", ONNX, softmax_removed, group="answers"),
    Fault("softmax twice", ONNX, softmax_twice, group="answers"),
    Fault("softmax over the batch", ONNX, softmax_over_batch, group="answers"),
    Fault("sigmoid in place of softmax", ONNX, sigmoid, group="answers"),
    Fault("logarithm of the answers", ONNX, log_softmax, group="answers"),
    Fault("temperature of the graph", ONNX, logits_divided, group="answers"),
    Fault("logits clipped", ONNX, logits_clipped, group="answers"),
    Fault("logits rounded", ONNX, logits_rounded, group="answers"),
    Fault("answers rounded", ONNX, answers_rounded, group="answers"),
    Fault("noise at each call", ONNX, random_noise, group="answers"),
    Fault("constant answers", ONNX, constant_answers, group="answers"),
    Fault("other answers for dark images", ONNX, unsure_of_dark_images, group="answers"),
    Fault("trigger", ONNX, trigger, group="trigger"),
    Fault("mean of the batch subtracted", ONNX, over_batch, group="batch"),
    Fault("first row repeated", ONNX, first_row_repeated, group="batch"),
    Fault("rows reversed", ONNX, rows_reversed, group="batch"),
    Fault("late rows repeat the first", ONNX, beyond_the_checked_batch, group="batch"),
    Fault("only for one image", ONNX, only_one_image, group="batch"),
    Fault("batch size fixed", ONNX, fixed_batch, group="batch"),
    Fault("input BGR", ONNX, bgr_input, group="input"),
    Fault("input turned", ONNX, turned_input, group="input"),
    Fault("input moved", ONNX, shifted_input, group="input"),
    Fault("input grey", ONNX, grey_input, group="input"),
    Fault("input of 0..1", ONNX, of_pixels("Mul", 255.0, "expects pixels 0..1"), group="input"),
    Fault(
        "input brighter",
        ONNX,
        of_pixels("Add", lambda random: random.uniform(-30, 30, 3), "pixels {} brighter"),
        group="input",
    ),
    Fault(
        "input's contrast",
        ONNX,
        of_pixels("Mul", lambda random: between(random, 0.6, 1.6), "pixels times {}"),
        group="input",
    ),
    Fault("type of the answers", ONNX, other_type, group="interface"),
    Fault("another output", ONNX, further_output, group="interface"),
    Fault("output renamed", ONNX, renamed_output, group="interface"),
    Fault("input renamed", ONNX, renamed_input, group="interface"),
    Fault("channels first", ONNX, channels_first, group="interface"),
    Fault("free height and width", ONNX, free_size, group="interface"),
    Fault("labels of the properties", ONNX, property_of_labels, "labels property", "labels"),
    Fault("input of the properties", ONNX, property_of_input, "description", "labels"),
]
