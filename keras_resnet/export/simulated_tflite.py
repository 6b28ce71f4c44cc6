"""TFLite file with 16-bit activations -> its values, computed by TensorFlow's fast kernels for float32.

For such files, LiteRT has only kernels that compute one product at a time. In a ResNet-50, an image takes ten times as
long as in float32. So each operation of the file is computed here in float32, with the file's own weights, and rounded
to the steps of its output. Only a softmax is LiteRT's own, which reads exponentials from a table: over a thousand
classes, the errors of the table are hundreds of steps. `steps_apart` compares all with LiteRT, operation by operation.
"""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.export.inner_tensors import InnerTensors, open_inner, plain_litert
from keras_resnet.export.runtimes import quantized_values, real_values, runtime_errors
from keras_resnet.printable import printable
from keras_resnet.tasks.base import Check

MOST = 32767  # largest integer of 16 bits
MOST_APART = 1.5  # steps; float32 rounds some values that lie between two steps to the other one
MULTIPLIER_BITS = 15  # LiteRT multiplies sums of 64 bits by an integer of so many bits

Compute = Callable[..., Any]  # values of the inputs that depend on the image -> value of the output


@dataclass(frozen=True)
class _Operation:
    """One operation of the file."""

    inputs: tuple[str, ...]  # names of the tensors that depend on the image
    output: str
    compute: Compute
    step: float  # smallest difference of two values of the output; 0: it is float


@dataclass(frozen=True)
class Simulation:
    """A file's operations, in order. Tensors have the names that `inner_tensors` gives them."""

    operations: Sequence[_Operation]
    image: str
    answers: Mapping[str, str]  # name of an output -> name of its tensor

    def tensors(self, pixels: np.ndarray) -> InnerTensors:
        """Pixels `[N, H, W, C]` -> all values of the file that depend on the image."""
        found = {self.image: pixels.astype("float32")}
        for operation in self.operations:
            values = operation.compute(*(found[name] for name in operation.inputs))
            found[operation.output] = np.asarray(values)
        return found

    def run(self, pixels: np.ndarray) -> Answer:
        """Pixels `[N, H, W, C]` -> outputs by name."""
        found = self.tensors(pixels)
        return {name: found[tensor] for name, tensor in self.answers.items()}

    def steps_apart(self, given: InnerTensors) -> dict[str, float]:
        """All values of some images in LiteRT -> by how many steps each operation's output differs at most.

        Each operation is given LiteRT's values of its inputs, so that differences don't add up.
        """
        found, apart = dict(given), {}
        for operation in self.operations:
            values = np.asarray(operation.compute(*(found[name] for name in operation.inputs)))
            received = found.setdefault(operation.output, values)  # LiteRT may merge a tensor with its input
            difference = np.abs(received.astype("float64") - values).max()
            apart[operation.output] = float(difference) / (operation.step or 1e-6)
        return apart


def proven(path: Path, runtime: str, pixels: np.ndarray) -> tuple[Simulation, Check] | None:
    """TFLite file, its runtime, a few images `[N, H, W, C]` -> its simulation, and the check that proves it.

    None if the file has an operation that is not known here, or one that the runtime computes in another way: then the
    file itself must answer.
    """
    with runtime_errors():
        simulation, run = read_simulation(path), open_inner(path, runtime)
        if simulation is None or run is None:
            return None
        apart = simulation.steps_apart(run(pixels))
    worst = max(apart, key=lambda name: apart[name])
    measured = (
        f"{len(apart)} operations on {len(pixels)} images, at most {apart[worst]:.0f} steps apart in {printable(worst)}"
    )
    check = Check("simulation", measured, "at most 1 step from the runtime's values", apart[worst] < MOST_APART)
    return (simulation, check) if check.passed else None


