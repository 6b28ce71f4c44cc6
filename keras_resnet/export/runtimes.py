"""Artifact -> function from pixels to outputs, in the runtime that will serve the artifact."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from keras_resnet.answers import DEFAULT_SIGNATURE, IMAGE, PIXELS_SIGNATURE, Answer
from keras_resnet.contained import check_opens
from keras_resnet.errors import ExportError, MissingDependencyError, reason
from keras_resnet.export.description import read_description
from keras_resnet.export.files import IR_FILE, is_artifact_folder, kind_of, onnx_file
from keras_resnet.export.formats import BROWSER, FORMATS, UNVERIFIED, Format, format_named
from keras_resnet.export.graph_format import format_in_graph
from keras_resnet.export.integrity import check_whole
from keras_resnet.export.manifest import artifact_sha256
from keras_resnet.export.microcontroller import open_micro
from keras_resnet.export.openvino_core import openvino_core
from keras_resnet.export.operations import check_operations
from keras_resnet.export.running import IN_BFLOAT16, MICRO, OPENVINO
from keras_resnet.export.tflite_metadata import outputs_in
from keras_resnet.optional import require
from keras_resnet.printable import printable
from keras_resnet.quiet import quiet_stderr
from keras_resnet.tasks import TASKS

ONNX = "ONNX Runtime"
TRIAL_SIDE = 64  # pixels a side of the first image, where an artifact takes any size
MOST_ELEMENTS = 1_000_000_000  # elements of a tensor in a TFLite file; its runtime makes room for all of them


class Tensor(NamedTuple):
    """Shape (None: free) and type of an artifact's input or output; of integers, what their steps are worth."""

    shape: tuple[int | None, ...]
    dtype: str
    step: float | None = None
    zero_point: int | None = None  # integer of the value 0

    def __str__(self) -> str:
        steps = "" if self.step is None else f", steps of {self.step:.7g} from {self.zero_point}"
        return f"{self.dtype} {self.shape}{steps}"


class Runs(Protocol):
    """An artifact that answers."""

    def run(self, pixels: np.ndarray) -> Answer:
        """Pixels 0..255 `[N, H, W, C]`, uint8 or float -> outputs by name, `[N, ...]`, as one batch.

        Scores are dequantized to float32; classes are integers. Several threads may call it at a time.
        """
        ...


