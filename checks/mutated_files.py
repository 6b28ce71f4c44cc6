"""Mutated files of every kind that this package opens: what comes of each.

A whole file of each kind is made here, tiny; its mutations are opened by the package's own readers, in worker processes
that are replaced when they crash or take too long. Kind and number of a mutation tell all of it, so that one can be
repeated:

    python checks/mutated_files.py --out benchmarks/results/mutated_files.json
    python checks/mutated_files.py --out again.json --kind onnx --first 1234 --count 1 --keep kept

| outcome | is |
| --- | --- |
| clear error | an error of this package whose message names the file |
| right answer | the answer of the whole file: the mutation hit nothing that counts |
| other values | another answer, where the file has no sums that tell damage, or where the mutation made them right |
| contained | a crash, a time-out or too much memory in a runtime that trusts its files |
| others | none of them is wanted |

The commands open the files of a runtime in a child process first. Some of those that are contained here are given to
`keras-resnet predict` at the end, which must not crash.

Mutations are drawn at random and by structure. A fuzzer that is led by coverage, such as atheris, sees the branches of
Python code alone. The parsers in which a crash could lie are native and not built for it, so this loop of our own finds
as much, and any of its files can be made again.
"""

import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from mutated_kinds import KINDS, make_all, mutate_copy, picture

from keras_resnet.contained import make_expendable
from keras_resnet.limits import PIXELS_VARIABLE
from keras_resnet.measure.memory import peak_memory_mb, reset_peak_memory_mb
from keras_resnet.measure.record import write_record
from keras_resnet.quiet import quiet_stderr

PRELOADED = ["tensorflow", "torch", "onnx", "onnxruntime", "keras_resnet.export", "keras_resnet.cli.network"]
EXTRA_BYTES = 6_000_000_000  # of addresses, that a worker may take beyond those it begins with
MOST_PIXELS = 30_000_000  # limit that the worker states for images, so that an image may take 330 MB
MOST_MB = 500  # of memory, for any of these tiny files
STARTING_S = 300.0
WANTED = ("clear error", "right answer", "other values", "contained")
PATIENCE = 10  # a file may take so many times its processor time on a machine that does other work, too
ENDS = ("crash", "time-out", "too much memory")  # what a child process contains
COMMANDS = 3  # files that crashed a runtime, of each kind, that are given to the command `predict`, too

Outcome = tuple[str, str, str, float, float]  # outcome, detail, mutation, seconds, MB of memory


# --- the worker ---------------------------------------------------------------------------------------------------


def work(connection: Any, paths: dict[str, Path]) -> None:
    """Takes (kind, number of a mutation) and answers with its outcome, until None."""
    make_expendable()  # this process may crash, so that the runtimes need no child of it
    os.environ[PIXELS_VARIABLE] = str(MOST_PIXELS)
    with open("/dev/null", "w") as nothing, quiet_stderr(), contextlib.redirect_stderr(nothing):
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + EXTRA_BYTES,) * 2)
        wanted: dict[str, Any] = {}
        while (job := connection.recv()) is not None:
            try:
                name, number = job
                connection.send(_outcome(name, number, paths, wanted))
            except Exception:  # noqa: BLE001  of this script
                connection.send(traceback.format_exc())


def _outcome(name: str, number: int, paths: dict[str, Path], wanted: dict[str, Any]) -> Outcome:
    from keras_resnet.errors import KerasResnetError

    kind, whole = KINDS[name], paths[name]
    if name not in wanted:
        wanted[name] = kind.use(whole)
    if number < 0:  # a new worker was asked to make ready
        return "ready", "", "", 0.0, 0.0
    path, mutated = mutate_copy(kind, whole, number, random_of(name, number))
    before_mb = reset_peak_memory_mb()
    start = time.perf_counter()
    try:
        outcome, detail = _compared(kind.use(path), wanted[name]), ""
    except KerasResnetError as error:
        named = str(path) in str(error) or (whole.is_file() and str(path.parent) in str(error))
        outcome, detail = "clear error" if named else "unclear error", str(error)
    except Exception as error:  # noqa: BLE001  what comes is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"other exception: {type(error).__name__}"
        detail = f"{error} ({Path(where.filename).name}:{where.lineno})"
    seconds, memory_mb = time.perf_counter() - start, peak_memory_mb() - before_mb
    if outcome == "other answers" and (mutated.forged or not kind.sums):
        outcome = "other values"
    if memory_mb > MOST_MB:
        outcome, detail = "too much memory", f"{memory_mb:.0f} MB; {outcome} {detail}"
    return outcome, detail, mutated.name, seconds, memory_mb


