"""Training runs that are killed, go on, and come to the weights of the run that nothing interrupted, to the bit.

    python checks/killed_training.py --kills 20

Every run is a process of its own, on images made here. SIGKILL comes while it starts, at a random moment after a random
step, or while a checkpoint is half written; in every other run each step writes one. What was killed goes on as
`keras-resnet train --resume` does, and may be killed again. Whatever differs ends the script with exit status 1.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import safetensors
import typer

from keras_resnet.measure.record import write_record
from keras_resnet.quiet import import_keras
from keras_resnet.training.checkpoint import checkpoints, read_progress
from keras_resnet.training.recipe import Recipe

RECORD = Path(__file__).parents[1] / "benchmarks" / "results" / "killed_training.json"
IMAGES, CLASSES = 320, 4
RECIPE: dict[str, Any] = {
    "network": "resnet20",
    "size": 32,
    "crop": "padded",
    "colour_jitter": 0.3,
    "mixup_alpha": 0.2,
    "epochs": 3,
    "head_epochs": 1,
    "batch_size": 32,
    "learning_rate": 0.05,
    "warmup_epochs": 0.5,
    "ema_momentum": 0.9,
    "xla": "off",
    "deterministic": True,
}
STEPS = RECIPE["epochs"] * (IMAGES // RECIPE["batch_size"])
CHECKPOINT_STEPS = (4, 1)  # of the two kinds of runs
AGAIN = 0.5  # share of the runs that are killed once more
LONGEST_S = 1200

When = Literal["starting", "after a step", "writing a checkpoint"]
WHEN: tuple[When, ...] = ("after a step", "writing a checkpoint", "after a step", "starting")  # by turns

# Notes each step when it is done, before its checkpoint is written; goes on with a run that has its recipe.
JOB = """
import sys
from pathlib import Path

from keras_resnet.quiet import import_keras

import_keras()

from keras_resnet.training.fit import Listener, resume, train
from keras_resnet.training.recipe import read_recipe

recipe, run, notes = map(Path, sys.argv[1:])
with notes.open("w", buffering=1) as stream:
    listener = Listener(show=lambda standing: print(standing.step, file=stream))
    if (run / "recipe.toml").exists():
        resume(run, listener)
    else:
        train(read_recipe(recipe), run, listener)
