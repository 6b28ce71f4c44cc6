"""Two processes of one run on the JAX backend: the same losses as one; a killed one ends the other."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_run import write_arrays

pytestmark = pytest.mark.slow

SECONDS = 120  # for what takes a few, on a busy machine


def start(processes: int, *arguments: object) -> list[subprocess.Popen]:
    """`keras-resnet train` with these arguments, in so many processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    group = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "keras_resnet.cli", "train", *map(str, arguments)],
            env=os.environ
            | {"KERAS_BACKEND": "jax"}
            | ((group | {"KERAS_DISTRIBUTION_PROCESS_ID": str(process)}) if processes > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(processes)
    ]


def finish(running: list[subprocess.Popen]) -> None:
    for process in running:
        output, _ = process.communicate(timeout=3 * SECONDS)
        assert process.returncode == 0, output


def losses(run: Path) -> np.ndarray:
    with (run / "history.csv").open() as stream:
        return np.array([[float(row["loss"]), float(row["val_loss"])] for row in csv.DictReader(stream)])


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    pytest.importorskip("jax")
    data = write_arrays(tmp_path_factory.mktemp("data") / "data.npz")
    keys = {"data": data, "network": "resnet20", "size": 32, "crop": "padded", "batch-size": 16, "epochs": 7}
    keys |= {"learning-rate": 0.02, "warmup-epochs": 1, "checkpoint-steps": 2}
    return [word for name, value in keys.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="module")
def alone(options: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    finish(start(1, "--out", run, *options))
    return run


def test_two_processes_have_the_losses_of_one(alone: Path, options: list[object], tmp_path: Path) -> None:
    """21 steps. BatchNorm normalises over the global batch."""
    finish(start(2, "--out", tmp_path / "run", *options))
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), rtol=1e-4)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_and_the_group_resumes(
    victim: int, alone: Path, options: list[object], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    running = start(2, "--out", run, *options)
    deadline = time.monotonic() + SECONDS
    while not list(run.glob("checkpoints/step-00000000[2-9].safetensors")):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in running)
        time.sleep(0.02)
    running[victim].send_signal(signal.SIGKILL)
    output, _ = running[1 - victim].communicate(timeout=SECONDS)
    running[victim].communicate()
    assert running[1 - victim].returncode == 1, output
    assert "another process of the run failed or is gone" in output
    assert "--resume" in output
    finish(start(2, "--resume", run))
    np.testing.assert_allclose(losses(run), losses(alone), rtol=1e-4)
