"""The standard streams of the command line, which may be closed, full, or unable to show a name."""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from keras_resnet.printable import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Unfailing(io.FileIO):
    """File whose writes never fail: notes and progress are no reason to end a command whose results can be written."""

    def write(self, data: "ReadableBuffer") -> int:
        try:
            return super().write(data)
        except OSError:  # a full disk, or a reader that has ended
            return memoryview(data).nbytes


def open_streams() -> None:
    """Opens the null device for each standard stream that is closed, and lets no name that it can't show be an error.

    The next file that is opened would otherwise get the number of a closed stream, and what is printed would go there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(getattr(getattr(sys.stderr, "buffer", None), "raw", None), io.FileIO):
        file = io.BufferedWriter(_Unfailing(sys.stderr.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(file, sys.stderr.encoding, "backslashreplace", line_buffering=True)


def unwritten_output() -> str:
    """Writes what is printed and still buffered -> why this is impossible, or an empty text."""
    try:
        sys.stdout.flush()
    except OSError as error:
        drop_stdout()
        return f"stdout can't be written: {error.strerror}"
    return ""


def drop_stdout() -> None:
    """Sends the rest of what is printed nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_nameless(error: Exception) -> bool:
    """Error -> whether it is the system's, about no file that has a name."""
    return isinstance(error, OSError) and error.filename is None


def tell(lines: Sequence[str]) -> None:
    """Prints lines on stderr, as text that a terminal does not obey."""
    with suppress(OSError):  # stderr can't be written either
        for line in lines:
            print(printable(line), file=sys.stderr)
