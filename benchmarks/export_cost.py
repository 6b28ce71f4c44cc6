"""Wall time and peak memory of each format's export, and of the bare converter that it calls.

Each export runs in a process of its own, which starts with the model built and ends with the file written; the peak is
that of the whole process. The bare conversion is what the converter's documentation shows, with the same calibration
images and without folding, proof, description or manifest.

    python benchmarks/export_cost.py --images calibration/ --out benchmarks/results/export_cost.json
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from shared import recorded

from keras_resnet.cli.network import WeightsOption
from keras_resnet.export.formats import FORMATS, all_formats
from keras_resnet.measure.memory import peak_memory_mb
from keras_resnet.measure.process import in_a_process
from keras_resnet.measure.record import write_record
from keras_resnet.optional import require

BARE = "bare "  # before a format's name: the converter alone


def main(
    images: Annotated[Path, typer.Option(help="Folder of calibration images.")],
    out: Annotated[Path, typer.Option()],
    model: str = "resnet50",
    weights: WeightsOption = None,
    count: Annotated[int, typer.Option(help="Calibration images.")] = 100,
) -> None:
    """Exports a network to each format, ours and bare by turns. What the record holds is not measured again."""
    given = {"model": model, "weights": weights, "images": str(images), "count": count}
    record, settings = f"export_cost_{model}", {"model": model, "calibration": count}
    results = recorded(out, record, settings)
    for job in (job for name in all_formats() for job in (name, BARE + name) if job not in results):
        results[job] = in_a_process("export_cost:measure", {"job": job, **given})
        print(job, results[job], flush=True)
        write_record(out, record, settings, results)


def measure(job: str, model: str, weights: str | None, images: str, count: int) -> dict[str, float]:
    """Format, after `BARE` or not -> seconds and memory of its export."""
    from keras_resnet.loading import open_network
    from keras_resnet.preprocessing import list_images, load_images

    network, _ = open_network(model, weights)
    pixels = load_images(list_images([images])[:count])
    with tempfile.TemporaryDirectory() as folder:
        before_mb = peak_memory_mb()
        start = time.perf_counter()
        if not job.startswith(BARE):
            from keras_resnet.export import export

            export(network, folder, [job], calibration=pixels)
        elif job == BARE + "saved_model":
            network.export(f"{folder}/model", verbose=False)
        else:
            convert = {"tflite": bare_tflite, "onnx": bare_onnx, "openvino": bare_openvino}
            kind = job.removeprefix(BARE).partition("-")[0]
            convert[kind](job.removeprefix(BARE), network, pixels, Path(folder, "model"))
        seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 2), "peak_memory_mb": round(peak_memory_mb()), "before_mb": round(before_mb)}


def bare_tflite(name: str, network: Any, pixels: Any, path: Path) -> None:
    import tensorflow as tf

    function = tf.function(lambda image: network(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, *network.input_shape[1:]), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if name != "tflite":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == "tflite-float16":
        converter.target_spec.supported_types = [tf.float16]
    if FORMATS[name].calibrated:
        converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in pixels)
        sets = tf.lite.OpsSet
        int16 = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [int16 if "16" in name else sets.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())


def bare_onnx(name: str, network: Any, pixels: Any, path: Path) -> None:
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
    onnx.save(proto, path)
    if name == "onnx-int8":

        class Reader(quantization.CalibrationDataReader):
            feeds = iter([{"image": image[None].astype("float32")} for image in pixels])

            def get_next(self) -> Any:
                return next(self.feeds, None)

        quantization.quantize_static(path, path.with_suffix(".int8"), Reader(), per_channel=True)


def bare_openvino(name: str, network: Any, pixels: Any, path: Path) -> None:
    openvino = require("openvino", "openvino")
    bare_onnx(name.replace("openvino", "onnx"), network, pixels, path)
    source = path.with_suffix(".int8") if FORMATS[name].calibrated else path
    openvino.save_model(openvino.convert_model(source), path.with_suffix(".xml"), compress_to_fp16=False)


if __name__ == "__main__":
    typer.run(main)
