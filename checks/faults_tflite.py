"""TFLite files whose numbers, graph and signature can be changed, and the faults of these; see `planted_faults.py`."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faults import TFLITE, Copy, Fault, InapplicableError, Kernel, Random, Step, between, one_of
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from keras_resnet.export import tflite_metadata
from keras_resnet.export.description import embed, read_description
from keras_resnet.export.integrity import seal

OPS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
TYPES = {
    schema.TensorType.FLOAT32: "float32",
    schema.TensorType.FLOAT16: "float16",
    schema.TensorType.INT8: "int8",
    schema.TensorType.UINT8: "uint8",
    schema.TensorType.INT16: "int16",
    schema.TensorType.INT32: "int32",
    schema.TensorType.INT64: "int64",
}
STEPPED = ("tflite-int8", "tflite-int16x8")
FLOATS = ("tflite", "tflite-float16", "tflite-dynamic")  # formats whose activations are float32


class TfliteCopy(Copy):
    """A TFLite file."""

    def __init__(self, path: Path, format: str, network: Any):
        super().__init__(path, format, read_description(path) or {}, network=network)
        self.model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
        for entry in self.model.metadata or []:
            if entry.name in (b"TFLITE_METADATA", "TFLITE_METADATA"):
                self.model.buffers[entry.buffer].data = None
        self.model.metadata = [e for e in self.model.metadata or [] if e.name not in (b"TFLITE_METADATA",)]
        self.graph = self.model.subgraphs[0]
        self.operators, self.tensors = self.graph.operators, self.graph.tensors
        self.labels: list[str] | None = None  # written to labels.txt in place of the description's
        self.buffer: bytes | None = None  # written in place of the metadata buffer
        readers: dict[int, list[Kernel]] = {}
        for operator in self.operators:
            if self.kind(operator) in ("CONV_2D", "FULLY_CONNECTED"):
                kernel = self._kernel(operator)
                self.kernels.append(kernel)
                readers.setdefault(int(operator.inputs[0]), []).append(kernel)
        if format in STEPPED:
            for operator in self.operators:
                if self.kind(operator) in ("CONV_2D", "FULLY_CONNECTED", "ADD"):
                    self._read_step(int(operator.outputs[0]), readers)

    def kind(self, operator: Any) -> str:
        code = self.model.operatorCodes[operator.opcodeIndex]
        return OPS[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def of_kind(self, *kinds: str) -> list[Any]:
        return [operator for operator in self.operators if self.kind(operator) in kinds]

    def name(self, tensor: int) -> str:
        text = self.tensors[tensor].name.decode()
        return next((part for part in reversed(text.split(";")[0].split("/")[:-1]) if part), text)

    def stored(self, tensor: int) -> np.ndarray:
        entry = self.tensors[tensor]
        data = self.model.buffers[entry.buffer].data
        if data is None:
            raise InapplicableError("not constant")
        return np.frombuffer(bytes(bytearray(data)), TYPES[entry.type]).reshape(entry.shape)

    def store(self, tensor: int, values: np.ndarray) -> None:
        entry = self.tensors[tensor]
        with np.errstate(over="ignore"):
            content = np.ascontiguousarray(np.asarray(values).astype(TYPES[entry.type])).tobytes()
        self.model.buffers[entry.buffer].data = np.frombuffer(content, "uint8")

    def _source(self, tensor: int) -> int:
        """Tensor of a kernel or bias -> constant behind it, seen through a DEQUANTIZE of float16."""
        while self.model.buffers[self.tensors[tensor].buffer].data is None:
            maker = next((op for op in self.operators if tensor in op.outputs), None)
            if maker is None or self.kind(maker) not in ("DEQUANTIZE", "RESHAPE"):
                raise InapplicableError("not constant")
            tensor = int(maker.inputs[0])
        return tensor

    def _real(self, tensor: int) -> tuple[np.ndarray, np.ndarray | None]:
        values, entry = self.stored(tensor).astype("float64"), self.tensors[tensor]
        scale = None if entry.quantization is None else entry.quantization.scale
        if scale is None or not len(scale) or TYPES[entry.type].startswith("float"):
            return values, None
        scales = np.broadcast_to(np.asarray(scale, "float64"), values.shape[0]).copy()
        return values * scales.reshape(-1, *[1] * (values.ndim - 1)), scales

    def _kernel(self, operator: Any) -> Kernel:
        kernel, bias = self._source(int(operator.inputs[1])), self._source(int(operator.inputs[2]))
        values, scale = self._real(kernel)
        biases, bias_scale = self._real(bias)
        dense = values.ndim == 2
        values = values[..., None, None] if dense else values.transpose(0, 3, 1, 2)
        name = self.name(int(operator.outputs[0]))
        return Kernel(name, values.copy(), biases.copy(), scale, bias_scale, (kernel, bias, dense))

    def _read_step(self, tensor: int, readers: dict[int, list[Kernel]]) -> None:
        entry = self.tensors[tensor]
        if TYPES[entry.type] not in ("int8", "uint8", "int16"):
            return
        info = np.iinfo(TYPES[entry.type])
        quantization = entry.quantization
        self.steps.append(
            Step(
                self.name(tensor),
                float(quantization.scale[0]),
                int(quantization.zeroPoint[0]),
                (int(info.min), int(info.max)),
                readers.get(tensor, []),
                tensor,
            )
        )

    def _set_scales(self, tensor: int, scales: np.ndarray) -> None:
        quantization = self.tensors[tensor].quantization
        if len(quantization.scale) == 1:
            scales = scales[:1]
        quantization.scale = np.asarray(scales, "float32")

    def _write_numbers(self) -> None:
        for kernel in self.kernels:
            if not kernel.changed:
                continue
            tensor, bias, dense = kernel.place
            values = kernel.values
            if kernel.scale is not None:
                values = kernel.integers(-127, 127)
                self._set_scales(tensor, kernel.scale)
            self.store(tensor, values[..., 0, 0] if dense else values.transpose(0, 2, 3, 1))
            biases = kernel.bias
            if kernel.bias_scale is not None:
                limit = 2.0**31 - 1 if TYPES[self.tensors[bias].type] == "int32" else 2.0**40
                biases = np.clip(np.round(kernel.bias / kernel.bias_scale), -limit, limit)
                self._set_scales(bias, kernel.bias_scale)
            self.store(bias, biases)
        for step in self.steps:
            quantization = self.tensors[step.place].quantization
            quantization.scale = np.array([step.scale], "float32")
            quantization.zeroPoint = np.array([np.clip(step.zero_point, *step.limits)], "int64")

    def finish(self) -> None:
        self._write_numbers()
        self.path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(self.model)))
        made = tflite_metadata.metadata_buffer
        try:
            if self.buffer is not None:
                tflite_metadata.metadata_buffer = lambda description: self.buffer or b""
            embed(self.path, self.description)
        finally:
            tflite_metadata.metadata_buffer = made
        if self.labels is not None:
            self._write_labels()

    def _write_labels(self) -> None:
        content = self.path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
            start = min(entry.header_offset for entry in archive.infolist())
        files["labels.txt"] = ("\n".join(self.labels or []) + "\n").encode()
        self.path.write_bytes(content[:start])
        with zipfile.ZipFile(self.path, "a") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        seal(self.path)

    # Changes of the graph.

    def opcode(self, name: str) -> int:
        wanted = getattr(schema.BuiltinOperator, name)
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = wanted, min(wanted, 127), 1
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def tensor_like(self, tensor: int, name: str) -> int:
        like, entry = self.tensors[tensor], schema.TensorT()
        entry.shape, entry.type, entry.name = list(like.shape), like.type, name.encode()
        entry.shapeSignature, entry.quantization = like.shapeSignature, like.quantization
        entry.buffer = len(self.model.buffers)
        self.model.buffers.append(schema.BufferT())
        self.tensors.append(entry)
        return len(self.tensors) - 1

    def constant(self, name: str, values: np.ndarray) -> int:
        entry = schema.TensorT()
        entry.shape, entry.name = list(values.shape), name.encode()
        entry.type = next(number for number, text in TYPES.items() if text == values.dtype.name)
        entry.buffer = len(self.model.buffers)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), "uint8")
        self.model.buffers.append(buffer)
        self.tensors.append(entry)
        return len(self.tensors) - 1

    def add(
        self, op: str, inputs: list[int], outputs: list[int], options: Any = None, place: int | None = None
    ) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self.opcode(op), inputs, outputs
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.insert(len(self.operators) if place is None else place, operator)

    def reader_of(self, tensor: int) -> Any:
        return next(operator for operator in self.operators if tensor in operator.inputs)

    @property
    def output(self) -> int:
        return int(self.graph.outputs[0])

    @property
    def input(self) -> int:
        return int(self.graph.inputs[0])

    def through_answer(self, op: str, further: list[int], options: Any = None) -> None:
        """The file's last tensor is written to a new tensor first, and through an operation to its own place."""
        maker = next(operator for operator in self.operators if self.output in operator.outputs)
        inner = self.tensor_like(self.output, "answer_before")
        maker.outputs = [inner]
        self.add(op, [inner, *further], [self.output], options)

    def through_input(self, op: str, further: list[int], options: Any = None, at: int = 0) -> None:
        first = self.reader_of(self.input)
        inner = self.tensor_like(self.input, "image_changed")
        for operator in self.operators:
            operator.inputs = [inner if tensor == self.input else tensor for tensor in operator.inputs]
        self.add(op, [self.input, *further], [inner], options, self.operators.index(first))


