"""Faster R-CNN over ResNet-50 with a feature pyramid, beside torchvision's with equal weights.

Ours runs in Keras on TensorFlow and on JAX, and as TFLite and ONNX files; torchvision's in PyTorch, by torch.compile,
and as an ONNX file. The heads have random weights, so wide that an image has detections. The record also has the time
of each part of our network in Keras: the time until its outputs, less the time until the outputs of the part before.

    python benchmarks/detectors.py --side 800 --backbone-weights resnet50.safetensors \
        --out benchmarks/results/rivals_fasterrcnn_800.json
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import typer

from keras_resnet.benchmark.compare import Contender, compare
from keras_resnet.benchmark.rivals import in_openvino
from keras_resnet.cli.benchmark import model_loader
from keras_resnet.export import cost
from keras_resnet.measure.latency import measure_latency
from keras_resnet.measure.process import Loader, Opened, in_a_process
from keras_resnet.measure.record import write_record

OUTPUTS = 91  # classes of COCO and the background
SPREAD = {"roi_heads.box_predictor.cls_score.weight": 0.35, "rpn.head.cls_logits.weight": 0.02}  # standard deviations


def main(
    backbone_weights: Annotated[Path, typer.Option(help="ResNet-50 on ImageNet, a .safetensors file.")],
    out: Annotated[Path, typer.Option(help="Record to write.")],
    side: Annotated[int, typer.Option(help="Height and width of the images.")] = 800,
    rounds: int = 5,
    threads: int = os.cpu_count() or 1,
) -> None:
    """Measures each network in turn, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = {"folder": name, "side": side}
        in_a_process("detectors:make_torchvision", {**given, "backbone_weights": str(backbone_weights)})
        in_a_process("detectors:make_ours", given)
        compared = compare(contenders_in(folder, side, threads), threads=threads, rounds=rounds, tell=print)
        parts = in_a_process("detectors:parts_ms", given)
    for failure in compared.failures.values():
        print(failure)
    for contender, result in compared.results.items():
        print(f"{contender:32} {result.timings[1].latency.median_ms:8.0f} ms  {result.peak_memory_mb:6.0f} MB")
    print(parts)
    settings = {"threads": threads, "batch_sizes": [1], "rounds": rounds, "data": None, "side": side}
    results = {name: result.as_dict() for name, result in compared.results.items()}
    write_record(out, "benchmark", settings, {"contenders": results, "failures": compared.failures, "parts_ms": parts})


def contenders_in(folder: Path, side: int, threads: int) -> list[Contender]:
    """Folder with all files -> the contenders."""
    keras_file, ours = str(folder / "model.keras"), "Keras, predict_on_batch, from pixels"
    theirs = {"folder": str(folder), "side": side, "threads": threads}
    found = [
        Contender(f"Keras on {name}", f"detectors:{opener}", {"path": keras_file}, ours)
        for name, opener in (("TensorFlow", "in_keras"), ("JAX", "on_jax"))
    ]
    for path, runtime in ((folder / "out/model.tflite", "LiteRT"), (folder / "out/model.onnx", "ONNX Runtime")):
        arguments = {"path": str(path), "threads": threads, "runtime": runtime}
        found.append(Contender(path.name, cost.OPENER, arguments, f"{runtime}, from pixels", path))
    found.append(in_openvino(found[-1], threads))
    for name, opener, setting in (
        ("PyTorch, eager", "pytorch_eager", "torchvision, inference_mode"),
        ("PyTorch, torch.compile", "pytorch_compiled", "torchvision, inference_mode, inductor"),
        ("PyTorch, ONNX Runtime", "pytorch_in_onnx_runtime", "torch.onnx.export of torchvision's network"),
        ("PyTorch, OpenVINO float32", "pytorch_in_openvino", "torch.onnx.export; hint LATENCY, precision f32"),
    ):
        found.append(Contender(name, f"detectors:{opener}", theirs, setting, ours=False))
    return found


def in_keras(path: str) -> Loader:
    return model_loader(path, **dict.fromkeys(("weights", "weights_prefix", "revision", "task", "output_kind")))


def on_jax(path: str) -> Loader:
    os.environ["KERAS_BACKEND"] = "jax"
    return in_keras(path)


def torchvision_network(folder: str, side: int) -> Any:
    import torch
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    model = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=OUTPUTS, min_size=side, max_size=side
    )
    weights = Path(folder, "network.pth")
    if weights.exists():
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def make_torchvision(folder: str, side: int, backbone_weights: str) -> None:
    """Writes the weights that all networks have, and torchvision's network as an ONNX file."""
    import torch
    from safetensors.torch import load_file

    torch.manual_seed(0)
    model = torchvision_network(folder, side)
    body = {name: values for name, values in load_file(backbone_weights).items() if not name.startswith("fc.")}
    model.backbone.body.load_state_dict(body, strict=False)
    for name, deviation in SPREAD.items():
        torch.nn.init.normal_(model.get_parameter(name), std=deviation)
    torch.save(model.state_dict(), Path(folder, "network.pth"))
    example = [torch.rand(3, side, side)]
    torch.onnx.export(model, (example,), str(Path(folder, "torchvision.onnx")), dynamo=False, opset_version=17)


