"""Post-training int8 TFLite by several ways, on the same calibration images: top-1, agreement, unexplained variance.

The TFLite converter alone (normalisation in the graph), the converter on the folded model, ai-edge-quantizer with true
minima and maxima and with its default moving average, and this package's ranges by both methods and with fewer images.
Accuracy is that on the images that do not calibrate.

    python benchmarks/quantizers.py resnet50 --weights resnet50.safetensors \
        --images val/ --labels val.csv --out benchmarks/results/quantizers_resnet50.json
"""

import csv
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_resnet.cli.network import WeightsOption
from keras_resnet.evaluation import top1_agreement_percent, topk_accuracy_percent
from keras_resnet.inference import predict
from keras_resnet.loading import open_network
from keras_resnet.measure.record import write_record
from keras_resnet.preprocessing import load_images


def main(
    model: str,
    images: Annotated[Path, typer.Option()],
    labels: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    weights: WeightsOption = None,
    calibration: Annotated[int, typer.Option(help="Number of images that calibrate.")] = 100,
) -> None:
    """Writes and measures one file after the other."""
    network, contract = open_network(model, weights)
    from keras_resnet.export.fold import fold
    from keras_resnet.export.prepare import prepare
    from keras_resnet.export.quantize import quantize

    with labels.open() as file:
        entries = list(csv.DictReader(file))
    pixels = load_images([images / entry["file"] for entry in entries], contract)
    classes = np.array([int(entry["index"]) for entry in entries])
    chosen = np.linspace(0, len(pixels) - 1, calibration).astype(int)
    held_out = ~np.isin(np.arange(len(pixels)), chosen)
    prepared = prepare(network, contract)
    folded = fold(prepared)
    expected = predict(prepared, pixels)[held_out]
    deviation = np.square(expected - expected.mean(axis=0)).sum()
    results: dict[str, Any] = {"model": {"top1_percent": topk_accuracy_percent(expected, classes[held_out])}}

    def measure(name: str, content: bytes) -> None:
        answers = _predict(content, pixels[held_out])
        results[name] = {
            "size_bytes": len(content),
            "top1_percent": topk_accuracy_percent(answers, classes[held_out]),
            "agreement_percent": top1_agreement_percent(answers, expected),
            "unexplained_variance": float(np.square(answers - expected).sum() / deviation),
        }
        print(name, results[name], flush=True)

    few = pixels[chosen]
    measure("converter", _converted(prepared, few))
    measure("converter, folded model", _converted(folded, few))
    measure("ai-edge-quantizer, min and max", _ai_edge(folded, few, moving_average=False))
    measure("ai-edge-quantizer, moving average", _ai_edge(folded, few, moving_average=True))
    for count in (calibration, 32):
        for ranges in ("minmax", "mse"):
            subset = few[np.linspace(0, len(few) - 1, count).astype(int)]
            content = _converted(quantize(folded, subset, ranges=ranges).simulate(), None)
            measure(f"this package, {ranges}, {count} images", content)
    settings = {"model": model, "images": int(held_out.sum()), "calibration": calibration}
    write_record(out, f"quantizers_{model}", settings, results)


def _converted(model: Any, images: np.ndarray | None) -> bytes:
    """Model -> int8 file; with images, the converter finds the ranges."""
    import tensorflow as tf

    from keras_resnet.export.to_savedmodel import write_savedmodel

    with tempfile.TemporaryDirectory() as folder:
        write_savedmodel(model, Path(folder), batch_size=1)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if images is not None:
            converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        return converter.convert()


def _ai_edge(model: Any, images: np.ndarray, moving_average: bool) -> bytes:
    import tensorflow as tf
    from ai_edge_quantizer import calibrator, quantizer, recipe
    from ai_edge_quantizer.utils import qsv_utils

    from keras_resnet.export.to_savedmodel import write_savedmodel

    with tempfile.TemporaryDirectory() as folder:
        write_savedmodel(model, Path(folder), batch_size=1)
        path = Path(folder, "float.tflite")
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
        tool = quantizer.Quantizer(str(path))
        tool.load_quantization_recipe(recipe.static_wi8_ai8())
        update = {} if moving_average else {"qsv_update_func": qsv_utils.min_max_update}
        observer = calibrator.Calibrator(str(path), num_threads=2, **update)
        feeds = [{"image": image[None].astype("float32")} for image in images]
        observer.calibrate({"serving_default": feeds}, tool._recipe_manager)
        written = Path(folder, "int8.tflite")
        tool.quantize(observer.get_model_qsvs(), enable_progress_report=False).export_model(str(written))
        return written.read_bytes()


def _predict(content: bytes, pixels: np.ndarray) -> np.ndarray:
    """int8 or uint8 file, pixels -> probabilities."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=2)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = given["quantization"]
    limits = np.iinfo(given["dtype"])
    answers = []
    for image in pixels:
        stored = np.clip(np.round(image / scale) + zero_point, limits.min, limits.max).astype(given["dtype"])
        interpreter.set_tensor(given["index"], stored[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(answer["index"])[0].astype("float32"))
    scale, zero_point = answer["quantization"]
    return (np.stack(answers) - zero_point) * scale


if __name__ == "__main__":
    typer.run(main)
