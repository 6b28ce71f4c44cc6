"""The rivals: their names, how they are made and opened, and the setting in which each is fastest.

A rival gets its input ready to use: normalised, in float32 and in its own layout. Our artifacts, in the runtimes that
verified them, start from uint8 pixels. So the comparison never flatters our artifacts.
"""

import concurrent.futures
import importlib.util
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.benchmark.compare import Contender
from keras_resnet.errors import MeasurementError, reason
from keras_resnet.export.openvino_core import openvino_core
from keras_resnet.export.running import OPENVINO
from keras_resnet.measure.process import FREE_SIDE, Loader, Opened
from keras_resnet.optional import require
from keras_resnet.predictor import Predictor
from keras_resnet.quiet import import_keras, quiet_stderr
from keras_resnet.variants import VARIANTS
from keras_resnet.whole_files import write_whole

IMAGE_SHAPE = (FREE_SIDE, FREE_SIDE, 3)
KERAS_APPLICATIONS = {"resnet50": "ResNet50", "resnet101": "ResNet101", "resnet152": "ResNet152"}
RESNETS = tuple(name for name, variant in VARIANTS.items() if variant.weights)
SEGMENTATION = tuple(f"{head}_{resnet}" for head in ("fcn", "deeplabv3") for resnet in ("resnet50", "resnet101"))
NETWORKS = (*RESNETS, *SEGMENTATION)
VOC_CLASSES = 21
OPENVINO_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Rival:
    """One rival, for all of its networks."""

    name: str
    setting: str
    packages: tuple[str, ...]
    opener: str  # name of a function here; its arguments are `network` or `path`, `threads`, and `options`
    options: dict[str, Any]
    maker: Callable[..., None] | None = None  # arguments: (network, path to write), or (our ONNX file, path, pixels)
    of_ours: bool = False  # made of our ONNX file and calibration pixels, so that it has our weights
    suffix: str = ""
    networks: tuple[str, ...] = NETWORKS
    numbers: str = "float32"


