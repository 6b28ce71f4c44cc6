"""How cost grows with depth, image size, batch, threads, classes and the number of files: each beside its work.

Networks have random weights, on which no latency depends. Depth, size, batch and threads: float32 ONNX files of free
size in ONNX Runtime; classes: ResNet-18 in Keras, whose head can be as wide as it likes. The points of a curve are
measured by turns. Files: a CSV file of so many rows, of a thousand images; time from its name to the first batch.

    python benchmarks/cost_growth.py --out benchmarks/results/cost_growth.json
"""

import csv
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from PIL import Image
from shared import chosen, finish

from keras_resnet.export import cost
from keras_resnet.measure.latency import Latency
from keras_resnet.measure.process import Loader, Opened, Subject
from keras_resnet.measure.turns import by_turns
from keras_resnet.quiet import import_keras
from keras_resnet.variants import VARIANTS

NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
SIZES = (128, 160, 224, 320, 512)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
THREADS = (1, 2)
CLASSES = (10, 100, 1_000, 10_000, 100_000)
FILES = (1_000, 10_000, 100_000, 1_000_000)
IMAGES = 1_000  # files that the rows name, again and again
CALLS = 5  # of each point in a round


class Point(NamedTuple):
    """One measurement, and the work it does: multiply-accumulates, in 10^9, over the cores that share them."""

    work: float
    opener: str
    arguments: dict[str, Any]
    batch_size: int = 1
    side: int = 224
    threads: int = 2


def main(
    out: Annotated[Path, typer.Option(help="Record to write.")],
    rounds: int = 5,
    networks: Annotated[str, typer.Option(help="With commas between them.")] = ",".join(NETWORKS),
) -> None:
    """Measures every curve, prints each point's time and its time for the work against the first point's."""
    with tempfile.TemporaryDirectory() as name:
        files = {network: write_onnx(network, Path(name)) for network in chosen("--networks", networks, NETWORKS)}
        results = {what: measured(points, rounds) for what, points in curves(files).items()}
        results["files"] = pipeline_start(Path(name))
    finish(out, "cost_growth", {"rounds": rounds, "calls": CALLS, "networks": networks}, results)


def write_onnx(network: str, folder: Path) -> Path:
    import_keras()
    from keras_resnet.export import Options, export
    from keras_resnet.models import BUILDERS

    print(f"writing {network}", flush=True)
    return export(BUILDERS[network](), folder / network, ["onnx"], options=Options(any_size=True)).paths["onnx"]


def curves(files: Mapping[str, Path]) -> dict[str, dict[int | str, Point]]:
    """ONNX files by network -> by what grows: its points."""
    middle = "resnet50" if "resnet50" in files else next(iter(files))
    gmacs = VARIANTS[middle].gmacs
    narrow = VARIANTS["resnet18"].gmacs

    def onnx(network: str, work: float, **settings: int) -> Point:
        arguments = {"path": str(files[network]), "threads": settings.get("threads", 2)}
        return Point(work, cost.OPENER, arguments, **settings)

    def wide(classes: int) -> Point:
        return Point(narrow + 512 * (classes - 1000) / 1e9, "cost_growth:resnet18_loader", {"classes": classes})

    return {
        "depth": {network: onnx(network, VARIANTS[network].gmacs) for network in files},
        "size": {side: onnx(middle, gmacs * (side / 224) ** 2, side=side) for side in SIZES},
        "batch": {count: onnx(middle, gmacs * count, batch_size=count) for count in BATCHES},
        "threads": {threads: onnx(middle, gmacs / threads, threads=threads) for threads in THREADS},
        "classes": {classes: wide(classes) for classes in CLASSES},
    }


def resnet18_loader(classes: int) -> Loader:
    """Number of classes -> what opens ResNet-18 with so wide a head in Keras."""
    import_keras()
    from keras_resnet import ResNet18

    return lambda: Opened(ResNet18(classes=classes).predict_on_batch, (224, 224, 3))


def measured(points: Mapping[int | str, Point], rounds: int) -> list[dict[str, Any]]:
    """Points of a curve -> a row for each."""
    with ExitStack() as stack:
        subjects = {}
        for value, (_, opener, arguments, batch_size, side, threads) in points.items():
            sizes = {"batch_size": batch_size, "free_side": side, "threads": threads}
            subjects[str(value)] = stack.enter_context(Subject(str(value), opener, arguments, **sizes))
        turns = {str(value): partial(turn, subjects[str(value)], point.batch_size) for value, point in points.items()}
        times_ms = by_turns(turns, rounds)
        memory_mb = {name: subject.peak_memory_mb() for name, subject in subjects.items()}
    rows = []
    for value, point in points.items():
        latency = Latency.of(np.concatenate(times_ms[str(value)]))
        row = {"value": value, "work_gmacs": point.work, "median_ms": latency.median_ms, "p10_ms": latency.p10_ms}
        rows.append(row | {"p90_ms": latency.p90_ms, "peak_memory_mb": memory_mb[str(value)]})
    return with_growth(rows)


def turn(subject: Subject, batch_size: int) -> list[float]:
    subject.times_ms(1, batch_size)
    return subject.times_ms(CALLS, batch_size)


def with_growth(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with work and time -> the same with time for the work, as a multiple of the first row's."""
    first = rows[0]["median_ms"] / rows[0]["work_gmacs"]
    return [row | {"time_for_work": row["median_ms"] / row["work_gmacs"] / first} for row in rows]


def pipeline_start(folder: Path) -> list[dict[str, Any]]:
    """-> for so many file names: milliseconds from the CSV file to the first batch of 32 images."""
    import_keras()
    from keras_resnet.data.augment import Augmentation
    from keras_resnet.data.pipeline import training_batches
    from keras_resnet.data.problems import Problems
    from keras_resnet.tasks.sources import open_source

    generator = np.random.default_rng(0)
    for index in range(IMAGES):
        Image.fromarray(generator.integers(0, 256, (64, 64, 3), "uint8")).save(folder / f"{index}.jpg")
    rows = []
    for count in (FILES[0], *FILES):  # the first turn warms up
        table = folder / f"{count}.csv"
        with table.open("w", newline="") as stream:
            entries = ((f"{index % IMAGES}.jpg", f"{index % 10}") for index in range(count))
            csv.writer(stream).writerows([("file", "class"), *entries])
        start = time.perf_counter()
        source = open_source(table, "train")
        opened_ms = 1e3 * (time.perf_counter() - start)
        settings: dict[str, Any] = {"size": 64, "batch_size": 32, "seed": 0, "epoch": 0}
        next(iter(training_batches(source, Augmentation(), problems=Problems(0), **settings)))
        first_ms = 1e3 * (time.perf_counter() - start)
        rows.append({"value": count, "work_gmacs": count, "opened_ms": opened_ms, "median_ms": first_ms})
    return with_growth(rows[1:])


if __name__ == "__main__":
    typer.run(main)
