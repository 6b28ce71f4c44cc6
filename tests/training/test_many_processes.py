"""Two processes of one run on the JAX backend: the same losses as one; a killed one ends the other."""

import csv
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tiny_run import write_arrays
from train_process import command, finish, wait_for_step

pytestmark = pytest.mark.slow


def start(processes: int, *arguments: object) -> list[subprocess.Popen[str]]:
    """`keras-resnet train` with these arguments, in so many processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    group = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes)}
    jax = {"KERAS_BACKEND": "jax"}
    if processes == 1:
        return [command(*arguments, variables=jax)]
    return [
        command(*arguments, variables=jax | group | {"KERAS_DISTRIBUTION_PROCESS_ID": str(process)})
        for process in range(processes)
    ]


def succeed(running: list[subprocess.Popen[str]]) -> None:
    for process in running:
        status, _, errors = finish(process)
        assert status == 0, errors


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
    succeed(start(1, "--out", run, *options))
    return run


def test_two_processes_have_the_losses_of_one(alone: Path, options: list[object], tmp_path: Path) -> None:
    """21 steps. BatchNorm normalises over the global batch."""
    succeed(start(2, "--out", tmp_path / "run", *options))
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), rtol=1e-4)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_and_the_group_resumes(
    victim: int, alone: Path, options: list[object], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    running = start(2, "--out", run, *options)
    wait_for_step(running[0], run, 2)
    running[victim].kill()
    assert finish(running[victim])[0] == -signal.SIGKILL
    status, _, errors = finish(running[1 - victim])
    assert status == 1, errors
    assert "another process of the run failed or is gone" in errors
    assert "--resume" in errors
    succeed(start(2, "--resume", run))
    np.testing.assert_allclose(losses(run), losses(alone), rtol=1e-4)
