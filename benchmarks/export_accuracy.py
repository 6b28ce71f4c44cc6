"""Float model and its artifacts on labelled images: size, error, top-1, top-5, agreement.

The CSV has the columns `index` (class) and `file`. Of the images, some calibrate, evenly out of all; the accuracy is
that on the others. The int8 formats are written with each method of ranges.

    python benchmarks/export_accuracy.py resnet50 --weights resnet50.safetensors \
        --images val/ --labels val.csv --out benchmarks/results/export_accuracy_resnet50.json
"""

import csv
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer

from keras_resnet.cli.network import WeightsOption
from keras_resnet.evaluation import topk_accuracy_percent
from keras_resnet.loading import open_network
from keras_resnet.measure.record import write_record
from keras_resnet.preprocessing import load_images


def main(
    model: str,
    images: Annotated[Path, typer.Option()],
    labels: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    weights: WeightsOption = None,
    formats: Annotated[str, typer.Option(help="Comma-separated, or all.")] = "all",
    keep: Annotated[Path, typer.Option(help="Folder for the artifacts, to be timed by artifact_latency.py.")] = Path(
        "runs/export_accuracy"
    ),
    calibration: Annotated[int, typer.Option(help="Number of images that calibrate.")] = 100,
) -> None:
    """Exports every format, with proof, and compares each with the float model."""
    network, contract = open_network(model, weights)
    from keras_resnet.export import LabelledImages, Options, export
    from keras_resnet.export.formats import FORMATS
    from keras_resnet.export.manifest import size_bytes
    from keras_resnet.tasks.classify.evaluation import ClassEvaluation

    with labels.open() as file:
        entries = list(csv.DictReader(file))
    pixels = load_images([images / entry["file"] for entry in entries], contract)
    classes = np.array([int(entry["index"]) for entry in entries])
    calibrates = np.isin(np.arange(len(pixels)), np.linspace(0, len(pixels) - 1, calibration).astype(int))
    held_out = (pixels[~calibrates], classes[~calibrates])

    names = list(FORMATS) if formats == "all" else formats.split(",")
    results: dict[str, dict[str, Any]] = {}
    for ranges in ("minmax", "mse"):
        chosen = [name for name in names if ranges == "minmax" or "ranges" in FORMATS[name].options]
        method: Any = ranges if any("ranges" in FORMATS[name].options for name in chosen) else None
        if not chosen:
            continue
        report = export(
            network,
            keep / ranges,
            chosen,
            calibration=pixels[calibrates],
            data=LabelledImages(held_out, max_drop_points=100.0),
            contract=contract,
            options=Options(ranges=method),
            overwrite=True,
        )
        evaluations = cast("dict[str, ClassEvaluation]", report.evaluations)
        expected = evaluations["model"].probabilities
        results["model"] = {
            "top1_percent": topk_accuracy_percent(expected, held_out[1], 1),
            "top5_percent": topk_accuracy_percent(expected, held_out[1], 5),
        }
        for name, path in report.paths.items():
            answers = evaluations[name].probabilities
            key = f"{name} {ranges}" if "ranges" in FORMATS[name].options else name
            results[key] = {
                "size_bytes": size_bytes(path),
                "relative_error": float(np.max(np.abs(answers - expected)) / np.max(np.abs(expected))),
                **report.accuracy[name].as_dict(),
                "agreement_percent_calibration": report.reports[name].top1_agreement_percent,
            }
            print(key, results[key], flush=True)
    settings = {"model": model, "images": len(pixels), "calibration": int(calibrates.sum()), "batch_size": 1}
    write_record(out, f"export_accuracy_{model}", settings, results)


if __name__ == "__main__":
    typer.run(main)
