"""Post-training int8 TFLite by several ways, on the same calibration images: top-1, agreement, unexplained variance.

The TFLite converter alone (normalisation in the graph), the converter on the folded model, ai-edge-quantizer with true
minima and maxima and with its default moving average, and this package's ranges by both methods and with fewer images.
Accuracy is that on the images that do not calibrate.

    python benchmarks/quantizers.py resnet50 --weights resnet50.safetensors \
        --images val/ --labels val.csv --out benchmarks/results/quantizers_resnet50.json
"""

import csv
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from shared import finish, int8_file, litert_answers

from keras_resnet.cli.network import WeightsOption
from keras_resnet.evaluation import top1_agreement_percent, topk_accuracy_percent
from keras_resnet.inference import predict
from keras_resnet.loading import open_network
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
    calibrates = np.linspace(0, len(pixels) - 1, calibration).astype(int)
    held_out = ~np.isin(np.arange(len(pixels)), calibrates)
    few, classes = pixels[calibrates], classes[held_out]
    prepared = prepare(network, contract)
    folded = fold(prepared)
    expected = predict(prepared, pixels[held_out])
    deviation = np.square(expected - expected.mean(axis=0)).sum()

    def ours(ranges: Any, count: int) -> bytes:
        subset = few[np.linspace(0, len(few) - 1, count).astype(int)]
        return with_saved(quantize(folded, subset, ranges=ranges).simulate(), int8_file)

    ways: dict[str, Callable[[], bytes]] = {
        "converter": partial(with_saved, prepared, int8_file, few),
        "converter, folded model": partial(with_saved, folded, int8_file, few),
        "ai-edge-quantizer, min and max": partial(with_saved, folded, ai_edge, few, moving_average=False),
        "ai-edge-quantizer, moving average": partial(with_saved, folded, ai_edge, few, moving_average=True),
    }
    for count in (calibration, 32):
        for ranges in ("minmax", "mse"):
            ways[f"this package, {ranges}, {count} images"] = partial(ours, ranges, count)
    results: dict[str, Any] = {"model": {"top1_percent": topk_accuracy_percent(expected, classes)}}
    for name, way in ways.items():
        print(name, flush=True)
        content = way()
        answers = litert_answers(content, pixels[held_out])
        results[name] = {
            "size_bytes": len(content),
            "top1_percent": topk_accuracy_percent(answers, classes),
            "agreement_percent": top1_agreement_percent(answers, expected),
            "unexplained_variance": float(np.square(answers - expected).sum() / deviation),
        }
    settings = {"model": model, "images": int(held_out.sum()), "calibration": calibration}
    finish(out, f"quantizers_{model}", settings, results)


def with_saved(model: Any, way: Callable[..., bytes], *arguments: Any, **options: Any) -> bytes:
    """Model, function of TensorFlow's converter -> what it makes of the model."""
    import tensorflow as tf

    from keras_resnet.export.to_savedmodel import write_savedmodel

    with tempfile.TemporaryDirectory() as folder:
        write_savedmodel(model, Path(folder), batch_size=1)
        return way(tf.lite.TFLiteConverter.from_saved_model(folder), *arguments, **options)


def ai_edge(converter: Any, images: np.ndarray, moving_average: bool) -> bytes:
    from ai_edge_quantizer import calibrator, quantizer, recipe
    from ai_edge_quantizer.utils import qsv_utils

    with tempfile.TemporaryDirectory() as folder:
        given, written = f"{folder}/float.tflite", f"{folder}/int8.tflite"
        Path(given).write_bytes(converter.convert())
        tool = quantizer.Quantizer(given)
        tool.load_quantization_recipe(recipe.static_wi8_ai8())
        update = {} if moving_average else {"qsv_update_func": qsv_utils.min_max_update}
        observer = calibrator.Calibrator(given, num_threads=2, **update)
        feeds = [{"image": image[None].astype("float32")} for image in images]
        observer.calibrate({"serving_default": feeds}, tool._recipe_manager)
        tool.quantize(observer.get_model_qsvs(), enable_progress_report=False).export_model(written)
        return Path(written).read_bytes()


if __name__ == "__main__":
    typer.run(main)
