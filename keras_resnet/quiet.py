"""Keeps the start-up and converter chatter of native libraries off the user's terminal."""

import atexit
import contextlib
import gc
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any, TextIO

from keras_resnet.errors import KerasResnetError
from keras_resnet.optional import absence_explained


@contextlib.contextmanager
def quiet_stderr() -> Iterator[IO[bytes]]:
    """-> file that holds back output to file descriptor 2, which is replayed if the block fails unexpectedly.

    The C++ code of TensorFlow and LiteRT writes its start-up lines before it reads any log level, so that only the
    descriptor itself can be redirected. Errors of this package explain themselves and cause no replay.
    """
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # stderr is closed: there is nothing to hold back
        yield io.BytesIO()
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield held
        except Exception as error:
            if not isinstance(error, KerasResnetError):
                sys.stderr.flush()
                held.seek(0)
                os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def terminal_stderr() -> TextIO:
    """-> stderr on a descriptor of its own, which `quiet_stderr` does not hold back, for progress displays."""
    try:
        return os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    except OSError:
        return open(os.devnull, "w")


def collect_rarely() -> None:
    """Lets the garbage collector search only once there are 100,000 new objects, and not at exit.

    A third of the CPU time of one prediction went into searches among the objects of modules, which all stay.
    """
    gc.set_threshold(100_000, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


_UNUSED = ("sklearn", "matplotlib")  # Keras imports these if installed, for functions that no command calls


def import_keras() -> None:
    """Imports Keras and its backend quickly and without their start-up lines.

    TensorFlow's log level is set to errors. oneDNN is switched on, which TensorFlow does not do by itself on a CPU
    without AVX-512: a training step of ResNet-50 took 4.7 s with oneDNN and 6.4 s without, on two cores with AVX2.

    Raises:
        MissingDependencyError: Keras or its backend is not installed, as in an environment of the runtime.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "keras" in sys.modules:
        return
    unused: dict[str, Any] = {name: None for name in _UNUSED if name not in sys.modules}
    sys.modules.update(unused)  # makes them look as if they were not installed
    collects = gc.isenabled()
    gc.disable()
    try:
        with quiet_stderr(), absence_explained():
            import keras  # noqa: F401
    finally:
        for name in unused:
            del sys.modules[name]
        if collects:
            gc.enable()
    # The imported objects live until the end, so the garbage collector need not search them for cycles, and its last
    # run at exit is skipped too. Both together are a fifth of the CPU time of one prediction.
    gc.freeze()
    atexit.register(gc.freeze)