def _ready(convert: Callable[[np.ndarray], Any], run: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    """-> function from pixels to outputs. It converts repeated pixels only once, so that timed calls don't convert."""
    kept: list[Any] = [None, None]

    def predict(pixels: np.ndarray) -> Any:
        if kept[0] is not pixels:
            kept[:] = [pixels, convert(pixels)]
        return run(kept[1])

    return predict


def normalised(pixels: np.ndarray) -> np.ndarray:
    """Pixels uint8 `[N, H, W, 3]` -> float32 `[N, H, W, 3]` in -1..1. The exact values do not affect latency."""
    return pixels.astype("float32") / 127.5 - 1


def keras_applications(network: str, threads: int) -> Loader:
    """Name of a class of keras.applications -> its network with random weights, run by `predict_on_batch`."""
    import_keras()
    import keras

    def load() -> Opened:
        model = getattr(keras.applications, KERAS_APPLICATIONS.get(network, network))(weights=None)
        return Opened(_ready(normalised, model.predict_on_batch), IMAGE_SHAPE)

    return load


def convert_keras_applications(network: str, path: Path) -> None:
    """Name of a class of keras.applications -> float32 .tflite file, by TensorFlow's converter."""
    import_keras()
    import keras
    import tensorflow as tf

    from keras_resnet.export.to_savedmodel import write_savedmodel

    shape = IMAGE_SHAPE  # a fixed shape and batch size keep the computation of shapes out of the file
    model = getattr(keras.applications, KERAS_APPLICATIONS.get(network, network))(weights=None, input_shape=shape)
    with tempfile.TemporaryDirectory() as folder, quiet_stderr():
        write_savedmodel(model, Path(folder), batch_size=1)
        write_whole(path, tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def litert(path: str, threads: int) -> Loader:
    """float32 .tflite file of batch size 1 -> LiteRT with XNNPACK, which runs one image at a time.

    Not every file can be resized to another batch size, and LiteRT on a CPU would not gain from it.
    """
    interpreters = require("ai_edge_litert.interpreter", "tflite")

    def load() -> Opened:
        interpreter = interpreters.Interpreter(path, num_threads=threads)
        interpreter.allocate_tensors()
        given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

        def run(values: np.ndarray) -> Any:
            answers = []
            for value in values:
                interpreter.set_tensor(given["index"], value[None])
                interpreter.invoke()
                answers.append(interpreter.get_tensor(answer["index"]))
            return np.concatenate(answers)

        return Opened(_ready(normalised, run), IMAGE_SHAPE)

    return load


def pytorch_library(network: str) -> str:
    """Name of a network -> name of the package that has it for PyTorch."""
    return "torchvision" if network in SEGMENTATION else "transformers"


def pytorch_network(network: str) -> Any:
    """Name of a network -> PyTorch module with random weights, for inference: values `[N, 3, H, W]` -> logits.

    The module is transformers' ResNet with 1000 classes, or torchvision's segmentation network with 21.
    """
    torch = require("torch", "rivals")
    library = require(pytorch_library(network), "rivals")
    if network in SEGMENTATION:
        build = getattr(library.models.segmentation, network)
        model, output = build(weights=None, weights_backbone=None, num_classes=VOC_CLASSES, aux_loss=False), "out"
    else:
        variant = VARIANTS[network]
        config = library.ResNetConfig(
            depths=list(variant.blocks_per_stage),
            hidden_sizes=[64 * variant.expansion * 2**stage for stage in range(4)],
            layer_type=variant.block,
            num_labels=1000,
        )
        model, output = library.ResNetForImageClassification(config), "logits"

    class Logits(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, values: Any) -> Any:
            return self.model(values)[output]

    return Logits().eval()


def pytorch(network: str, threads: int, compiled: bool) -> Loader:
    """Name of a network -> PyTorch, channels last; eager, or by torch.compile with the weights as constants."""
    torch = require("torch", "rivals")
    require(pytorch_library(network), "rivals")

    def load() -> Opened:
        torch.set_num_threads(threads)
        model: Any = pytorch_network(network).to(memory_format=torch.channels_last)
        if compiled:
            import torch._inductor.config as inductor

            inductor.freezing = True
            model = torch.compile(model)

        def convert(pixels: np.ndarray) -> Any:
            return torch.from_numpy(normalised(pixels)).permute(0, 3, 1, 2)  # channels stay last in memory

        def run(values: Any) -> Any:
            with torch.no_grad():
                return model(values).numpy()

        return Opened(_ready(convert, run), IMAGE_SHAPE)

    return load


def export_pytorch(network: str, path: Path) -> None:
    """Name of a network -> float32 .onnx file of PyTorch's network with free batch size."""
    torch = require("torch", "rivals")
    model = pytorch_network(network)
    example = torch.zeros(1, 3, FREE_SIDE, FREE_SIDE)
    names = {"input_names": ["pixel_values"], "output_names": ["logits"]}
    free = {name: {0: "batch"} for name in ("pixel_values", "logits")}
    torch.onnx.export(model, (example,), str(path), dynamo=False, dynamic_axes=free, **names)


def onnx_runtime(path: str, threads: int) -> Loader:
    """.onnx file `[N, 3, H, W]` -> ONNX Runtime."""
    onnxruntime = require("onnxruntime", "onnx")

    def load() -> Opened:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return Opened(_ready(_nchw, lambda values: session.run(None, {name: values})[0]), IMAGE_SHAPE)

    return load


def _nchw(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(normalised(pixels).transpose(0, 3, 1, 2))


def openvino(path: str, threads: int, precision: str = "float32") -> Loader:
    """.onnx file, or folder of model.xml -> OpenVINO with its hint for latency. A file of our weights takes pixels."""
    require("openvino", "rivals")  # its absence names the extra of the rivals

    def load() -> Opened:
        core = openvino_core()
        model = core.read_model(Path(path, "model.xml") if Path(path).is_dir() else path)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": OPENVINO_PRECISIONS[precision],
        }
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        ours = model.inputs[0].any_name == "image"
        convert = (lambda pixels: pixels.astype("float32")) if ours else _nchw
        return Opened(_ready(convert, lambda values: request.infer([values])[0].copy()), IMAGE_SHAPE)

    return load


def quantize_by_nncf(onnx: Path, path: Path, pixels: np.ndarray) -> None:
    """Our float .onnx file, calibration pixels -> folder with the int8 model that NNCF makes."""
    nncf, library = require("nncf", "rivals"), require("openvino", "rivals")
    model = openvino_core().read_model(str(onnx))
    dataset = nncf.Dataset(pixels.astype("float32"), lambda image: {"image": image[None]})
    quantized = nncf.quantize(model, dataset, preset=nncf.QuantizationPreset.MIXED, subset_size=len(pixels))
    path.mkdir()
    library.save_model(quantized, path / "model.xml")  # also writes model.bin


RIVALS = (
    Rival(
        "keras.applications, Keras",
        "predict_on_batch (a compiled tf.function), TensorFlow with oneDNN",
        ("tensorflow",),
        "keras_applications",
        {},
        networks=tuple(KERAS_APPLICATIONS),
    ),
    Rival(
        "keras.applications, LiteRT",
        "TensorFlow's converter; LiteRT with XNNPACK",
        ("tensorflow", "ai_edge_litert"),
        "litert",
        {},
        convert_keras_applications,
        suffix=".tflite",
        networks=tuple(KERAS_APPLICATIONS),
    ),
    Rival(
        "PyTorch, eager",
        "channels last, no_grad, oneDNN",
        ("torch",),
        "pytorch",
        {"compiled": False},
    ),
    Rival(
        "PyTorch, torch.compile",
        "inductor with frozen weights, channels last, no_grad",
        ("torch",),
        "pytorch",
        {"compiled": True},
    ),
    Rival(
        "PyTorch, ONNX Runtime",
        "torch.onnx.export; all graph optimizations",
        ("torch", "onnx", "onnxruntime"),
        "onnx_runtime",
        {},
        export_pytorch,
        suffix=".onnx",
    ),
    Rival(
        "PyTorch, OpenVINO float32",
        "torch.onnx.export; hint LATENCY, precision f32",
        ("torch", "onnx", "openvino"),
        "openvino",
        {},
        export_pytorch,
        suffix=".onnx",
    ),
    Rival(
        "PyTorch, OpenVINO bfloat16",
        "torch.onnx.export; hint LATENCY, precision bf16",
        ("torch", "onnx", "openvino"),
        "openvino",
        {"precision": "bfloat16"},
        export_pytorch,
        suffix=".onnx",
        numbers="bfloat16",
    ),
    Rival(
        "OpenVINO int8 (NNCF)",
        "nncf.quantize of our float ONNX file, preset MIXED; hint LATENCY",
        ("openvino", "nncf"),
        "openvino",
        {},
        quantize_by_nncf,
        of_ours=True,
        numbers="int8",
    ),
)


def rivals_of(
    network: str,
    folder: Path,
    threads: int,
    onnx: Path | None = None,
    pixels: np.ndarray | None = None,
    answers: Predictor | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[list[Contender], list[str]]:
    """Network, folder for the rivals' files -> contenders, and a line for each rival that is missing or can't be made.

    `onnx` is our float file of the network. Some rivals are made from this file and the calibration `pixels`; they get
    the predictor `answers` of this file.
    """
    contenders, absent = [], []
    for rival in RIVALS:
        packages = [*rival.packages, *([pytorch_library(network)] if "torch" in rival.packages else [])]
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if network not in rival.networks:
            continue
        if missing:
            absent.append(f"{rival.name}: not installed: {', '.join(missing)}")
            continue
        if rival.of_ours and (onnx is None or pixels is None):
            absent.append(f"{rival.name}: needs our ONNX file and calibration images")
            continue
        arguments: dict[str, Any] = {"threads": threads, **rival.options}
        file = None
        if rival.maker is None:
            arguments["network"] = network
        else:
            # Rivals with the same maker share one file.
            file = folder / f"{network} {rival.maker.__name__}{rival.suffix}"
            if not file.exists():
                tell(f"making {rival.name}")
                given = (onnx, file, pixels) if rival.of_ours else (network, file)
                try:
                    _in_a_process(rival.name, rival.maker, *given)
                except MeasurementError as error:
                    absent.append(str(error))
                    continue
            arguments["path"] = str(file)
        known = answers if rival.of_ours else None
        opener = f"{__name__}:{rival.opener}"
        contenders.append(
            Contender(rival.name, opener, arguments, rival.setting, file, known, ours=False, numbers=rival.numbers)
        )
    return contenders, absent


def in_openvino(ours: Contender, threads: int) -> Contender:
    """Contender of our ONNX artifact -> contender that runs the artifact in OpenVINO."""
    return replace(
        ours,
        name=f"{ours.name} in OpenVINO",
        arguments={"path": str(ours.file), "threads": threads, "runtime": OPENVINO},
        setting="OpenVINO in float32, from pixels",
    )


def _in_a_process(name: str, make: Callable[..., None], *arguments: Any) -> None:
    """Calls `make` in a process of its own, so that its imports, memory and output stay there.

    Raises:
        MeasurementError: The call failed.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context, initializer=_silence) as executor:
        try:
            executor.submit(make, *arguments).result()
        except Exception as error:  # a converter can raise anything
            raise MeasurementError(f"{name}: its file can't be made: {reason(error)}") from error


def _silence() -> None:
    """Discards all further output of this process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
