"""One run in one process and in two, on the JAX backend: the same global batches, the losses step by step, images/s.

Each process has one core for itself, so that two have twice the means of one.

python benchmarks/two_processes.py --out benchmarks/results/two_processes.json
"""

import os
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from shared import finish

from keras_resnet.measure.process import in_a_process
from keras_resnet.measure.turns import by_turns, ratio

STEPS, BATCH_SIZE, SIZE = 20, 128, 32
IMAGES = STEPS * BATCH_SIZE


def main(
    out: Annotated[Path | None, typer.Option(help="Record to write.")] = None,
    network: Annotated[str, typer.Option()] = "resnet20",
    rounds: Annotated[int, typer.Option(help="Runs with one and with two processes, by turns.")] = 3,
) -> None:
    """Prints, and records, the largest relative difference of a step's loss, and the efficiency of two processes."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images.npz")
        write_images(images)
        runs = by_turns({count: partial(train_in, count, images, network) for count in ("1", "2")}, rounds)
    one, two = (np.array(runs[count][0]["losses"]) for count in runs)
    rates = {count: [run["images_per_second"] for run in runs[count]] for count in runs}
    gain = ratio(rates["2"], rates["1"])
    results = {
        "losses_of_one_process": one.tolist(),
        "losses_of_two_processes": two.tolist(),
        "largest_relative_difference": float(np.max(np.abs(two - one) / np.abs(one))),
        "images_per_second": rates,
        "two_against_one": {"median": gain["median"], "smallest": gain["minimum"], "largest": gain["maximum"]},
    }
    settings = {"network": network, "size": SIZE, "batch_size": BATCH_SIZE, "steps": STEPS, "rounds": rounds}
    finish(out, "two_processes", settings, results)


def write_images(path: Path) -> None:
    """Pictures of 4 classes that differ in brightness, and noise."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, IMAGES + 40)
    noise = generator.integers(0, 120, (IMAGES + 40, SIZE, SIZE, 3))
    images = (noise + 40 * labels[:, None, None, None]).astype("uint8")
    np.savez(path, x_train=images[40:], y_train=labels[40:], x_val=images[:40], y_val=labels[:40])


def train_in(count: str, images: Path, network: str) -> dict[str, Any]:
    """Runs the job in so many processes -> what the first of them found."""
    environment = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if count != "1":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        environment |= {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": count}

    def work_on(index_and_core: tuple[int, int]) -> Any:
        index, core = index_and_core
        own = environment | {"KERAS_DISTRIBUTION_PROCESS_ID": str(index)}
        given = {"images": str(images), "run": run, "network": network}
        return in_a_process("two_processes:work", given, environment=own, cores=[core])

    cores = sorted(os.sched_getaffinity(0))[: int(count)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as threads:
        run = f"{folder}/run"
        first, *_ = threads.map(work_on, enumerate(cores))
    return dict(first)


def work(images: str, run: str, network: str) -> dict[str, Any] | None:
    """What one process does: two epochs of `STEPS` steps; the second is timed. The first process alone validates."""
    from keras_resnet.training.fit import Listener, Standing, train
    from keras_resnet.training.recipe import Recipe

    standings: list[Standing] = []
    recipe = Recipe(
        data=images,
        network=network,
        size=SIZE,
        crop="padded",
        epochs=2,
        batch_size=BATCH_SIZE,
        learning_rate=0.05,
        warmup_epochs=1.0,
    )
    result = train(recipe, Path(run), Listener(show=standings.append))
    if "val_loss" not in result.history[0]:
        return None
    # Keras shows the mean of the epoch so far; the step's own loss follows from two of them.
    means = np.array([standing.figures["loss"] for standing in standings[:STEPS]]) * np.arange(1, STEPS + 1)
    return {"losses": np.diff(means, prepend=0).tolist(), "images_per_second": result.history[1]["images_per_second"]}


if __name__ == "__main__":
    typer.run(main)
