"""Commands of `keras-resnet`, each in a fork of this process, with limits of time and memory.

This process must have imported what the commands need, and run none of it: TensorFlow's threads don't survive a fork.
"""

import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_resnet.measure.memory import reset_peak_memory_mb

POLL_S = 0.01
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    verdict: str  # "ok", "error", "TRACEBACK", "SIGNAL 11", "TIMEOUT" or "MEMORY"
    status: int  # exit status; the number of a signal, below zero
    stdout: str
    stderr: str
    seconds: float
    most_mb: float  # of memory, beyond what the process began with


def preload() -> None:
    """Imports what the commands import."""
    from keras_resnet.quiet import import_keras

    import_keras()
    import onnxruntime  # noqa: F401
    import torch  # noqa: F401

    import keras_resnet.cli.main
    import keras_resnet.export
    import keras_resnet.training  # noqa: F401


def run_command(arguments: Sequence[str], folder: Path, limit_s: float, most_mb: float) -> Ended:
    """Arguments after `keras-resnet`, working directory, longest time, most memory -> how the command ended."""

    def command() -> None:
        from keras_resnet.cli.main import main

        sys.argv = ["keras-resnet", *arguments]
        main()

    return run_forked(command, folder, limit_s, most_mb)


def run_forked(function: Callable[[], None], folder: Path, limit_s: float, most_mb: float) -> Ended:
    """Function, its working directory, longest time, most memory -> how it ended, in a fork of this process."""
    streams = [os.memfd_create(name) for name in ("stdout", "stderr")]
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        os._exit(_child(function, folder, streams))
    held_mb, peak_mb, stopped = reset_peak_memory_mb(), 0.0, ""
    while True:
        ended, waited = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        peak_mb = max(peak_mb, _peak_mb(process) - held_mb)
        if time.monotonic() - began > limit_s or peak_mb > most_mb:
            stopped = "MEMORY" if peak_mb > most_mb else "TIMEOUT"
            os.killpg(process, signal.SIGKILL)
            _, waited = os.waitpid(process, 0)
            break
        time.sleep(POLL_S)
    stdout, stderr = (_content(stream) for stream in streams)
    status = os.waitstatus_to_exitcode(waited)
    verdict = "ok" if status == 0 else "error" if status > 0 else f"SIGNAL {-status}"
    if TRACEBACK in stderr:
        verdict = "TRACEBACK"
    return Ended(stopped or verdict, status, stdout, stderr, time.monotonic() - began, peak_mb)


def _child(function: Callable[[], None], folder: Path, streams: Sequence[int]) -> int:
    try:
        os.setsid()  # its own children end with it
        os.chdir(folder)
        reset_peak_memory_mb()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, stream in enumerate(streams, start=1):
            os.dup2(stream, descriptor)
        sys.stdin, sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(descriptor, mode, closefd=False), encoding="utf-8", write_through=True)
            for descriptor, mode in enumerate(("r", "w", "w"))
        )
        status = 0
        try:
            function()
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        except BaseException:  # noqa: BLE001  what comes is what is looked for
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        return status
    except BaseException:  # noqa: BLE001  of this function
        return 98


def _peak_mb(process: int) -> float:
    """-> largest resident memory of a process so far."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)


def _content(stream: int) -> str:
    os.lseek(stream, 0, os.SEEK_SET)
    with open(stream, "rb") as file:
        return file.read(10_000_000).decode("utf-8", "backslashreplace")
