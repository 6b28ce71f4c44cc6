"""Artifacts of one folder, by turns: latency at batch 1.

python benchmarks/artifact_latency.py runs/export_accuracy/minmax --out artifact_latency_resnet50.json
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_resnet.export.images import synthetic_images
from keras_resnet.export.manifest import read_manifest
from keras_resnet.export.runtimes import format_of, open_runtime
from keras_resnet.measure.latency import measure_latency
from keras_resnet.measure.record import write_record

SLOW_MS = 300  # an artifact slower than that runs once in a round
THREADS = 2


def main(
    folder: Path,
    out: Annotated[Path, typer.Option()],
    rounds: int = 10,
    runs: Annotated[int, typer.Option(help="Of each artifact in a round.")] = 10,
) -> None:
    """Times every artifact in each round."""
    artifacts = read_manifest(folder)["artifacts"]
    size = next(iter(artifacts.values()))["description"]["input"]["size"]
    pixels = synthetic_images(tuple(size), count=1)
    calls: dict[str, Callable[[], Any]] = {}
    times_ms: dict[str, list[float]] = {}
    for name, entry in artifacts.items():
        path = folder / entry["file"]
        runtime = open_runtime(path, format_of(path), THREADS)
        calls[name], times_ms[name] = (lambda runtime=runtime: runtime.run(pixels)), []  # type: ignore[misc]
    once = {name: measure_latency(call, 1, 1).median_ms for name, call in calls.items()}
    for _ in range(rounds):
        for name, call in calls.items():
            times_ms[name] += [
                measure_latency(call, 1, 0).median_ms for _ in range(1 if once[name] > SLOW_MS else runs)
            ]
    results = {}
    for name, values in times_ms.items():
        p10, median, p90 = np.percentile(values, [10, 50, 90])
        results[name] = {
            "latency": {"median_ms": median, "p10_ms": p10, "p90_ms": p90, "repeats": len(values)},
        }
        print(name, *(f"{key} {value:.4g}" for key, value in results[name]["latency"].items()), flush=True)
    write_record(out, out.stem, {"threads": THREADS, "batch_size": 1, "size": size}, results)


if __name__ == "__main__":
    typer.run(main)
