"""The first opening of a file, in a process of its own that may crash.

The libraries that read models are native code. On a damaged file or a stranger's, they can end the process that opens
it, or fill the memory. A file is therefore opened, and run on one image, in a child process first. Only when the child
has survived that does this process open the file.

What this installation has written, or has opened in a child before, is opened at once. A ledger in the user's cache
folder holds the SHA-256 of these files. Without a ledger, for example if the folder can't be written, every file goes
through a child.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from keras_resnet import errors
from keras_resnet.errors import KerasResnetError, MissingDependencyError
from keras_resnet.whole_files import write_whole

LONGEST_CPU_S = 120  # processor time of a child; importing TensorFlow takes a few seconds of it
LONGEST_S = 900.0  # whole time of a child, which a busy machine can stretch
LARGEST_BYTES = 16_000_000_000  # resident memory of a child; half of the machine's memory where that is less
MOST_ENTRIES = 5000  # lines of the ledger; each has 80 bytes
MODULE = "keras_resnet.contained"

_POLL_S = 0.01
_LARGEST_ANSWER = 4000  # characters, which fit into a pipe that nobody reads yet
_expendable = False


def make_expendable() -> None:
    """Lets this process open files without a child, because it may crash itself."""
    global _expendable
    _expendable = True


def check_opens(
    path: Path, digest: str, kind: str, opener: str, arguments: Mapping[str, Any], error: type[KerasResnetError]
) -> None:
    """Opens a file in a child process, unless the ledger has it.

    Args:
        digest: SHA-256 of the file.
        kind: What reads the file. The ledger keeps the kinds apart.
        opener: The function that the child calls, "package.module:function", and its `arguments`.
        error: Type of the error where the child does not survive.

    Raises:
        KerasResnetError: The child did not survive, or refused the file.
    """
    if _expendable or f"{digest} {kind}" in _entries():
        return
    answer = _answer_of_child(path, {"opener": opener, "arguments": dict(arguments), "cpu_s": LONGEST_CPU_S}, error)
    if answer["outcome"] == "opened":
        remember(digest, kind)
    elif answer["outcome"] == "refused":
        raise getattr(errors, answer["type"])(answer["message"])
    # Otherwise a library has raised an error. It raises the same here, and the caller knows how to put it.


def remember(digest: str, kind: str) -> None:
    """Enters a file into the ledger, if there can be one. The oldest entries make room."""
    entry, file = f"{digest} {kind}", _ledger()
    entries = _entries()
    if file is None or entry in entries:
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, "".join(f"{line}\n" for line in [*entries, entry][-MOST_ENTRIES:]).encode())


def function_named(name: str) -> Callable[..., Any]:
    """`"package.module:function"` -> the function."""
    module, _, function = name.partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), function))


def python_environment() -> dict[str, str]:
    """-> what the environment of a Python process needs to find its modules where this process finds them.

    `python -m` would look into the current folder first, which may be a stranger's.
    """
    return {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}


def _ledger() -> Path | None:
    """-> file of the ledger; None if the user has no cache folder."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError:  # there is no home folder
        return None
    return cache / "keras_resnet" / "opened.txt"


def _entries() -> list[str]:
    file = _ledger()
    try:
        return [] if file is None else file.read_text("ascii").splitlines()[-MOST_ENTRIES:]
    except (OSError, ValueError):  # it is absent, can't be read, or is damaged
        return []


def _answer_of_child(path: Path, request: Mapping[str, Any], error: type[KerasResnetError]) -> dict[str, str]:
    limit_bytes = _limit_bytes()
    if not sys.executable:
        raise error(
            f"{path}: a file is first opened in a process of its own, for which Python's executable must be known. "
            "Received: an empty sys.executable"
        )
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **python_environment(), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        )
    except OSError as failure:
        raise error(
            f"{path}: a file is first opened in a process of its own, which can't be started: {sys.executable}: "
            f"{failure.strerror or failure}"
        ) from failure
    with process:
        try:
            problem = _watch(process, limit_bytes)
            said = process.stdout.read() if problem is None and process.stdout else b""
        finally:
            process.kill()
    if problem is None and process.returncode:
        problem = _ending(process.returncode)
    if problem is not None:
        raise error(
            f"{path}: {problem}. It was tried in a process of its own, and was not opened here. It is damaged, or made "
            "to do harm"
        )
    return cast("dict[str, str]", json.loads(said))


def _watch(process: subprocess.Popen[bytes], limit_bytes: int) -> str | None:
    """Waits for the end of a child -> which limit it exceeded, in words."""
    end = time.monotonic() + LONGEST_S
    while True:
        try:
            process.wait(_POLL_S)
            return None
        except subprocess.TimeoutExpired:
            if _resident_bytes(process.pid) > limit_bytes:
                return f"takes more than {limit_bytes / 1e9:.1f} GB of memory to open it and run it on one image"
            if time.monotonic() > end:
                return f"does not open and run on one image within {LONGEST_S:g} s"


def _ending(status: int) -> str:
    if status == -getattr(signal, "SIGXCPU", 0):
        return f"takes more than {LONGEST_CPU_S} s of processor time to open it and run it on one image"
    if status > 0:
        return f"ends the process that opens it (exit status {status})"
    return f"ends the process that opens it (signal {-status}{', probably for want of memory' if status == -9 else ''})"


def _limit_bytes() -> int:
    try:
        return min(LARGEST_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    except (AttributeError, OSError, ValueError):  # Windows, or a system that does not tell
        return LARGEST_BYTES


def _resident_bytes(pid: int) -> int:
    """Process -> its resident memory; 0 where the system has no /proc, and memory is not watched."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def serve(request: Mapping[str, Any]) -> None:
    """The child's side: opens the file, and answers on the pipe to the parent, where a library's prints don't go."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    make_expendable()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"] + 5))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, the system ends this process first
    with contextlib.suppress(AttributeError):  # on Windows
        signal.alarm(int(LONGEST_S) + 5)  # for a child whose parent was killed
    answer = {"outcome": "opened"}
    try:
        function_named(request["opener"])(**request["arguments"])
    except MissingDependencyError:
        answer = {"outcome": "failed"}
    except KerasResnetError as error:
        answer = {"outcome": "refused", "type": type(error).__name__, "message": str(error)[:_LARGEST_ANSWER]}
    except Exception:  # noqa: BLE001  the parent opens the file, and gets it too
        answer = {"outcome": "failed"}
    os.write(answers, json.dumps(answer).encode())
    os._exit(0)  # the end of a runtime's own threads is no part of the trial


if __name__ == "__main__":
    # By its name: under `__main__`, the module would be there twice, and the other one would start a child again.
    function_named(f"{MODULE}:serve")(json.loads(sys.argv[1]))
