"""One run in one process and in two, on the JAX backend: the same global batches, the losses step by step, images/s.

Each process has one core for itself, so that two have twice the means of one.

python benchmarks/two_processes.py --out benchmarks/results/two_processes.json
"""

import functools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_resnet.measure.record import write_record

STEPS, BATCH_SIZE, SIZE = 20, 128, 32
IMAGES = STEPS * BATCH_SIZE


def main(
    out: Annotated[Path | None, typer.Option(help="Record to write.")] = None,
    network: Annotated[str, typer.Option()] = "resnet20",
    rounds: Annotated[int, typer.Option(help="Runs with one and with two processes, by turns.")] = 3,
    job: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Prints, and records, the largest relative difference of a step's loss, and the efficiency of two processes."""
    if job is not None:
        work(job, network)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_images(folder / "images.npz")
        runs = {1: [], 2: []}  # type: dict[int, list[dict[str, Any]]]
        for index in range(rounds):
            for processes in runs:
                runs[processes].append(start(folder, f"{processes}-{index}", processes, network))
    one, two = (np.array(runs[processes][0]["losses"]) for processes in (1, 2))
    rates = {processes: [run["images_per_second"] for run in runs[processes]] for processes in runs}
    ratios = [b / a for a, b in zip(rates[1], rates[2], strict=True)]
    results = {
        "losses_of_one_process": one.tolist(),
        "losses_of_two_processes": two.tolist(),
        "largest_relative_difference": float(np.max(np.abs(two - one) / np.abs(one))),
        "images_per_second": {str(processes): rate for processes, rate in rates.items()},
        "two_against_one": {"median": statistics.median(ratios), "smallest": min(ratios), "largest": max(ratios)},
    }
    print(json.dumps(results, indent=1))
    if out is not None:
        settings = {"network": network, "size": SIZE, "batch_size": BATCH_SIZE, "steps": STEPS, "rounds": rounds}
        write_record(out, "two_processes", settings, results)


def write_images(path: Path) -> None:
    """Pictures of 4 classes that differ in brightness, and noise."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, IMAGES + 40)
    noise = generator.integers(0, 120, (IMAGES + 40, SIZE, SIZE, 3))
    images = (noise + 40 * labels[:, None, None, None]).astype("uint8")
    np.savez(path, x_train=images[40:], y_train=labels[40:], x_val=images[:40], y_val=labels[:40])


def start(folder: Path, name: str, processes: int, network: str) -> dict[str, Any]:
    """Runs the job in so many processes -> what the first of them found."""
    cores = sorted(os.sched_getaffinity(0))
    environment = os.environ | {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        environment |= {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes),
        }
    command = [sys.executable, __file__, "--network", network, "--job", str(folder / name)]
    running = [
        subprocess.Popen(
            command,
            env=environment | {"KERAS_DISTRIBUTION_PROCESS_ID": str(index)},
            preexec_fn=functools.partial(os.sched_setaffinity, 0, {cores[index]}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]
    for process in running:
        _, errors = process.communicate()
        if process.returncode:
            raise SystemExit(errors)
    return dict(json.loads((folder / f"{name}.json").read_text()))


def work(job: Path, network: str) -> None:
    """What one process does: two epochs of `STEPS` steps; the second is timed."""
    from keras_resnet.training.fit import Listener, Standing, train
    from keras_resnet.training.recipe import read_recipe

    standings: list[Standing] = []
    settings = {
        "data": str(job.parent / "images.npz"),
        "network": network,
        "size": SIZE,
        "crop": "padded",
        "epochs": 2,
        "batch_size": BATCH_SIZE,
        "learning_rate": 0.05,
        "warmup_epochs": 1.0,
    }
    result = train(read_recipe(None, settings), job, Listener(show=standings.append))
    if "val_loss" in result.history[0]:  # the first process alone validates
        # Keras shows the mean of the epoch so far; the step's own loss follows from two of them.
        means = np.array([standing.figures["loss"] for standing in standings[:STEPS]]) * np.arange(1, STEPS + 1)
        losses = np.diff(means, prepend=0).tolist()
        rate = result.history[1]["images_per_second"]
        job.with_suffix(".json").write_text(json.dumps({"losses": losses, "images_per_second": rate}))


if __name__ == "__main__":
    typer.run(main)
