"""Processes that begin with TensorFlow imported, each a fork of one that has done nothing else: it saves them seconds.

That one starts with the first of them.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from keras_resnet.quiet import quiet_stderr

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tensorflow", "keras_resnet.cli.train", "keras_resnet.training", "keras_resnet.export"])
LONGEST_S = 300


class Forked:
    """A function that runs in a process of its own."""

    def __init__(self, function: Callable[..., None], *arguments: object) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        self._process = CONTEXT.Process(target=_run, args=(self._streams, function, arguments))
        with quiet_stderr():  # what TensorFlow says when it is imported
            self._process.start()

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    def interrupt(self) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGINT)

    def output(self) -> str:
        """-> stdout so far."""
        return self._streams[0].read_text() if self._streams[0].exists() else ""

    def errors(self) -> str:
        """-> stderr so far."""
        return self._streams[1].read_text() if self._streams[1].exists() else ""

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LONGEST_S
        while not condition():
            assert self._process.is_alive(), self.finish()
            assert time.monotonic() < end
            time.sleep(0.005)

    def wait_for_output(self, text: str) -> None:
        self.wait_for(lambda: self.output() == text)

    def finish(self) -> tuple[int, str, str]:
        """-> exit status, or the signal's number below zero; stdout; stderr."""
        self._process.join(LONGEST_S)
        assert self._process.exitcode is not None, "it takes too long"
        return self._process.exitcode, self.output(), self.errors()


def _run(streams: list[Path], function: Callable[..., None], arguments: tuple[object, ...]) -> None:
    for descriptor, path in enumerate(streams, start=1):
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so would this
    function(*arguments)
    sys.stdout.flush()
    sys.stderr.flush()