"""


@dataclass
class Kill:
    """One SIGKILL and what it left."""

    checkpoint_steps: int
    when: When
    after_s: float  # of the process
    steps_noted: list[int]  # the first and the last that the process did; empty: none
    checkpoint_step: int | None  # of the newest that is whole; None: there was none yet
    lost_steps: int  # that are done again
    half_written_files: int


def main(
    kills: Annotated[int, typer.Option(min=1, help="SIGKILLs in all.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    out: Annotated[Path, typer.Option(help="JSON record.")] = RECORD,
) -> None:
    """Kills runs until there were as many kills as asked for; compares how they end with the uninterrupted run."""
    moments = random.Random(seed)
    done: list[Kill] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_images(work / "data.npz")
        whole = {}
        for steps in CHECKPOINT_STEPS:
            run = work / f"whole-{steps}"
            finish(write_recipe(work, steps), run)
            whole[steps] = outcome(run)
            shutil.rmtree(run)
        runs = 0
        while len(done) < kills:
            steps = CHECKPOINT_STEPS[runs % len(CHECKPOINT_STEPS)]
            run = work / f"run-{runs}"
            interrupt(run, write_recipe(work, steps), steps, moments, done, kills)
            compare(outcome(run), whole[steps], run)
            shutil.rmtree(run)
            runs += 1
            print(f"{len(done)} kills, {runs} runs: the same weights, optimizer and history", flush=True)
            record(out, done, runs, seed)


def record(out: Path, done: list[Kill], runs: int, seed: int) -> None:
    fixed = {key: RECIPE[key] for key in ("network", "batch_size", "epochs", "head_epochs", "deterministic")}
    settings = {**fixed, "images": IMAGES, "steps": STEPS, "checkpoint_steps": list(CHECKPOINT_STEPS), "seed": seed}
    results = {
        "kills": len(done),
        "runs": runs,
        "runs_with_the_same_bits": runs,  # or the script would have ended
        "kills_while_a_file_was_half_written": sum(kill.half_written_files > 0 for kill in done),
        "kills_before_the_first_checkpoint": sum(kill.checkpoint_step is None for kill in done),
        "most_lost_steps": {
            str(steps): max((kill.lost_steps for kill in done if kill.checkpoint_steps == steps), default=0)
            for steps in CHECKPOINT_STEPS
        },
        "each": [asdict(kill) for kill in done],
    }
    write_record(out, "killed_training", settings, results)


def interrupt(run: Path, recipe: Path, steps: int, moments: random.Random, done: list[Kill], kills: int) -> None:
    """Takes a run to its end, killed once on the way at least, unless it is done before."""
    again = True
    while again and len(done) < kills:
        before = newest_step(run)
        when = WHEN[len(done) % len(WHEN)]
        process = start(recipe, run)
        began = time.perf_counter()
        wait_for(when, process, run, before or 0, moments)
        process.kill()
        process.wait()
        if process.returncode == 0:
            return
        if process.returncode != -signal.SIGKILL:
            fail(run, process.returncode)
        after_s = round(time.perf_counter() - began, 2)
        noted, step = noted_steps(run), newest_step(run)
        lost = max(0, noted[-1] - (step or 0)) if noted else 0
        half_written = len([path for path in run.rglob(".*") if "partial" in path.name]) if run.exists() else 0
        done.append(Kill(steps, when, after_s, noted[:1] + noted[-1:], step, lost, half_written))
        print(done[-1], flush=True)
        check(done[-1], before, run)
        again = moments.random() < AGAIN
    finish(recipe, run)
    noted, step = noted_steps(run), newest_step(run)
    if step != STEPS or (noted and noted[-1] != step):
        sys.exit(f"{run}: ended at step {step}, {noted[-1:]}")


def wait_for(when: When, process: "subprocess.Popen[bytes]", run: Path, begun: int, moments: random.Random) -> None:
    """Returns when the process is to be killed, or has ended."""
    if when == "starting":
        target, delay_s = 0, moments.uniform(0.5, 10)
    else:
        target, delay_s = moments.randint(begun + 1, max(begun + 1, STEPS - 1)), moments.random()
    end = time.perf_counter() + LONGEST_S
    while process.poll() is None and target and (noted_steps(run) or [0])[-1] < target:
        if time.perf_counter() > end:
            sys.exit(f"{run}: step {target} was not reached in {LONGEST_S} s")
        time.sleep(0.005)
    if when == "writing a checkpoint":
        folder = run / "checkpoints"
        while process.poll() is None and not any(path.name.endswith(".partial") for path in folder.iterdir()):
            time.sleep(0.0005)
    else:
        end = time.perf_counter() + delay_s
        while process.poll() is None and time.perf_counter() < end:
            time.sleep(0.002)


def check(kill: Kill, before: int | None, run: Path) -> None:
    """Nothing is lost but the steps since the last checkpoint, and what was written stays."""
    # The last step that was noted may be the one whose checkpoint was being written.
    if kill.lost_steps > kill.checkpoint_steps:
        sys.exit(f"{run}: {kill.lost_steps} steps are lost")
    if before is not None and (kill.checkpoint_step is None or kill.checkpoint_step < before):
        sys.exit(f"{run}: the checkpoint of step {before} is gone")
    if kill.steps_noted and kill.steps_noted[0] != (before or 0) + 1:
        sys.exit(f"{run}: went on with step {kill.steps_noted[0]} after the checkpoint of step {before}")


# A run in a process of its own.


def start(recipe: Path, run: Path) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    with run.with_suffix(".errors").open("wb") as errors:
        job = [sys.executable, "-c", JOB, str(recipe), str(run), str(run.with_suffix(".steps"))]
        run.with_suffix(".steps").unlink(missing_ok=True)
        return subprocess.Popen(job, stdout=subprocess.DEVNULL, stderr=errors, env=environment)


def finish(recipe: Path, run: Path) -> None:
    if status := start(recipe, run).wait(LONGEST_S):
        fail(run, status)


def fail(run: Path, status: int) -> None:
    sys.exit(f"{run}: exit status {status}\n{run.with_suffix('.errors').read_text(errors='replace')[-3000:]}")


def noted_steps(run: Path) -> list[int]:
    """Steps that the newest process of the run has done; a line that is half written is not one yet."""
    notes = run.with_suffix(".steps")
    text = notes.read_text() if notes.exists() else ""
    return [int(line) for line in text[: text.rfind("\n") + 1].split()]


def newest_step(run: Path) -> int | None:
    """Step of the newest checkpoint; all that bear the name of one must be whole."""
    if not checkpoints(run / "checkpoints"):
        return None
    _, progress, damaged = read_progress(run / "checkpoints")
    if damaged:
        sys.exit(f"{run}: a half checkpoint: {damaged}")
    return progress.step


# What a run comes to.


def outcome(run: Path) -> dict[str, np.ndarray]:
    """Finished run -> all the tensors of its checkpoint and of its two models, and its history."""
    import_keras()
    import keras

    path, progress, _ = read_progress(run / "checkpoints")
    with safetensors.safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
    for name in ("model.keras", "model-last.keras"):
        model = keras.saving.load_model(run / name, compile=False)
        tensors |= {f"{name}/{variable.path}": keras.ops.convert_to_numpy(variable) for variable in model.weights}
    columns = ("epoch", "step", "learning_rate", "loss", "top1_percent", "val_loss", "val_top1_percent")
    return tensors | {"history": np.array([[row[column] for column in columns] for row in progress.history])}


def compare(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], run: Path) -> None:
    if found.keys() != expected.keys():
        sys.exit(f"{run}: other tensors: {sorted(found.keys() ^ expected.keys())[:5]}")
    for name, value in expected.items():
        if found[name].dtype != value.dtype or found[name].tobytes() != value.tobytes():
            sys.exit(f"{run}: {name} differs from the uninterrupted run's")


# What it trains.


def write_images(path: Path) -> None:
    """Pixels of noise, brighter from class to class."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", IMAGES), ("val", 40)):
        classes = np.arange(count) % CLASSES
        noise = generator.integers(0, 100, (count, 32, 32, 3))
        arrays |= {f"x_{split}": (noise + 50 * classes[:, None, None, None]).astype(np.uint8), f"y_{split}": classes}
    np.savez(path, **arrays)


def write_recipe(work: Path, checkpoint_steps: int) -> Path:
    recipe = Recipe(data=str(work / "data.npz"), checkpoint_steps=checkpoint_steps, **RECIPE)
    path = work / f"recipe-{checkpoint_steps}.toml"
    path.write_text(recipe.to_toml())
    return path


if __name__ == "__main__":
    typer.run(main)
