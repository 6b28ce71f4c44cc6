"""`keras-resnet serve` in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMAND = (
    "import sys; from keras_resnet.cli.main import main; sys.argv[1:] = ['serve', *sys.argv[1:], '--port', '0']; main()"
)
LONGEST_START_S = 600.0
LONGEST_END_S = 60.0


class Serving:
    """`with Serving(["name=model.onnx"]) as serving:` the server runs in the block, at `serving.address`."""

    def __init__(self, arguments: Sequence[str], code: str = COMMAND) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed at the end of the block
        self.errors = ""  # what it has printed on stderr, after the block
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.address = ""

    def __enter__(self) -> "Serving":
        timer = threading.Timer(LONGEST_START_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline() if self.process.stdout else ""
        timer.cancel()
        found = re.search(r"http://\S+", line)
        if found is None:
            self.__exit__()
            raise RuntimeError(f"the server did not start: {line}{self.errors}")
        self.address = found[0]
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LONGEST_END_S)
        finally:
            self.process.kill()
        self._errors.seek(0)
        self.errors = self._errors.read()
        self._errors.close()
        if self.process.stdout:
            self.process.stdout.close()

    def resident_mb(self) -> float:
        """-> resident memory of the server."""
        return self._memory_mb("VmRSS")

    def peak_mb(self) -> float:
        """-> the largest resident memory that the server has had."""
        return self._memory_mb("VmHWM")

    def _memory_mb(self, name: str) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6
