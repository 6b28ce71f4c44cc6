"""One subject of a measurement in a process of its own: opened, timed on request, asked for its peak memory.

A subject is named by its opener, `"package.module:function"`, and the opener's arguments. The opener imports what it
needs and returns a function; that function opens the model. So the import of a framework, the opening of a model and
its calls are told apart.

`in_a_process` is for what has one answer: a function, named in the same way, is called once. Modules are found in a
process where they are found in this one.
"""

import contextlib
import functools
import gc
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, cast

import numpy as np

from keras_resnet.answers import PROBABILITIES
from keras_resnet.contained import function_named, make_expendable, python_environment
from keras_resnet.errors import MeasurementError
from keras_resnet.measure.latency import call_ms
from keras_resnet.measure.memory import peak_memory_mb, reset_peak_memory_mb

TIMEOUT_S = 600  # longest time of one answer
FREE_SIDE = 224  # pixels, where a model leaves height and width free
MODULE = "keras_resnet.measure.process"


class Opened(NamedTuple):
    """An opened model."""

    # Pixels uint8 [N, H, W, C] -> outputs [N, ...] by name, or only an array of probabilities.
    predict: Callable[[np.ndarray], Any]
    image_shape: tuple[int | None, int | None, int]  # height and width, which it may leave free, and channels
    device_peak_memory_mb: Callable[[], float] | None = None  # where it runs in a memory that is not the process's own


Loader = Callable[[], Opened]


@dataclass(frozen=True)
class Opening:
    """What it takes until the first answer."""

    import_ms: float  # start of the opener to its return: the import of a framework
    load_ms: float  # from there to the first answer
    load_memory_mb: float  # resident at the most until the first answer, above what the import had left