def read_simulation(path: Path) -> Simulation | None:
    """TFLite file -> its simulation; None if it has an operation that is not known here."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    graph = model.subgraphs[0]
    names = [f"{index}: {tensor.name.decode()}" for index, tensor in enumerate(graph.tensors)]
    varying = set(map(int, graph.inputs))
    operations = []
    for operator in graph.operators:
        inputs, outputs = ([int(index) for index in each] for each in (operator.inputs, operator.outputs))
        kind = _kind(model, operator)
        if kind not in _KINDS or len(outputs) != 1:
            return None
        constants = [None if index in varying else _constant(model, graph.tensors[index]) for index in inputs]
        steps = [_steps(graph.tensors[index]) for index in (*inputs, *outputs)]
        make = _KINDS[kind]
        compute = _in_litert(model, operator) if make is None else make(operator.builtinOptions, constants, steps)
        if compute is None:
            return None
        read = tuple(names[index] for index in inputs if index in varying)
        operations.append(_Operation(read, names[outputs[0]], compute, float(np.max(steps[-1]))))
        varying |= set(outputs)
    [signature] = model.signatureDefs
    answers = {output.name.decode(): names[output.tensorIndex] for output in signature.outputs}
    return Simulation(operations, names[int(graph.inputs[0])], answers)


def _kind(model: Any, operator: Any) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    return _operator_names()[max(code.builtinCode, code.deprecatedBuiltinCode)]


@functools.cache
def _operator_names() -> dict[int, str]:
    from tensorflow.lite.python import schema_py_generated as schema

    return {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def _steps(tensor: Any) -> np.ndarray:
    """-> step of the tensor's integers, `[1]` or one for each channel; `[0.]` if it is float."""
    scale = None if tensor.quantization is None else tensor.quantization.scale
    return np.zeros(1) if scale is None else np.asarray(scale, "float64")


def _constant(model: Any, tensor: Any) -> np.ndarray:
    """-> real values of a constant in float32, or its integers if it has no steps, as a shape."""
    from tensorflow.lite.python import schema_py_generated as schema

    types = {getattr(schema.TensorType, name.upper()): name for name in ("float32", "int8", "int16", "int32", "int64")}
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), types[tensor.type]).reshape(tensor.shape)
    steps = _steps(tensor)
    if not steps.any():
        return values
    along = [1] * values.ndim
    along[tensor.quantization.quantizedDimension] = -1
    return (values * steps.reshape(along if len(steps) > 1 else -1)).astype("float32")


# --- operations: options of the operator, constants, steps of inputs and output -> function of the varying inputs ---


def _rounded(values: Any, step: float, low: float = -MOST - 1.0) -> Any:
    import tensorflow as tf

    return tf.clip_by_value(tf.floor(values / step + 0.5), low, MOST) * step


def _lowest(options: Any) -> float | None:
    """-> lowest integer that the activation leaves; None if the activation is not known here."""
    from tensorflow.lite.python.schema_py_generated import ActivationFunctionType as Kind

    return {Kind.NONE: -MOST - 1.0, Kind.RELU: 0.0}.get(options.fusedActivationFunction)


def _multiplied(steps: Sequence[np.ndarray]) -> np.ndarray:
    """Steps of input, kernel, bias and output -> LiteRT's multiplier of the sums over the exact one, by channel."""
    exact = steps[0] * steps[1] / steps[-1]
    fraction, exponent = np.frexp(exact)
    limit = 2**MULTIPLIER_BITS - 1
    return (
        np.ldexp(np.minimum(np.floor(fraction * 2**MULTIPLIER_BITS + 0.5), limit), exponent - MULTIPLIER_BITS) / exact
    )


def _convolution(options: Any, constants: Sequence[Any], steps: Sequence[np.ndarray]) -> Compute | None:
    import tensorflow as tf

    kernel = tf.constant(constants[1].transpose(1, 2, 3, 0))  # `[out, h, w, in]` -> `[h, w, in, out]`
    bias = constants[2]
    low, factor = _lowest(options), _multiplied(steps).astype("float32")
    if low is None:
        return None
    strides, dilations = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    padding = ("SAME", "VALID")[options.padding]

    def compute(x: Any) -> Any:
        sums = tf.nn.conv2d(x, kernel, strides, padding, dilations=dilations) + bias
        return _rounded(sums * factor, float(steps[-1][0]), low)

    return compute


