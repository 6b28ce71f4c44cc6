"""Latency of int8 artifacts beside the same network without normalisation, and beside OpenVINO: one run, by turns.

    python benchmarks/int8_latency.py resnet50 --weights resnet50.safetensors --images calibration/ \
        --openvino-python other-environment/bin/python --out benchmarks/results/int8_latency_resnet50.json
"""

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_resnet import layer_names
from keras_resnet.cli.network import WeightsOption
from keras_resnet.loading import open_network
from keras_resnet.measure.latency import measure_latency
from keras_resnet.measure.record import write_record
from keras_resnet.preprocessing import list_images, load_images

BARE = "tflite-int8, no preprocessing"
OPENVINO = "openvino int8"
THREADS = 2


def main(
    model: str,
    images: Annotated[Path, typer.Option(help="Folder of calibration images.")],
    out: Annotated[Path, typer.Option()],
    weights: WeightsOption = None,
    openvino_python: Annotated[Path | None, typer.Option(help="Python with openvino and nncf.")] = None,
    count: Annotated[int, typer.Option(help="Calibration images.")] = 100,
    rounds: int = 25,
    runs: Annotated[int, typer.Option(help="Of each contender in a round.")] = 8,
) -> None:
    """Times every contender in each round and compares their medians round by round."""
    network, contract = open_network(model, weights)
    from keras_resnet.export import export
    from keras_resnet.export.formats import FORMATS
    from keras_resnet.export.runtimes import open_runtime

    pixels = load_images(list_images([images])[:count], contract)
    contenders: dict[str, Callable[[int], list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = export(network, folder, ["tflite-int8", "onnx", "onnx-int8"], calibration=pixels).paths
        for key in ("tflite-int8", "onnx-int8"):
            runtime = open_runtime(paths[key], FORMATS[key], THREADS)
            image = pixels[:1] if key == "tflite-int8" else pixels[:1].astype("float32")
            contenders[key] = _timed(lambda runtime=runtime, image=image: runtime.run(image))  # type: ignore[misc]
        contenders[BARE] = _timed(_bare(model, network, pixels, folder))
        versions = {}
        if openvino_python is not None:
            np.save(folder / "calibration.npy", pixels)
            script = Path(__file__).with_name("openvino_int8.py")
            command = list(
                map(str, (openvino_python, script, paths["onnx"], folder / "calibration.npy", "--threads", THREADS))
            )
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            versions = _answer(process)
            contenders[OPENVINO] = lambda runs: _ask(process, runs)

        medians: dict[str, list[float]] = {key: [] for key in contenders}
        for contender in contenders.values():
            contender(runs)  # warm-up
        for _ in range(rounds):
            for key, contender in contenders.items():
                medians[key].append(float(np.median(contender(runs))))
        if openvino_python is not None:
            process.communicate()
    results: dict[str, Any] = {}
    for key, values in medians.items():
        ratios = np.array(values) / np.array(medians["tflite-int8"])
        results[key] = {
            "latency_ms": _spread(values),
            "ratio_to_tflite_int8": _spread(ratios),
        }
        print(key, results[key], flush=True)
    settings = {"model": model, "threads": THREADS, "batch_size": 1, "rounds": rounds, "runs": runs, **versions}
    write_record(out, f"int8_latency_{model}", settings, results)


def _timed(call: Callable[[], Any]) -> Callable[[int], list[float]]:
    return lambda runs: [measure_latency(call, 1, 0).median_ms for _ in range(runs)]


def _spread(values: Any) -> dict[str, float]:
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return {"median": float(median), "p10": float(p10), "p90": float(p90)}


def _bare(model: str, network: Any, pixels: np.ndarray, folder: Path) -> Callable[[], Any]:
    """The same network from normalised values on, by the converter alone, int8 at both ends."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    from keras_resnet.models import BUILDERS

    bare = BUILDERS[model](include_preprocessing=False)
    bare.set_weights(network.get_weights())
    values = network.get_layer(layer_names.PREPROCESSING)(pixels.astype("float32")).numpy()
    function = tf.function(lambda image: bare(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, *values.shape[1:]), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([value[None]] for value in values)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path = folder / "bare.tflite"
    path.write_bytes(converter.convert())
    interpreter = Interpreter(str(path), num_threads=THREADS)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = given["quantization"]
    image = np.clip(np.round(values[:1] / scale) + zero_point, -128, 127).astype("int8")

    def run() -> Any:
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    return run


def _ask(process: Any, runs: int) -> list[float]:
    process.stdin.write(f"{runs}\n")
    process.stdin.flush()
    return _answer(process)


def _answer(process: Any) -> Any:
    for line in process.stdout:
        if line.startswith(("{", "[")):
            return json.loads(line)
    raise RuntimeError("the OpenVINO process ended without an answer")


if __name__ == "__main__":
    typer.run(main)