class Subject:
    """A running process that holds one opened model; a context manager, at whose end the process ends.

    Raises:
        MeasurementError: The process failed or gave no answer in time; the message has the end of what it said.
    """

    def __init__(
        self,
        name: str,
        opener: str,
        arguments: Mapping[str, Any],
        *,
        batch_size: int = 1,
        free_side: int = FREE_SIDE,
        threads: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ):
        """`batch_size` of the first answer; `free_side` of its images where the model leaves that free.

        With `threads`, the process keeps to that many cores (on Linux): so does what has no setting for it.
        """
        self.name = name
        self._timeout_s = timeout_s
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__
        request = json.dumps(
            {
                "opener": opener,
                "arguments": dict(arguments),
                "batch_size": batch_size,
                "side": free_side,
                "threads": threads,
                "search": sys.path,
            }
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, request],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env={**os.environ, **python_environment()},
        )
        self._requests = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)
        try:
            self.opening = Opening(**self._answer())
        except BaseException:
            self.close()
            raise

    def times_ms(self, repeats: int, batch_size: int = 1) -> list[float]:
        """-> milliseconds of each of so many calls with that many images."""
        return list(self._ask(repeats=repeats, batch_size=batch_size))

    def predict(self, pixels: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
        """Pixels `[N, H, W, C]` -> outputs by name, `[N, ...]`, `batch_size` images a call."""
        with tempfile.TemporaryDirectory() as folder:
            given, answer = Path(folder, "pixels.npy"), Path(folder, "outputs.npz")
            np.save(given, pixels)
            self._ask(pixels=str(given), outputs=str(answer), batch_size=batch_size)
            with np.load(answer) as outputs:
                return dict(outputs)

    def peak_memory_mb(self) -> float:
        """-> largest resident memory of the process since the first answer, or before it; of a GPU the GPU's."""
        return float(self._ask(peak_memory=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def _ask(self, **request: Any) -> Any:
        with contextlib.suppress(OSError):  # it has ended; `_answer` tells how
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
        return self._answer()

    def _answer(self) -> Any:
        if not select.select([self._answers], [], [], self._timeout_s)[0]:
            raise MeasurementError(f"{self.name} can't be measured: no answer in {self._timeout_s:g} s")
        line = self._answers.readline()
        if not line:
            self._stderr.seek(0)
            said = self._stderr.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise MeasurementError(
                f"{self.name} can't be measured: exit status {self._process.wait()}: {said[-1].strip()}"
            )
        return json.loads(line)


class Finished(NamedTuple):
    """A process that has ended well."""

    seconds: float  # from its start to its end
    stdout: str
    stderr: str


def run_python(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, timeout_s: float | None = None
) -> Finished:
    """Arguments of Python, what its environment has besides this one's -> what came of it.

    Raises:
        MeasurementError: It failed, or did not end in time; the message has all that it said.
    """
    command = f"python {' '.join(arguments)[:100]}"
    start = time.perf_counter()
    try:
        process = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(environment or {})},
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"{command} did not end in {timeout_s:g} s") from error
    seconds = time.perf_counter() - start
    if process.returncode:
        raise MeasurementError(f"{command}: exit status {process.returncode}", *process.stderr.strip().splitlines())
    return Finished(seconds, process.stdout, process.stderr)


def in_a_process(
    function: str,
    arguments: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    cores: Sequence[int] | None = None,
    timeout_s: float | None = None,
) -> Any:
    """`"package.module:function"` and its arguments -> what it returns in a fresh process, by way of JSON.

    With `cores`, that process keeps to these (on Linux).

    Raises:
        MeasurementError: as `run_python`.
    """
    request = {"function": function, "arguments": dict(arguments), "cores": cores, "search": sys.path}
    said = run_python(["-m", MODULE, json.dumps(request)], {**python_environment(), **(environment or {})}, timeout_s)
    return json.loads(said.stdout)


def _keep_to(cores: Sequence[int] | None) -> None:
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _own_stdout() -> IO[str]:
    """-> the pipe to the parent, only for answers; from now on, all that a framework prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _call(request: dict[str, Any]) -> None:
    """The other side of `in_a_process`."""
    answers = _own_stdout()
    _keep_to(request["cores"])
    print(json.dumps(function_named(request["function"])(**request["arguments"])), file=answers, flush=True)


def _serve(request: dict[str, Any]) -> None:
    """The other side of `Subject`, in the process itself, which has done nothing before."""
    answers = _own_stdout()
    make_expendable()

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    @functools.cache  # the same array again: a rival's input is made of it once
    def pixels_of(batch_size: int) -> np.ndarray:
        height, width, channels = opened.image_shape
        shape = (batch_size, height or request["side"], width or request["side"], channels)
        return np.random.default_rng(0).integers(0, 256, shape, "uint8")

    if request["threads"] and hasattr(os, "sched_getaffinity"):
        _keep_to(sorted(os.sched_getaffinity(0))[: request["threads"]])
    start = time.perf_counter()
    load: Loader = function_named(request["opener"])(**request["arguments"])
    import_ms = _since_ms(start)
    gc.collect()
    before_mb = reset_peak_memory_mb()
    start = time.perf_counter()
    opened = load()
    opened.predict(pixels_of(request["batch_size"]))
    load_ms = _since_ms(start)
    answer({"import_ms": import_ms, "load_ms": load_ms, "load_memory_mb": peak_memory_mb() - before_mb})
    for line in sys.stdin:
        asked = json.loads(line)
        if "repeats" in asked:
            call = functools.partial(opened.predict, pixels_of(asked["batch_size"]))
            answer([call_ms(call) for _ in range(asked["repeats"])])
        elif "pixels" in asked:
            images, size = np.load(asked["pixels"]), asked["batch_size"]
            outputs = [_named(opened.predict(images[i : i + size])) for i in range(0, len(images), size)]
            arrays: Any = {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}
            np.savez(asked["outputs"], **arrays)
            answer(len(images))
        else:
            answer((opened.device_peak_memory_mb or peak_memory_mb)())


def _named(outputs: Any) -> dict[str, np.ndarray]:
    """Outputs as `Opened.predict` gives them -> arrays by name."""
    if not isinstance(outputs, Mapping):
        outputs = {PROBABILITIES: outputs}
    return {name: np.asarray(values) for name, values in outputs.items()}


def _since_ms(start: float) -> float:
    return 1e3 * (time.perf_counter() - start)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    sys.path[:] = given["search"]
    (_call if "function" in given else _serve)(given)