def random_of(name: str, number: int) -> np.random.Generator:
    """Kind and number of a mutation -> its random numbers."""
    return np.random.default_rng([zlib.crc32(name.encode()), number])


def _compared(answer: Any, wanted: Any) -> str:
    same = _bytes_of(answer) == _bytes_of(wanted)
    return "right answer" if same else "other answers"


def _bytes_of(answer: Any) -> list[bytes]:
    parts = answer if isinstance(answer, list) else [answer]
    return [
        f"{part.dtype} {part.shape} ".encode() + part.tobytes()
        if isinstance(part, np.ndarray)
        else str(part).encode("utf-8", "surrogatepass")
        for part in parts
    ]


class Worker:
    """A process that does one job after the other, and a new one after a crash or a time-out."""

    def __init__(self, paths: dict[str, Path], limit_s: float):
        self._paths, self._limit_s = paths, limit_s
        self._process: Any = None
        self._ready: set[str] = set()  # kinds whose whole file the process has opened

    def do(self, name: str, number: int) -> Outcome:
        if self._process is None:
            self._connection, theirs = CONTEXT.Pipe()
            self._process = CONTEXT.Process(target=work, args=(theirs, self._paths), daemon=True)
            with _STARTING, quiet_stderr():  # what TensorFlow says when it is imported
                self._process.start()
            theirs.close()
            self._ready = set()
        if name not in self._ready:
            made_ready = self._ask(name, -1, STARTING_S)  # the imports are no part of a file's time
            if made_ready[0] != "ready":
                raise RuntimeError(f"{name}: the whole file can't be opened: {made_ready}")
            self._ready.add(name)
        return self._ask(name, number, self._limit_s)

    def _ask(self, name: str, number: int, limit_s: float) -> Outcome:
        start = time.perf_counter()
        self._connection.send((name, number))
        try:
            used_s = processor_s(self._process.pid)
            # Of the processor's time, since other programs may share the machine; a process that sleeps is ended, too.
            while (
                processor_s(self._process.pid) - used_s < limit_s and time.perf_counter() - start < PATIENCE * limit_s
            ):
                if self._connection.poll(1):
                    answer: Outcome | str = self._connection.recv()
                    if isinstance(answer, str):
                        raise RuntimeError(f"{name} {number}:\n{answer}")
                    return answer
            self._process.kill()
            outcome = "time-out"
        except (EOFError, ConnectionError):
            outcome = "crash"
        self._process.join()
        code, self._process = self._process.exitcode, None
        return outcome, "" if outcome == "time-out" else f"signal {-code}", "", time.perf_counter() - start, 0.0

    def close(self) -> None:
        if self._process is not None:
            self._connection.send(None)
            self._process.join()


