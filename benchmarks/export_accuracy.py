"""Float model and its artifacts on labelled images: size, error, top-1, top-5, agreement, latency, export time.

The CSV has the columns `index` (class) and `file` (in the folder). Of the images, every n-th calibrates; the accuracy
is that on the others.

    python benchmarks/export_accuracy.py resnet50 --weights resnet50.safetensors \
        --images val/ --labels val.csv --out benchmarks/results/export_accuracy_resnet50.json
"""

import csv
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_resnet.benchmark.latency import measure_latency
from keras_resnet.benchmark.record import write_record
from keras_resnet.cli.network import WeightsOption, open_network
from keras_resnet.evaluation import top1_agreement_percent, topk_accuracy_percent
from keras_resnet.preprocessing import load_images


def main(
    model: str,
    images: Annotated[Path, typer.Option()],
    labels: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    weights: WeightsOption = None,
    calibration: Annotated[int, typer.Option(help="Number of images that calibrate.")] = 100,
) -> None:
    """Exports every format, with proof, and compares each with the float model."""
    network, contract = open_network(model, weights)
    from keras_resnet.export import export
    from keras_resnet.export.formats import FORMATS
    from keras_resnet.export.manifest import size_bytes
    from keras_resnet.export.runtimes import open_runtime, predict

    with labels.open() as file:
        entries = list(csv.DictReader(file))
    pixels = load_images([images / entry["file"] for entry in entries], contract)
    classes = np.array([int(entry["index"]) for entry in entries])
    calibrates = np.isin(np.arange(len(pixels)), np.linspace(0, len(pixels) - 1, calibration).astype(int))

    expected = network.predict(pixels, verbose=0)
    results: dict[str, dict[str, Any]] = {
        "model": {
            "top1_percent": topk_accuracy_percent(expected[~calibrates], classes[~calibrates], 1),
            "top5_percent": topk_accuracy_percent(expected[~calibrates], classes[~calibrates], 5),
        }
    }
    started: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        report = export(
            network,
            folder,
            list(FORMATS),
            calibration=pixels[calibrates],
            contract=contract,
            progress=lambda step, done, total: started.update({step: time.perf_counter()}),
        )
        for name, path in report.paths.items():
            runtime = open_runtime(path, FORMATS[name])
            answers = predict(runtime, pixels)
            latency = measure_latency(lambda runtime=runtime: runtime.run(pixels[:1]))  # type: ignore[misc]
            results[name] = {
                "size_bytes": size_bytes(path),
                "write_s": started[f"verify {name}"] - started[f"write {name}"],
                "relative_error": float(np.max(np.abs(answers - expected)) / np.max(np.abs(expected))),
                "top1_percent": topk_accuracy_percent(answers[~calibrates], classes[~calibrates], 1),
                "top5_percent": topk_accuracy_percent(answers[~calibrates], classes[~calibrates], 5),
                "top1_agreement_percent": top1_agreement_percent(answers[~calibrates], expected[~calibrates]),
                "top1_agreement_percent_all": top1_agreement_percent(answers, expected),
                "latency": asdict(latency),
            }
            print(name, results[name], flush=True)
    settings = {"model": model, "images": len(pixels), "calibration": int(calibrates.sum()), "batch_size": 1}
    write_record(out, f"export_accuracy_{model}", settings, results)


if __name__ == "__main__":
    typer.run(main)