def _dense(options: Any, constants: Sequence[Any], steps: Sequence[np.ndarray]) -> Compute | None:
    import tensorflow as tf

    kernel, bias, low = tf.constant(constants[1].T), constants[2], _lowest(options)
    factor = _multiplied(steps).astype("float32")
    if low is None:
        return None
    return lambda x: _rounded((tf.matmul(x, kernel) + bias) * factor, float(steps[-1][0]), low)


def _add(options: Any, constants: Sequence[Any], steps: Sequence[np.ndarray]) -> Compute | None:
    low, [fixed] = _lowest(options), [value for value in constants if value is not None] or [0.0]
    if low is None:
        return None
    return lambda *terms: _rounded(sum(terms) + fixed, float(steps[-1][0]), low)


def _maximum_pool(options: Any, constants: Sequence[Any], steps: Sequence[np.ndarray]) -> Compute | None:
    import tensorflow as tf

    size, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
    return lambda x: tf.nn.max_pool2d(x, size, strides, ("SAME", "VALID")[options.padding])


def _mean(options: Any, constants: Sequence[Any], steps: Sequence[np.ndarray]) -> Compute:
    import tensorflow as tf

    axes = constants[1].tolist()
    return lambda x: _rounded(tf.reduce_mean(x, axes, options.keepDims), float(steps[-1][0]))


def _pad(options: Any, constants: Sequence[Any], steps: Sequence[np.ndarray]) -> Compute:
    return lambda x: np.pad(x, constants[1])


def _reshape(options: Any, constants: Sequence[Any], steps: Sequence[np.ndarray]) -> Compute | None:
    images, *shape = constants[1].tolist()
    return (lambda x: np.reshape(x, (len(x), *shape))) if images in (1, -1) else None


def _to_integers(options: Any, constants: Sequence[Any], steps: Sequence[np.ndarray]) -> Compute:
    return lambda x: _rounded(x, float(steps[-1][0]))


def _to_float(options: Any, constants: Sequence[Any], steps: Sequence[np.ndarray]) -> Compute:
    return lambda x: x


def _in_litert(model: Any, operator: Any) -> Compute:
    """Operation of one input `[1, ...]` and one output -> LiteRT's own kernel, from a file that holds nothing else."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    alone, graph, only = schema.ModelT(), schema.SubGraphT(), copy.copy(operator)
    graph.tensors = [copy.copy(model.subgraphs[0].tensors[index]) for index in (*operator.inputs, *operator.outputs)]
    for tensor in graph.tensors:
        tensor.buffer = 0
    graph.inputs, graph.outputs, graph.operators = [0], [1], [only]
    only.opcodeIndex, only.inputs, only.outputs = 0, [0], [1]
    alone.version, alone.subgraphs, alone.buffers = model.version, [graph], [schema.BufferT()]
    alone.operatorCodes = [model.operatorCodes[operator.opcodeIndex]]
    interpreter = plain_litert(model_content=bytes(flatbuffer_utils.convert_object_to_bytearray(alone)))
    [given], [answer] = interpreter.get_input_details(), interpreter.get_output_details()

    def compute(x: Any) -> np.ndarray:
        rows = []
        for row in np.asarray(x):
            interpreter.set_tensor(given["index"], quantized_values(row[None], given))
            interpreter.invoke()
            rows.append(real_values(interpreter.get_tensor(answer["index"]), answer))
        return np.concatenate(rows)

    return compute


# The operations that are known here. None: see `_in_litert`.
_KINDS: Mapping[str, Callable[[Any, Sequence[Any], Sequence[np.ndarray]], Compute | None] | None] = {
    "ADD": _add,
    "CONV_2D": _convolution,
    "DEQUANTIZE": _to_float,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _maximum_pool,
    "MEAN": _mean,
    "PAD": _pad,
    "QUANTIZE": _to_integers,
    "RESHAPE": _reshape,
    "SOFTMAX": None,
}