# --- the graph ----------------------------------------------------------------------------------------------------


def add_rewired(copy: TfliteCopy, random: Random) -> str:
    adds = copy.of_kind("ADD")[1:]
    place = int(random.integers(1, len(adds)))
    node, other = adds[place], adds[place - 1]
    side = int(random.integers(2))
    source = int(other.inputs[int(random.integers(2))])
    if list(copy.tensors[source].shape) != list(copy.tensors[node.inputs[side]].shape):
        raise InapplicableError("another shape")
    inputs = list(node.inputs)
    inputs[side] = source
    node.inputs = inputs
    return f"{copy.name(int(node.outputs[0]))}: input {side} comes from {copy.name(source)}"


def activation(values: tuple[int, ...], everywhere: bool = False) -> Callable[[TfliteCopy, Random], str]:
    def plant(copy: TfliteCopy, random: Random) -> str:
        fused = [op for op in copy.of_kind("CONV_2D", "ADD") if op.builtinOptions.fusedActivationFunction == 1]
        value = int(one_of(random, values))
        for operator in fused if everywhere else [one_of(random, fused)]:
            operator.builtinOptions.fusedActivationFunction = value
        name = {0: "no activation", 2: "ReLU of -1..1", 3: "ReLU6"}[value]
        return name + (" everywhere" if everywhere else f" in {copy.name(int(operator.outputs[0]))}")

    return plant


