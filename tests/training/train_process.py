"""`keras-resnet train` as a process of its own, which can be waited for and killed; its ResNet-20 is shallow."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from keras_resnet.training.checkpoint import checkpoints

COMMAND = [sys.executable, str(Path(__file__).parents[1] / "shallow.py"), "train"]
LONGEST_S = 300


def command(*arguments: object, variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Arguments, environment variables beside the usual ones -> the process, started."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"} | dict(variables or {})
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=pipe, stderr=pipe, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LONGEST_S)
    return process.returncode, out, err


def newest_step(run: Path) -> int:
    found = checkpoints(run / "checkpoints")
    return int(found[0].stem.split("-")[1]) if found else -1


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    """Until a checkpoint of that step or a later one is there, however slowly the process starts."""
    end = time.monotonic() + LONGEST_S
    while newest_step(run) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