class Runtime(Runs, Protocol):
    """An artifact opened in its runtime."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@contextmanager
def runtime_errors(prefix: str = "") -> Iterator[None]:
    """`with runtime_errors():` an exception of a runtime in the block becomes an `ExportError`.

    Each runtime has its own exceptions, some derived directly from Exception.
    """
    try:
        yield
    except MissingDependencyError:
        raise
    except Exception as error:
        raise ExportError(f"{prefix}{type(error).__name__}: {reason(error)}") from error


def open_runtime(
    path: Path, format: Format, threads: int | None = None, trust: bool = False, shared: bool = False
) -> Runtime:
    """Artifact and its format -> opened artifact, on `threads` CPU threads (default: all).

    `shared`: other threads need the cores too. ONNX Runtime's threads then sleep while they wait, instead of spinning.

    The runtimes trust their files, so a file from elsewhere must pass `format_of` first, which finds damage. Without
    `trust`, a folder must hold only operations of inference, and what is new to this installation is first opened and
    run in a process of its own.

    Raises:
        ExportError: The runtime can't read the file, or the file is refused without `trust`.
    """
    # What a description states must not choose the runtime: the check of a folder is made for what is in it.
    if (kind := kind_of(path)) not in _KINDS[format.runtime]:
        raise ExportError(f"{path}: {format.runtime} can't open it as {format.name}: its content is of the kind {kind}")
    if not trust and path.is_dir():
        check_operations(path)
    if not trust and format.runtime == BROWSER:
        from keras_resnet.export.web_folder import check_programs

        check_programs(path)
    elif not trust:  # a browser is a process of its own
        given = {"path": str(path), "format_name": format.name, "runtime": format.runtime, "threads": threads}
        check_opens(path, artifact_sha256(path), format.runtime, f"{__name__}:try_artifact", given, ExportError)
    threads = threads or os.cpu_count() or 1
    try:
        with quiet_stderr():
            opener = (
                partial(_OnnxRuntime, spins=False) if shared and format.runtime == ONNX else _OPENERS[format.runtime]
            )
            opened = opener(path, threads)
    except MissingDependencyError:
        raise
    except Exception as error:  # each runtime has its own exceptions, some derived directly from Exception
        raise ExportError(f"{path}: {format.runtime} can't open it as {format.name}: {reason(error)}") from error
    return opened if format.colour_order == "RGB" else _InBGR(opened)


def try_artifact(path: str, format_name: str, runtime: str, threads: int | None) -> None:
    """Opens an artifact and runs it on one black image: the trial of `contained.check_opens`."""
    opened = open_runtime(Path(path), replace(format_named(format_name), runtime=runtime), threads)
    height, width, channels = image_shape(next(iter(opened.inputs.values())).shape)
    opened.run(np.zeros((1, height or TRIAL_SIDE, width or TRIAL_SIDE, channels or 3), "uint8"))


class _SavedModel:
    def __init__(self, path: Path, threads: int):
        # Its thread pool is set once per process, so `threads` has no effect here.
        tf = require("tensorflow", None)

        self._module = tf.saved_model.load(str(path))  # keeps the variables alive
        self._signatures = self._module.signatures
        self.signatures = sorted(self._signatures)
        pixels = PIXELS_SIGNATURE if PIXELS_SIGNATURE in self.signatures else DEFAULT_SIGNATURE
        self._serve = self._signatures[pixels]
        inputs, outputs = self._serve.structured_input_signature[1], self._serve.structured_outputs
        self.inputs = {name: Tensor(tuple(spec.shape), spec.dtype.name) for name, spec in inputs.items()}
        self.outputs = {name: Tensor(tuple(spec.shape), spec.dtype.name) for name, spec in outputs.items()}
        self._constant = tf.constant

    def run(self, pixels: np.ndarray) -> Answer:
        outputs = self._serve(**{IMAGE: self._constant(pixels.astype("float32"))})
        return {name: values.numpy() for name, values in outputs.items()}

    def call(self, signature: str, name: str, values: Any) -> Answer:
        """Name of a signature, name and values of its input -> its outputs."""
        outputs = self._signatures[signature](**{name: self._constant(values)})
        return {name: values.numpy() for name, values in outputs.items()}

    def serve(self, pixels: np.ndarray) -> Answer:
        """Pixels of type float32 or uint8 -> outputs of the function `serve`, which Python programs call."""
        return {name: values.numpy() for name, values in self._module.serve(self._constant(pixels)).items()}


class _LiteRT:
    def __init__(self, path: Path, threads: int):
        interpreter = require("ai_edge_litert.interpreter", "tflite").Interpreter(
            model_path=str(path), num_threads=threads
        )
        for tensor in interpreter.get_tensor_details():
            shape = [int(side) for side in tensor["shape"]]
            if math.prod(shape) > MOST_ELEMENTS:
                raise ValueError(
                    f"its tensor {printable(tensor['name'])} has the shape {shape}, with more than the limit of "
                    f"{MOST_ELEMENTS:,} elements"
                )
        interpreter.allocate_tensors()
        self._interpreter, self._input = interpreter, interpreter.get_input_details()[0]
        self._one_call = threading.Lock()  # an interpreter has one set of tensors
        self.inputs, self.outputs, self._outputs = {}, {}, {}
        self.signatures = sorted(interpreter.get_signature_list())
        if "serving_default" in self.signatures:
            signature = interpreter.get_signature_runner("serving_default")
            inputs, self._outputs = signature.get_input_details(), signature.get_output_details()
            self.inputs = {name: self._with_steps(details) for name, details in inputs.items()}
            self.outputs = {name: self._tensor(details) for name, details in self._outputs.items()}
            self._input = next(iter(inputs.values()), self._input)
        self._shape: tuple[int, ...] = tuple(int(side) for side in self._input["shape"])

    @staticmethod
    def _tensor(details: dict[str, Any]) -> Tensor:
        shape = tuple(None if side == -1 else int(side) for side in details["shape_signature"])
        return Tensor(shape, np.dtype(details["dtype"]).name)

    @classmethod
    def _with_steps(cls, details: dict[str, Any]) -> Tensor:
        scale, zero_point = details["quantization"]
        tensor = cls._tensor(details)
        return tensor._replace(step=float(scale), zero_point=int(zero_point)) if scale else tensor

    def run(self, pixels: np.ndarray) -> Answer:
        with self._one_call:
            return self._run(pixels)

    def _run(self, pixels: np.ndarray) -> Answer:
        if pixels.shape != self._shape:  # the file states batch size 1, but a ResNet's file can be resized
            self._shape = ()  # until the next line is done: if it fails, the next images must resize again
            self._interpreter.resize_tensor_input(self._input["index"], pixels.shape, strict=False)
            self._interpreter.allocate_tensors()
            self._shape = pixels.shape
        self._interpreter.set_tensor(self._input["index"], quantized_values(pixels, self._input))
        self._interpreter.invoke()
        return {
            name: real_values(self._interpreter.get_tensor(details["index"]), details)
            for name, details in self._outputs.items()
        }

    def run_signature(self, pixels: np.ndarray) -> Answer:
        """Pixels of one image -> outputs, as a program gets them that calls the signature by name."""
        signature = self._interpreter.get_signature_runner("serving_default")
        received = signature(**{name: quantized_values(pixels, self._input) for name in self.inputs})
        return {name: real_values(received[name], details) for name, details in self._outputs.items()}

    def run_tensors(self, pixels: np.ndarray) -> Answer:
        """Pixels of one image -> outputs, as a program gets them that knows no signatures."""
        [given], outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._interpreter.set_tensor(given["index"], quantized_values(pixels, given))
        self._interpreter.invoke()
        return {
            tensor["name"]: real_values(self._interpreter.get_tensor(tensor["index"]), tensor) for tensor in outputs
        }


class _Micro:
    """TensorFlow Lite Micro. It has places instead of names, which LiteRT reads from the file."""

    def __init__(self, path: Path, threads: int):
        named = _LiteRT(path, threads)
        self.inputs, self.outputs, self._input = named.inputs, named.outputs, named._input
        places = [tensor["index"] for tensor in named._interpreter.get_output_details()]
        self._outputs = {name: (places.index(details["index"]), details) for name, details in named._outputs.items()}
        self._interpreter = open_micro(path.read_bytes())
        self._one_call = threading.Lock()

    def run(self, pixels: np.ndarray) -> Answer:
        with self._one_call:
            self._interpreter.set_input(quantized_values(pixels, self._input), 0)
            self._interpreter.invoke()
            return {
                name: real_values(self._interpreter.get_output(place), details)
                for name, (place, details) in self._outputs.items()
            }


def quantized_values(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """Real values -> values of the tensor's type, by its scale and zero point."""
    if details["dtype"] == np.float32:
        return values.astype(np.float32)
    scale, zero_point = details["quantization"]
    if values.dtype == details["dtype"] and (scale, zero_point) == (1, 0):
        return values  # pixels are input bytes, because the scale is 1
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])