def activation_added(copy: TfliteCopy, random: Random) -> str:
    bare = [op for op in copy.of_kind("CONV_2D") if op.builtinOptions.fusedActivationFunction == 0]
    operator = one_of(random, bare)
    operator.builtinOptions.fusedActivationFunction = 1
    return f"ReLU before the sum in {copy.name(int(operator.outputs[0]))}"


def dilated(copy: TfliteCopy, random: Random) -> str:
    convs = [
        op
        for op in copy.of_kind("CONV_2D")
        if op.builtinOptions.padding == 0
        and op.builtinOptions.strideH == 1
        and copy.tensors[copy._source(int(op.inputs[1]))].shape[1] > 1
    ]
    operator = one_of(random, convs)
    operator.builtinOptions.dilationHFactor = operator.builtinOptions.dilationWFactor = 2
    return f"dilation 2 in {copy.name(int(operator.outputs[0]))}"


def pads_moved(copy: TfliteCopy, random: Random) -> str:
    operator = one_of(random, copy.of_kind("PAD", "PADV2"))
    amounts = copy.stored(int(operator.inputs[1])).copy()
    axes = [axis for axis in range(len(amounts)) if amounts[axis].sum() > 0]
    axis = int(one_of(random, axes))
    before = amounts[axis].tolist()
    total = sum(before)
    step = 3 if copy.tensors[int(operator.inputs[0])].shape[axis] % 3 == 0 and len(amounts) == 3 and axis == 2 else 1
    choices = [[a, total - a] for a in range(0, total + 1, step) if a != before[0]]
    amounts[axis] = one_of(random, choices)
    copy.store(int(operator.inputs[1]), amounts)
    return f"padding of axis {axis}: {before} -> {amounts[axis].tolist()}"


def stride_offset(copy: TfliteCopy, random: Random) -> str:
    """A convolution of stride 2 under explicit padding gets `SAME` padding, or the reverse, where the shape allows."""
    strided = [op for op in copy.of_kind("CONV_2D") if op.builtinOptions.strideH == 2]
    operator = one_of(random, strided)
    source = next((op for op in copy.of_kind("PAD") if operator.inputs[0] in op.outputs), None)
    if source is None:
        raise InapplicableError("no padding before it")
    operator.inputs = [source.inputs[0], *list(operator.inputs)[1:]]
    operator.builtinOptions.padding = 0
    return f"SAME in place of explicit pads in {copy.name(int(operator.outputs[0]))}"


