"""How the cost of commands grows: `train`, `data check` and `data pack` with the images, `export` with the depth.

Each command runs once for each amount, in a process of its own. The time is from its start to its end, imports
included, and the memory is the most that the process held. Images for `data check` and `data pack` are all different.
Tables for `train` name a thousand images, again and again; the network is ResNet-20, for one epoch.

    python benchmarks/command_growth.py --out benchmarks/results/command_growth.json
"""

import csv
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from cost_growth import NETWORKS
from PIL import Image
from shared import chosen, finish

from keras_resnet.errors import MeasurementError
from keras_resnet.measure.process import in_a_process
from keras_resnet.quiet import import_keras
from keras_resnet.variants import VARIANTS

SIDE = 32  # pixels of the images
CLASSES = 10
NAMES = (1_000, 10_000, 100_000, 1_000_000)
IMAGES = (1_000, 10_000, 100_000)
FEW = IMAGES[0]  # images that the tables for `train` name


def main(
    out: Annotated[Path | None, typer.Option(help="Record to write.")] = None,
    only: Annotated[str, typer.Option(help="Curves to measure, with commas between them.")] = "",
) -> None:
    """Measures each curve, and prints for each point the time of each further image or 10^9 multiply-accumulates."""
    results = {}
    with tempfile.TemporaryDirectory() as name:
        for curve in chosen("--only", only, CURVES):
            results[curve] = with_growth(CURVES[curve](Path(name)))
            finish(out, "command_growth", {"side": SIDE, "classes": CLASSES}, results)


def training(folder: Path) -> list[dict[str, Any]]:
    write_images(folder / "few", FEW)
    rows = []
    for count in NAMES:
        table = folder / "few" / f"{count}.csv"
        with table.open("w", newline="") as stream:
            entries = ((f"{index % FEW}.jpg", index % FEW % CLASSES) for index in range(count))
            csv.writer(stream).writerows([("file", "class"), *entries])
        settings = ["--network", "resnet20", "--size", SIDE // 2, "--batch-size", 250, "--epochs", 1]
        command = ["train", "--data", table, "--out", folder / f"run_{count}", *settings]
        rows.append(row(count, count, command))
    return rows


def checking(folder: Path) -> list[dict[str, Any]]:
    # Random pixels look like no other image, so that no pair is reported.
    return [row(count, count, ["data", "check", images(folder, count)]) for count in IMAGES]


def packing(folder: Path) -> list[dict[str, Any]]:
    return [row(count, count, ["data", "pack", images(folder, count), folder / f"packed_{count}"]) for count in IMAGES]


def export_of(formats: str) -> Callable[[Path], list[dict[str, Any]]]:
    def exporting(folder: Path) -> list[dict[str, Any]]:
        rows = []
        for network in NETWORKS:
            model = folder / f"{network}.keras"
            if not model.exists():
                in_a_process("command_growth:save", {"network": network, "path": str(model)})
            command = ["export", "--model", model, "--formats", formats, "--out", folder / f"{formats}_{network}"]
            rows.append(row(network, VARIANTS[network].gmacs, command))
        return rows

    return exporting


CURVES: Mapping[str, Callable[[Path], list[dict[str, Any]]]] = {
    "train": training,
    "data check": checking,
    "data pack": packing,
    "export saved_model": export_of("saved_model"),
    "export tflite": export_of("tflite"),
    "export onnx": export_of("onnx"),
}


def save(network: str, path: str) -> None:
    """Name of a network -> its file, with random weights."""
    import_keras()
    from keras_resnet.models import BUILDERS

    BUILDERS[network]().save(path)


def images(folder: Path, count: int) -> Path:
    """-> CSV file of so many different images, in a folder that is written at its first use."""
    table = folder / f"images_{count}" / "images.csv"
    if not table.exists():
        write_images(table.parent, count)
        with table.open("w", newline="") as stream:
            csv.writer(stream).writerows([("file", "class"), *((f"{i}.jpg", i % CLASSES) for i in range(count))])
    return table


def write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    generator = np.random.default_rng(count)
    for index in range(count):
        Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), "uint8")).save(folder / f"{index}.jpg")


def row(value: int | str, work: float, arguments: Sequence[Any]) -> dict[str, Any]:
    """Amount, its work, arguments of the command -> the row of its time and memory."""
    words = [str(argument) for argument in arguments]
    command = [sys.executable, "-c", "from keras_resnet.cli.main import main; main()", *words]
    print("keras-resnet", *words, flush=True)
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            text = said.read().decode(errors="replace")[-2000:]
            raise MeasurementError(f"{' '.join(words)} ended with status {process.returncode}:\n{text}")
    memory_mb = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return {"value": value, "work": work, "seconds": seconds, "peak_memory_mb": memory_mb}


def with_growth(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a curve -> these rows, each but the first with the time of a further unit of work, in milliseconds.

    A command takes some seconds before its work begins. The difference of two rows is free of them.
    """
    grown = [rows[0] | {"further_ms": None}]
    for before, after in itertools.pairwise(rows):
        further_ms = 1e3 * (after["seconds"] - before["seconds"]) / (after["work"] - before["work"])
        grown.append(after | {"further_ms": further_ms})
    return grown


if __name__ == "__main__":
    typer.run(main)