def real_values(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """Values of a tensor -> real values, by its scale and zero point."""
    scale, zero_point = details["quantization"]
    if details["dtype"] == np.float32 or not scale:  # without a scale, the integers are the values
        return values
    return (values.astype(np.float32) - zero_point) * np.float32(scale)


class _OnnxRuntime:
    def __init__(self, path: Path, threads: int, spins: bool = True):
        onnxruntime = require("onnxruntime", "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
        options.log_severity_level = 4  # its log has names from the file; what matters comes as an exception
        self._session = onnxruntime.InferenceSession(
            str(onnx_file(path)),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # otherwise it prints a fault and tries the same file on the same provider again
        )
        self.inputs = {tensor.name: self._tensor(tensor) for tensor in self._session.get_inputs()}
        self.outputs = {tensor.name: self._tensor(tensor) for tensor in self._session.get_outputs()}
        self._nchw = any(is_nchw(tensor.shape) for tensor in self.inputs.values())

    @staticmethod
    def _tensor(tensor: Any) -> Tensor:
        dtype = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int32)": "int32"}.get(
            tensor.type, tensor.type
        )
        return Tensor(tuple(side if isinstance(side, int) else None for side in tensor.shape), dtype)

    def run(self, pixels: np.ndarray) -> Answer:
        return dict(zip(self.outputs, self._session.run(None, {IMAGE: float_pixels(pixels, self._nchw)}), strict=True))