def average_in_place_of_max(copy: TfliteCopy, random: Random) -> str:
    operator = one_of(random, copy.of_kind("MAX_POOL_2D"))
    operator.opcodeIndex = copy.opcode("AVERAGE_POOL_2D")
    return copy.name(int(operator.outputs[0]))


def max_in_place_of_average(copy: TfliteCopy, random: Random) -> str:
    operator = one_of(random, copy.of_kind("MEAN"))
    operator.opcodeIndex = copy.opcode("REDUCE_MAX")
    return copy.name(int(operator.outputs[0]))


def fewer_places(copy: TfliteCopy, random: Random) -> str:
    operator = one_of(random, copy.of_kind("MEAN"))
    tensor = int(operator.inputs[0])
    batch, height, width, channels = (int(side) for side in copy.tensors[tensor].shape)
    start = int(random.integers(0, 2))
    cut = copy.tensor_like(tensor, "cut")
    copy.tensors[cut].shape = [batch, height - 1, width - 1, channels]
    copy.tensors[cut].shapeSignature = None
    bounds = [
        copy.constant("cut_start", np.array([0, start, start, 0], "int32")),
        copy.constant("cut_size", np.array([-1, height - 1, width - 1, -1], "int32")),
    ]
    copy.add("SLICE", [tensor, *bounds], [cut], schema.SliceOptionsT(), copy.operators.index(operator))
    operator.inputs = [cut, *list(operator.inputs)[1:]]
    return f"average over {height - 1}x{width - 1} of {height}x{width} places"


def softmax(copy: TfliteCopy) -> Any:
    return one_of(np.random.default_rng(0), copy.of_kind("SOFTMAX"))


def beta(copy: TfliteCopy, random: Random) -> str:
    factor = between(random, 1.05, 3) ** random.choice([-1, 1])
    softmax(copy).builtinOptions.beta = factor
    return f"beta {factor:.2f}"


def softmax_twice(copy: TfliteCopy, random: Random) -> str:
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    if copy.format in STEPPED:
        raise InapplicableError("types of the integers")
    copy.through_answer("SOFTMAX", [], options)
    return "softmax of the probabilities"


def other_activation(copy: TfliteCopy, random: Random) -> str:
    operator = softmax(copy)
    kind = one_of(random, ["LOGISTIC", "LOG_SOFTMAX"] if copy.format in FLOATS else ["LOGISTIC"])
    operator.opcodeIndex = copy.opcode(kind)
    operator.builtinOptions, operator.builtinOptionsType = None, 0
    return f"{kind} in place of the softmax"


def answers_rounded(copy: TfliteCopy, random: Random) -> str:
    step = between(random, 0.002, 0.25)
    scaled = copy.tensor_like(copy.output, "in_steps")
    whole = copy.tensor_like(copy.output, "in_whole_steps")
    inner = copy.tensor_like(copy.output, "answer_before")
    next(operator for operator in copy.operators if copy.output in operator.outputs).outputs = [inner]
    amount, back = (copy.constant(n, np.array([v], "float32")) for n, v in (("per", 1 / step), ("step", step)))
    copy.add("MUL", [inner, amount], [scaled], schema.MulOptionsT())
    copy.add("FLOOR", [scaled], [whole])
    copy.add("MUL", [whole, back], [copy.output], schema.MulOptionsT())
    return f"answers rounded down to steps of {step:.3f}"


def constant_answers(copy: TfliteCopy, random: Random) -> str:
    zero = copy.constant("nothing", np.zeros(1, "float32"))
    inner, blank = copy.tensor_like(copy.output, "answer_before"), copy.tensor_like(copy.output, "blank")
    next(operator for operator in copy.operators if copy.output in operator.outputs).outputs = [inner]
    classes = copy.description["output"]["classes"]
    stale = copy.constant("stale", random.dirichlet(np.ones(classes)).astype("float32")[None])
    copy.add("MUL", [inner, zero], [blank], schema.MulOptionsT())
    copy.add("ADD", [blank, stale], [copy.output], schema.AddOptionsT())
    return "the same answer for every image"


