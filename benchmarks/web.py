"""Pages in headless Chromium beside their networks in ONNX Runtime: time of an answer, equality, bytes to fetch.

    python benchmarks/web.py IMAGES out/web out/web-float32
    python benchmarks/web.py IMAGES out/web --count 20 --out benchmarks/results/web.json

Each image file goes to the page and to the artifact in ONNX Runtime in turn, both on one thread, after one untimed
image. The page's time is taken in the browser: pixels (decoding, resize, crop) and network apart. The record has the
median and smallest times, the largest difference between the outputs of the two, on how many images both answer alike
and have equal pixels, and the bytes of all files that the page loads, plain and by gzip.
"""

import gzip
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from shared import finish

from keras_resnet.answers import MASK, PROBABILITIES
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.browser import BrowserPage
from keras_resnet.preprocessing import list_images, load_image


def main(
    images: Annotated[str, typer.Argument(help="Image files: a folder or a quoted glob.")],
    folders: Annotated[list[Path], typer.Argument(help="Folders of the format web.")],
    count: Annotated[int, typer.Option(min=2, help="Number of images, evenly chosen.")] = 20,
    out: Annotated[Path | None, typer.Option(help="File for the record.")] = None,
) -> None:
    files = list_images([images])
    chosen = [files[place] for place in np.linspace(0, len(files) - 1, count).astype(int)]
    results = {f"{folder.parent.name}/{folder.name}": measured(folder, chosen) for folder in folders}
    finish(out, "web", {"images": count, "threads": 1}, results)


def measured(folder: Path, files: list[Path]) -> dict[str, Any]:
    """Folder, image files -> times, equality and bytes."""
    page, artifact = BrowserPage(folder), open_artifact(folder, threads=1)
    times: dict[str, list[float]] = {"pixels": [], "network": [], "native": []}
    differences, alike, equal_pixels = [], 0, 0
    for place, file in enumerate(files):
        content = file.read_bytes()
        pixels = load_image(file, artifact.contract)
        answer = page.answer_to(content)
        start = time.perf_counter()
        native = artifact.predict(pixels[None])
        elapsed_ms = 1e3 * (time.perf_counter() - start)
        if place:
            for name, value_ms in (
                ("pixels", answer["pixels_ms"]),
                ("network", answer["network_ms"]),
                ("native", elapsed_ms),
            ):
                times[name].append(value_ms)
        own = page.run(pixels[None])
        differences += [float(np.abs(own[name].astype("float64") - native[name]).max()) for name in own]
        alike += decision(own) == decision(native)
        equal_pixels += np.array_equal(page.pixels_of(content), pixels.ravel())
    loaded = [file for file in folder.rglob("*") if file.is_file() and file.parts[-2] != "assets.extra"]
    return {
        "task": artifact.task.name,
        **{
            f"{name}_{which}_ms": round(each(values), 1)
            for name, values in times.items()
            for which, each in (("median", statistics.median), ("min", min))
        },
        "largest_difference": max(differences),
        "images_with_equal_pixels": equal_pixels,
        "images_answered_alike": alike,
        "bytes": sum(file.stat().st_size for file in loaded),
        "gzip_bytes": sum(len(gzip.compress(file.read_bytes(), 6)) for file in loaded),
    }


def decision(outputs: Any) -> list[int]:
    """Outputs for one image -> what they decide: the first class, the classes of the pixels, or of the boxes."""
    if MASK in outputs:
        return list(outputs[MASK].ravel())
    if PROBABILITIES in outputs:
        return list(outputs[PROBABILITIES].argmax(axis=-1).ravel())
    return list(outputs["labels"].ravel())


if __name__ == "__main__":
    typer.run(main)