class _Browser:
    """A page in a browser. WebAssembly has one thread there, so `threads` has no effect."""

    def __init__(self, path: Path, threads: int):
        from keras_resnet.export.browser import BrowserPage  # a server and a parser that no other runtime needs

        self.page = BrowserPage(path)
        self.run = self.page.run
        self.inputs, self.outputs = (
            {each["name"]: self._tensor(each) for each in stated} for stated in (self.page.inputs, self.page.outputs)
        )

    @staticmethod
    def _tensor(stated: dict[str, Any]) -> Tensor:
        return Tensor(tuple(side if isinstance(side, int) else None for side in stated["shape"]), stated["type"])


class _OpenVino:
    def __init__(self, path: Path, threads: int, precision: str = "f32"):
        model = read_openvino(path)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,  # without it bfloat16, where the CPU has it
        }
        self._request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()
        self._one_call = threading.Lock()  # a request holds the answers of one call
        self.inputs = {tensor.any_name: self._tensor(tensor) for tensor in model.inputs}
        self.outputs = {tensor.any_name: self._tensor(tensor) for tensor in model.outputs}
        self._nchw = any(is_nchw(tensor.shape) for tensor in self.inputs.values())

    @staticmethod
    def _tensor(tensor: Any) -> Tensor:
        shape = tuple(None if side.is_dynamic else int(side.get_length()) for side in tensor.partial_shape)
        return Tensor(shape, np.dtype(tensor.element_type.to_dtype()).name)

    def run(self, pixels: np.ndarray) -> Answer:
        with self._one_call:
            answers = self._request.infer({IMAGE: float_pixels(pixels, self._nchw)})
            return {name: values.copy() for name, values in zip(self.outputs, answers.values(), strict=True)}


def read_openvino(path: Path) -> Any:
    """OpenVINO folder or ONNX file -> OpenVINO's model."""
    if path.is_dir():
        return openvino_core().read_model(path / IR_FILE)
    model = openvino_core().read_model(path)
    # As OpenVINO's `convert_model` does, which would also unpickle a PyTorch file that is named .onnx. Without it, the
    # first convolution of a file of integers stays in float32.
    transformations = require("openvino._offline_transformations", "openvino")
    transformations.apply_moc_transformations(model, cf=False, smart_reshape=True)
    return model


class _InBGR:
    """A file whose input has the order blue, green, red. As all artifacts here, it is given red, green, blue."""

    def __init__(self, opened: Runtime) -> None:
        self.inputs, self.outputs, self._opened = opened.inputs, opened.outputs, opened

    def run(self, pixels: np.ndarray) -> Answer:
        return self._opened.run(pixels[..., ::-1])