def pixels_times(copy: TfliteCopy, random: Random) -> str:
    factor = float(random.choice([255.0, 1 / 255, between(random, 0.6, 1.6)]))
    amount = copy.constant("pixel_factor", np.array([factor], "float32"))
    copy.through_input("MUL", [amount], schema.MulOptionsT())
    return f"pixels times {factor:.3f}"


def pixels_plus(copy: TfliteCopy, random: Random) -> str:
    amount = random.uniform(-30, 30, 3).astype("float32")
    copy.through_input("ADD", [copy.constant("pixel_offset", amount)], schema.AddOptionsT())
    return f"pixels plus {amount.round().tolist()}"


def input_mirrored(copy: TfliteCopy, random: Random) -> str:
    axis = int(random.choice([2, 3]))
    copy.through_input("REVERSE_V2", [copy.constant("axis", np.array([axis], "int32"))], schema.ReverseV2OptionsT())
    return "reads BGR" if axis == 3 else "mirrored"


# --- signature, subgraph, metadata --------------------------------------------------------------------------------


def signature_elsewhere(copy: TfliteCopy, random: Random) -> str:
    """`serving_default` gives another tensor; the subgraph's output stays."""
    logits = int(softmax(copy).inputs[0])
    pooled = int(copy.of_kind("MEAN")[0].outputs[0])
    middle = int(copy.of_kind("CONV_2D")[-1].outputs[0])
    tensor, name = one_of(
        random,
        [(logits, "logits"), (pooled, "pooled"), (middle, "before the last ReLU"), (copy.input, "the input")],
    )
    [signature] = copy.model.signatureDefs
    signature.outputs[0].tensorIndex = tensor
    return f"signature gives {name}"


def signature_gives_logits(copy: TfliteCopy, random: Random) -> str:
    [signature] = copy.model.signatureDefs
    signature.outputs[0].tensorIndex = int(softmax(copy).inputs[0])
    return "signature gives logits"


def subgraph_elsewhere(copy: TfliteCopy, random: Random) -> str:
    """The subgraph's output is another tensor; the signature stays."""
    logits = int(softmax(copy).inputs[0])
    pooled = int(copy.of_kind("MEAN")[0].outputs[0])
    tensor, name = one_of(random, [(logits, "logits"), (pooled, "pooled")])
    copy.graph.outputs = [tensor]
    return f"subgraph gives {name}, the signature probabilities"


def both_give_logits(copy: TfliteCopy, random: Random) -> str:
    logits = int(softmax(copy).inputs[0])
    copy.graph.outputs = [logits]
    copy.model.signatureDefs[0].outputs[0].tensorIndex = logits
    return "logits in place of probabilities"


def subgraph_further_output(copy: TfliteCopy, random: Random) -> str:
    copy.graph.outputs = [int(softmax(copy).inputs[0]), copy.output]
    return "subgraph gives logits first, then probabilities"


def no_signature(copy: TfliteCopy, random: Random) -> str:
    copy.model.signatureDefs = []
    return "no signature"


def signature_renamed(copy: TfliteCopy, random: Random) -> str:
    part = one_of(random, ["key", "input", "output"])
    [signature] = copy.model.signatureDefs
    if part == "key":
        signature.signatureKey = b"predict"
    else:
        (signature.inputs if part == "input" else signature.outputs)[0].name = b"x"
    return f"another name of the signature's {part}"


def scale_of_output(copy: TfliteCopy, random: Random) -> str:
    quantization = copy.tensors[copy.output].quantization
    kind = one_of(random, ["scale", "zero point"])
    if kind == "scale":
        factor = between(random, 1.02, 3)
        quantization.scale = np.array([quantization.scale[0] * factor], "float32")
        return f"output's scale x {factor:.2f}"
    quantization.zeroPoint = np.array([quantization.zeroPoint[0] + int(random.integers(1, 40))], "int64")
    return f"output's zero point {quantization.zeroPoint[0]}"


def scale_of_input(copy: TfliteCopy, random: Random) -> str:
    quantization = copy.tensors[copy.input].quantization
    kind = one_of(random, ["scale", "zero point"])
    if kind == "scale":
        factor = one_of(random, [1 / 255, 1 / 127.5, between(random, 1.02, 2)])
        quantization.scale = np.array([factor], "float32")
        return f"input's scale {factor:.4f}"
    quantization.zeroPoint = np.array([int(random.integers(1, 129))], "int64")
    return f"input's zero point {quantization.zeroPoint[0]}"