def processor_s(process: int) -> float:
    """Number of a process -> seconds that it and its ended children have computed; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # utime, stime, cutime, cstime: proc(5)


CONTEXT = multiprocessing.get_context("forkserver")
_STARTING = threading.Lock()


# --- all mutations ------------------------------------------------------------------------------------------------


class Tally:
    """The outcomes of one kind."""

    def __init__(self) -> None:
        self.outcomes = Counter[str]()
        self.unwanted: list[str] = []
        self.contained: list[str] = []
        self.seconds = self.longest_s = self.most_mb = 0.0

    def add(self, name: str, number: int, outcome: Outcome) -> str:
        result, detail, mutation, seconds, memory_mb = outcome
        if KINDS[name].native and result in ENDS:
            self.contained.append(f"--first {number}: {result} {detail}")
            result = "contained"
        self.outcomes[result] += 1
        self.seconds += seconds
        self.longest_s, self.most_mb = max(self.longest_s, seconds), max(self.most_mb, memory_mb)
        if result not in WANTED:
            self.unwanted.append(f"--kind '{name}' --first {number}: {mutation[:120]}: {result}: {detail[:300]}")
        return result

    def record(self) -> dict[str, Any]:
        return {
            "outcomes": dict(self.outcomes),
            "mean_ms": round(1000 * self.seconds / max(1, self.outcomes.total()), 2),
            "longest_s": round(self.longest_s, 3),
            "most_mb": round(self.most_mb, 1),
            "contained": self.contained[:20],
            "unwanted": self.unwanted,
        }


def main(
    out: Annotated[Path, typer.Option(help="JSON record.")],
    count: Annotated[int, typer.Option(min=1, help="Mutations of all kinds together.")] = 100_000,
    kind: Annotated[list[str] | None, typer.Option(help="Kind that is mutated; default: all.")] = None,
    first: Annotated[int, typer.Option(min=0, help="Number of the first mutation of each kind.")] = 0,
    limit_s: Annotated[float, typer.Option(help="Longest processor time that one file may take.")] = 20.0,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    keep: Annotated[Path | None, typer.Option(help="Folder for the files with an unwanted outcome.")] = None,
) -> None:
    """Mutates and opens; prints and records the outcomes. Exit status 1 if one of them is unwanted."""
    names = kind or list(KINDS)
    began = time.perf_counter()
    CONTEXT.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as scratch:
        with contextlib.redirect_stdout(io.StringIO()):
            paths = make_all(Path(scratch), names)
        shares = sum(KINDS[name].share for name in paths)
        counts = {name: max(1, round(count * KINDS[name].share / shares)) for name in paths}
        tallies = {name: _run(name, counts[name], first, paths, limit_s, workers, keep) for name in paths}
        lived = _through_the_command(paths, tallies)
    total = Counter[str]()
    for tally in tallies.values():
        total.update(tally.outcomes)
    minutes = (time.perf_counter() - began) / 60
    print(f"{total.total():,} mutations in {minutes:.1f} minutes: {dict(total)}")
    print(*lived, sep="\n")
    settings = {"count": count, "first": first, "limit_s": limit_s, "workers": workers}
    settings |= {"most_mb": MOST_MB, "most_pixels": MOST_PIXELS}
    kinds = {name: tally.record() for name, tally in tallies.items()}
    results = {"total": dict(total), "minutes": round(minutes, 1), "through_the_command": lived, "kinds": kinds}
    write_record(out, "mutated_files", settings, results)
    sys.exit(bool(set(total) - set(WANTED)) or any("signal" in line for line in lived))


def _run(
    name: str, count: int, first: int, paths: dict[str, Path], limit_s: float, workers: int, keep: Path | None
) -> Tally:
    tally, lock = Tally(), threading.Lock()
    numbers = iter(range(first, first + count))

    def drain() -> None:
        worker = _WORKERS.pop() if _WORKERS else Worker(paths, limit_s)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            outcome = worker.do(name, number)
            copy = paths[name].with_name(f"{number}-{paths[name].name}")
            with lock:
                result = tally.add(name, number, outcome)
                _put_away(copy, result, keep, crashed=len(tally.contained) <= COMMANDS)
        _WORKERS.append(worker)

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(drain) for _ in range(workers)]:
            future.result()
    figures = tally.record()
    print(
        f"{name:28} {figures['mean_ms']:8.1f} ms {figures['longest_s']:6.2f} s {figures['most_mb']:6.0f} MB  "
        + ", ".join(f"{count} {outcome}" for outcome, count in tally.outcomes.most_common()),
        *tally.unwanted[:5],
        sep="\n    ",
        flush=True,
    )
    return tally


_WORKERS: list[Worker] = []


def _put_away(copy: Path, result: str, keep: Path | None, crashed: bool) -> None:
    """Removes a mutated file, except what is kept for a look, or for the command."""
    if keep is not None and result not in WANTED:
        keep.mkdir(parents=True, exist_ok=True)
        shutil.move(copy, keep / f"{copy.parent.name}-{copy.name}")
    elif result == "contained" and crashed:
        pass
    elif copy.is_dir():
        shutil.rmtree(copy)
    else:
        copy.unlink(missing_ok=True)


def _through_the_command(paths: dict[str, Path], tallies: dict[str, Tally]) -> list[str]:
    """Files that crashed a runtime -> a line for each, on how `keras-resnet predict` ends on it."""
    lines = []
    for name, tally in tallies.items():
        for crash in tally.contained[:COMMANDS]:
            number = crash.split()[1].rstrip(":")
            whole = paths[name]
            image = whole.with_name("picture.png")
            picture(np.random.default_rng(0)).save(image)
            model = whole.with_name(f"{number}-{whole.name}")
            command = [sys.executable, "-m", "keras_resnet.cli", "predict", str(image), "--model", str(model)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            said = (done.stderr.strip().splitlines() or [""])[-1].replace(str(whole.parent), "")
            ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
            lines.append(f"predict, {name} {number}: {ended}: {said[:200]}")
    return lines


if __name__ == "__main__":
    typer.run(main)