def float_pixels(pixels: np.ndarray, nchw: bool) -> np.ndarray:
    """Pixels `[N, H, W, C]` -> float32, in the layout of a file."""
    pixels = pixels.astype("float32")
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if nchw else pixels


def is_nchw(shape: tuple[int | None, ...]) -> bool:
    """Shape of an image tensor -> whether its channels, which are few, come before height and width."""
    return len(shape) == 4 and (shape[3] is None or (shape[1] is not None and shape[1] < shape[3]))


def image_shape(shape: tuple[int | None, ...]) -> tuple[int | None, int | None, int | None]:
    """Shape of an image tensor, in either layout -> height, width, channels; None: free."""
    height, width, channels = (*shape[2:], shape[1]) if is_nchw(shape) else shape[1:]
    return height, width, channels


_OPENERS: dict[str, Callable[[Path, int], Runtime]] = {
    "TensorFlow": _SavedModel,
    "LiteRT": _LiteRT,
    ONNX: _OnnxRuntime,
    OPENVINO: _OpenVino,
    IN_BFLOAT16: partial(_OpenVino, precision="bf16"),
    MICRO: _Micro,
    BROWSER: _Browser,
}
# What each runtime opens, in the words of `files.kind_of`.
_KINDS: dict[str, tuple[str, ...]] = {
    "TensorFlow": ("saved_model",),
    "LiteRT": ("tflite",),
    ONNX: ("onnx", "web"),
    OPENVINO: ("openvino", "onnx"),
    IN_BFLOAT16: ("openvino", "onnx"),
    MICRO: ("tflite",),
    BROWSER: ("web",),
}


def format_of(path: Path, trust: bool = False) -> Format:
    """Artifact, verified or not -> its row of the table, by its description, or without one by its content.

    Raises: see `format_and_description`.
    """
    return format_and_description(path, trust)[0]


def format_and_description(path: Path, trust: bool = False) -> tuple[Format, dict[str, Any] | None]:
    """Artifact, verified or not, `trust` as for `open_runtime` -> its row of the table, and its description.

    Raises:
        ExportError: The file does not exist, has no known format, is damaged, or can't be opened.
    """
    if not (path.is_file() or path.is_dir()):
        raise ExportError(f"{path}: no such file or folder")
    name = path.name.removesuffix(UNVERIFIED)
    if not (name.endswith((".onnx", ".tflite")) or is_artifact_folder(path)):
        raise ExportError(
            f"{path}: an artifact must be a SavedModel, OpenVINO or web folder, a .tflite or an .onnx file"
        )
    check_whole(path)
    description = read_description(path)
    if description is not None:
        return _as_described(format_named(description["format"]), description), description
    kind = kind_of(path)
    if kind in ("tflite", "openvino"):
        open_runtime(path, FORMATS[kind], trust=trust)  # in a process of its own first
    with runtime_errors(f"{path}: "):  # LiteRT shows a graph whose names are damaged, but not its operations
        return FORMATS[format_in_graph(path)], None


def _as_described(row: Format, description: dict[str, Any]) -> Format:
    """-> row with the options of this file."""
    given, answer = description["input"], description["output"]
    return replace(
        row,
        input_dtype=given["dtype"],
        output_dtype=answer["dtype"],
        layout=given["layout"],
        colour_order=given.get("colour_order") or "RGB",
        default_signature=description.get("default_signature", "pixels"),
        any_size=given["size"][0] is None,
        keep_float=tuple((description["quantization"] or {}).get("keep_float", ())),
        outputs=tuple(TASKS[description["task"]].outputs[each["name"]] for each in outputs_in(description)),
    )


def predict(runtime: Runs, images: np.ndarray, batch_size: int = 1) -> dict[str, np.ndarray]:
    """Opened artifact, pixels `[N, H, W, C]` -> outputs by name, `[N, ...]`, `batch_size` images at a time."""
    answers = [runtime.run(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
