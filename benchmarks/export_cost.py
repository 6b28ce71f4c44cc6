"""Wall time and peak memory of each format's export, and of the bare converter that it calls.

Each export runs in a process of its own, which starts with the model built and ends with the file written; the peak is
that of the whole process. The bare conversion is what the converter's documentation shows, with the same calibration
images and without folding, proof, description or manifest.

    python benchmarks/export_cost.py --images calibration/ --out benchmarks/results/export_cost.json
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.network import WeightsOption
from keras_resnet.loading import open_network
from keras_resnet.measure.memory import peak_memory_mb
from keras_resnet.measure.record import write_record

BARE = "bare "  # before a format's name: the converter alone


def main(
    images: Annotated[Path, typer.Option(help="Folder of calibration images.")],
    out: Annotated[Path, typer.Option()],
    model: str = "resnet50",
    weights: WeightsOption = None,
    count: Annotated[int, typer.Option(help="Calibration images.")] = 100,
    one: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Exports a network to each format, ours and bare by turns."""
    if one is not None:
        print(json.dumps(_measure(one, model, weights, images, count)))
        return
    from keras_resnet.export.formats import FORMATS

    results = {}
    for name in FORMATS:
        for job in (name, BARE + name):
            command = [sys.executable, __file__, "--one", job, "--model", model, "--images", str(images)]
            command += ["--count", str(count), "--out", str(out), *(["--weights", weights] if weights else [])]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            results[job] = json.loads(run.stdout.splitlines()[-1])
            print(job, results[job], flush=True)
    write_record(out, f"export_cost_{model}", {"model": model, "calibration": count}, results)


def _measure(job: str, model: str, weights: str | None, images: Path, count: int) -> dict[str, float]:
    from keras_resnet.preprocessing import list_images, load_images

    network, _ = open_network(model, weights)
    pixels = load_images(list_images([images])[:count])
    with tempfile.TemporaryDirectory() as folder:
        before_mb = peak_memory_mb()
        start = time.perf_counter()
        if job.startswith(BARE):
            _bare(job.removeprefix(BARE), network, pixels, Path(folder))
        else:
            from keras_resnet.export import export

            export(network, folder, [job], calibration=pixels)
        seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 2), "peak_memory_mb": round(peak_memory_mb()), "before_mb": round(before_mb)}


def _bare(name: str, network: Any, pixels: Any, folder: Path) -> None:
    if name == "saved_model":
        network.export(str(folder / "model"), verbose=False)
    elif name.startswith("tflite"):
        (folder / "model.tflite").write_bytes(_bare_tflite(name, network, pixels))
    else:
        _bare_onnx(name, network, pixels, folder)


def _bare_tflite(name: str, network: Any, pixels: Any) -> bytes:
    import tensorflow as tf

    function = tf.function(lambda image: network(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, *network.input_shape[1:]), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if name != "tflite":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == "tflite-float16":
        converter.target_spec.supported_types = [tf.float16]
    if "int" in name:
        converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in pixels)
        sets = tf.lite.OpsSet
        int16 = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [int16 if "16" in name else sets.TFLITE_BUILTINS_INT8]
    return converter.convert()


def _bare_onnx(name: str, network: Any, pixels: Any, folder: Path) -> None:
    import onnx
    import tensorflow as tf
    import tf2onnx
    from onnxruntime import quantization
    from onnxruntime.transformers.float16 import convert_float_to_float16

    spec = (tf.TensorSpec((None, *network.input_shape[1:]), tf.float32, name="image"),)
    function = tf.function(lambda image: network(image, training=False), input_signature=spec)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=spec, opset=17)
    if name == "onnx-float16":
        proto = convert_float_to_float16(proto, keep_io_types=True)
    onnx.save(proto, folder / "model.onnx")
    if name == "onnx-int8":

        class Reader(quantization.CalibrationDataReader):
            feeds = iter([{"image": image[None].astype("float32")} for image in pixels])

            def get_next(self) -> Any:
                return next(self.feeds, None)

        quantization.quantize_static(folder / "model.onnx", folder / "int8.onnx", Reader(), per_channel=True)


if __name__ == "__main__":
    typer.run(main)