def both_scales_of_input(copy: TfliteCopy, random: Random) -> str:
    """The scale of the input and of what reads it: the file takes other bytes than pixels."""
    factor = one_of(random, [1 / 255, 1 / 127.5, between(random, 1.02, 2)])
    for tensor in (copy.input, int(copy.reader_of(copy.input).outputs[0])):
        copy.tensors[tensor].quantization.scale = np.array([factor], "float32")
    return f"input's scale {factor:.4f}, and its reader's"


def other_metadata(copy: TfliteCopy, random: Random) -> str:
    import json

    description = json.loads(json.dumps(copy.description))
    kind = one_of(random, ["size", "colour", "name"])
    if kind == "size":
        description["input"]["size"] = [64, 64, 3]
    elif kind == "colour":
        description["input"]["colour_order"] = None
    else:
        description["output"]["name"] = "probabilities"
        description["input"]["name"] = "pixels_0_to_1"
    copy.buffer = tflite_metadata.metadata_buffer(description)
    return f"metadata buffer with another {kind}"


def garbage_metadata(copy: TfliteCopy, random: Random) -> str:
    copy.buffer = random.bytes(400)
    return "metadata buffer of random bytes"


def labels_file(change: str) -> Callable[[TfliteCopy, Random], str]:
    def plant(copy: TfliteCopy, random: Random) -> str:
        from faults import LABELS

        copy.labels = LABELS[change](list(copy.description["labels"]), random)
        return "labels.txt only"

    return plant


FAULTS = [
    Fault("Add reads another tensor", TFLITE, add_rewired, group="graph"),
    Fault("ReLU removed", FLOATS, activation((0,)), group="graph"),
    Fault("another ReLU", TFLITE, activation((2, 3)), group="graph"),
    Fault("ReLU6 everywhere", FLOATS, activation((3,), everywhere=True), group="graph"),
    Fault("ReLU before the sum", TFLITE, activation_added, group="graph"),
    Fault("dilation", TFLITE, dilated, group="graph"),
    Fault("pads moved", TFLITE, pads_moved, group="graph"),
    Fault("offset of a stride", TFLITE, stride_offset, group="graph"),
    Fault("average in place of maximum", TFLITE, average_in_place_of_max, group="graph"),
    Fault("maximum in place of average", TFLITE, max_in_place_of_average, group="graph"),
    Fault("average over fewer places", TFLITE, fewer_places, group="graph"),
    Fault("temperature of the graph", TFLITE, beta, group="answers"),
    Fault("softmax twice", FLOATS, softmax_twice, group="answers"),
    Fault("sigmoid in place of softmax", TFLITE, other_activation, group="answers"),
    Fault("answers rounded", FLOATS, answers_rounded, group="answers"),
    Fault("constant answers", FLOATS, constant_answers, group="answers"),
    Fault("input's contrast", FLOATS, pixels_times, group="input"),
    Fault("input brighter", FLOATS, pixels_plus, group="input"),
    Fault("input turned", FLOATS, input_mirrored, group="input"),
    Fault("signature gives another tensor", TFLITE, signature_elsewhere, "signature", "signature"),
    Fault("signature gives logits", TFLITE, signature_gives_logits, "signature", "signature"),
    Fault("subgraph gives another tensor", TFLITE, subgraph_elsewhere, "subgraph", "signature"),
    Fault("subgraph gives two", TFLITE, subgraph_further_output, "subgraph", "signature"),
    Fault("softmax removed", TFLITE, both_give_logits, group="answers"),
    Fault("no signature", TFLITE, no_signature, "signature", "signature"),
    Fault("signature renamed", TFLITE, signature_renamed, "signature", "signature"),
    Fault("quantization of the output", ("tflite-int8",), scale_of_output, group="integers"),
    Fault("quantization of the input", ("tflite-int8",), scale_of_input, group="integers"),
    Fault("quantization of the input and its reader", ("tflite-int8",), both_scales_of_input, "subgraph", "integers"),
    Fault("metadata buffer", TFLITE, other_metadata, "description", "metadata"),
    Fault("metadata buffer is garbage", TFLITE, garbage_metadata, "description", "metadata"),
    Fault("labels.txt rotated", TFLITE, labels_file("rotated"), "labels file", "labels"),
    Fault("labels.txt, two swapped", TFLITE, labels_file("two swapped"), "labels file", "labels"),
    Fault("labels.txt, one fewer", TFLITE, labels_file("one fewer"), "labels file", "labels"),
]
