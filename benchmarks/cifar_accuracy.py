"""Accuracy of the published CIFAR-10 networks, as this package loads and runs them.

The published figures are those of the 10,000 test images, which the record does not repeat unless they are given.

    python benchmarks/cifar_accuracy.py train4000_lossless.npz test_first20_lossless.npz test2000_jpeg.zip \
        --weights resnet20-12fca82f.th --weights resnet32-d509ac18.th --out benchmarks/results/cifar_accuracy.json
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from cifar10 import read_images

from keras_resnet.inference import predict
from keras_resnet.measure.record import write_record
from keras_resnet.models import BUILDERS
from keras_resnet.variants import VARIANTS

BATCH_SIZE = 100


def main(
    images: Annotated[
        list[Path], typer.Argument(help="NumPy archives with x and y, or zip archives of class folders.")
    ],
    weights: Annotated[list[Path], typer.Option(help="A file of published weights, under its own name.")],
    out: Annotated[Path, typer.Option()],
) -> None:
    """Counts right answers of every network on every archive."""
    archives = {path.name: read_images(path) for path in images}
    results: dict[str, Any] = {}
    for path in weights:
        [variant] = [row for row in VARIANTS.values() if row.file is not None and row.file.name == path.name]
        model = BUILDERS[variant.name](weights=path, classifier_activation=None)
        on_images = {}
        for name, (pixels, classes) in archives.items():
            right = int((predict(model, pixels, BATCH_SIZE).argmax(axis=1) == classes).sum())
            on_images[name] = {"images": len(classes), "right": right, "top1_percent": 100 * right / len(classes)}
        published = variant.file.top1_percent if variant.file is not None else None
        results[variant.name] = {"weights": path.name, "published_top1_percent": published, "images": on_images}
        print(variant.name, json.dumps(on_images), flush=True)
    write_record(out, "cifar_accuracy", {"batch_size": BATCH_SIZE}, results)


if __name__ == "__main__":
    typer.run(main)