def make_ours(folder: str, side: int) -> None:
    """Writes our network with these weights as a .keras file, and exports it."""
    import keras_resnet
    from keras_resnet.export import export
    from keras_resnet.model_files import save_model
    from keras_resnet.variants import WholeImage

    sides: dict[str, Any] = {"input_shape": (side, side, 3), "min_size": side, "max_size": side}
    model = keras_resnet.detection.FasterRCNN(classes=OUTPUTS - 1, weights=Path(folder, "network.pth"), **sides)
    names = [f"class {index}" for index in range(OUTPUTS - 1)]
    save_model(model, Path(folder, "model.keras"), names, WholeImage(side, side))
    export(model, Path(folder, "out"), formats=["tflite", "onnx"], class_names=names)


def _ready(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[0].transpose(2, 0, 1), "float32") / 255


def _opened(side: int, run: Callable[[np.ndarray], Any]) -> Opened:
    """Function from an image float32 `[3, side, side]` to boxes, labels and scores -> opened model; of one image."""
    ready: dict[int, np.ndarray] = {}

    def predict(pixels: np.ndarray) -> dict[str, np.ndarray]:
        image = ready.setdefault(id(pixels), _ready(pixels))  # timed calls do not convert
        boxes, labels, scores = run(image)
        return {
            "boxes": np.asarray(boxes)[None],
            "labels": np.asarray(labels)[None],
            "scores": np.asarray(scores)[None],
        }

    return Opened(predict, (side, side, 3))


def _pytorch(folder: str, side: int, threads: int, compiled: bool) -> Loader:
    import torch

    def load() -> Opened:
        torch.set_num_threads(threads)
        model = torchvision_network(folder, side)
        network = torch.compile(model) if compiled else model

        def run(image: np.ndarray) -> Any:
            with torch.inference_mode():
                [found] = network([torch.from_numpy(image)])
            return found["boxes"], found["labels"], found["scores"]

        return _opened(side, run)

    return load


pytorch_eager, pytorch_compiled = partial(_pytorch, compiled=False), partial(_pytorch, compiled=True)


def pytorch_in_onnx_runtime(folder: str, side: int, threads: int) -> Loader:
    import onnxruntime

    def load() -> Opened:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = str(Path(folder, "torchvision.onnx"))
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return _opened(side, lambda image: session.run(None, {name: image}))

    return load


def pytorch_in_openvino(folder: str, side: int, threads: int) -> Loader:
    import openvino

    def load() -> Opened:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        model = openvino.Core().compile_model(str(Path(folder, "torchvision.onnx")), "CPU", settings)
        request = model.create_infer_request()
        return _opened(side, lambda image: [values.copy() for values in request.infer([image]).values()])

    return load


def parts_ms(folder: str, side: int) -> dict[str, float]:
    """-> milliseconds of each part of our network in Keras on TensorFlow, batch 1."""
    import keras
    import tensorflow as tf

    import keras_resnet.detection  # noqa: F401  registers the layers
    from keras_resnet.detection_layers.roi_align import roi_align_in_xla

    model = keras.models.load_model(Path(folder, "model.keras"))
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (1, side, side, 3), "uint8"))
    ends, until_ms = ends_of(model), [0.0]
    for tensors in ends.values():
        until = tf.function(keras.Model(model.input, tensors))
        with roi_align_in_xla():  # as where Keras predicts
            until(pixels)
        until_ms.append(measure_latency(partial(computed, until, pixels), 15, 3).median_ms)
    return {part: after - before for part, before, after in zip(ends, until_ms[:-1], until_ms[1:], strict=True)}


def computed(function: Callable[[Any], Any], pixels: Any) -> Any:
    """Function of pixels, pixels -> its answers as arrays, when they are there."""
    import tensorflow as tf

    return tf.nest.map_structure(np.asarray, function(pixels))


def ends_of(model: Any) -> dict[str, list[Any]]:
    """Detector -> the outputs of each of its parts, in the order in which they run."""

    def outputs(*layers: str) -> list[Any]:
        """-> what all calls of these layers yield, since one layer serves all levels of the pyramid."""
        nodes = [node for name in layers for node in model.get_layer(name)._inbound_nodes]
        return [tensor for node in nodes for tensor in node.outputs]

    return {
        "backbone": [model.get_layer(f"fpn_lateral{level}_conv").input for level in range(2, 6)],
        "pyramid": outputs(*(f"fpn_output{level}_conv" for level in range(2, 6)), "fpn_pool"),
        "region proposal network": outputs("rpn_logits", "rpn_deltas"),
        "decoding and suppression of proposals": outputs("rpn_proposals"),
        "RoIAlign": outputs("box_align", "rpn_proposals"),
        "box head": outputs("box_logits", "box_deltas"),
        "decoding and suppression of detections": [*model.outputs],
    }


if __name__ == "__main__":
    typer.run(main)
