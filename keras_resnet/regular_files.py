"""Reading of files, but not of pipes, which would be waited for, nor of devices, which may never end (/dev/zero)."""

import errno
import os
import stat
from typing import BinaryIO

LARGEST_BYTES = 2_000_000_000  # no image and no table is larger; a sparse file would be read into memory as zeros
LONGEST_NAME_BYTES = 255  # Linux's file systems, and most others, refuse longer names
LARGEST_TEXT_BYTES = 100_000_000  # size of another text, each of which describes one thing


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Path -> binary stream.

    Raises:
        OSError: The file can't be opened, or is a pipe, a device or a socket.
    """
    # Without the flag, the call itself would wait for a writer of a pipe.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return open(descriptor, "rb")


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Path -> whether `read_regular` would read it: a file of at most `LARGEST_BYTES`, or a link to one."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: the path has a NUL character
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_BYTES


def read_regular(path: str | os.PathLike[str], most_bytes: int = LARGEST_BYTES) -> bytes:
    """Path, largest size -> content of the file.

    Raises:
        OSError: As for `open_regular`, or the file is larger.
    """
    with open_regular(path) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        if size_bytes > most_bytes:
            raise OSError(errno.EFBIG, f"the file has {size_bytes:,} bytes, more than the limit of {most_bytes:,}")
        return stream.read(size_bytes)


def is_plain_name(name: object) -> bool:
    """Untrusted name of a file in a folder -> whether it is one, without a way into another folder."""
    if not isinstance(name, str) or name in ("", ".", "..") or any(c in name for c in "/\\\0"):
        return False
    return len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME_BYTES


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8", errors: str = "strict") -> str:
    """Path of a recipe, a list of names or a description -> its text.

    Raises:
        OSError: As for `open_regular`, or the file has more than `LARGEST_TEXT_BYTES`.
        UnicodeDecodeError: It is no text in this encoding.
    """
    return read_regular(path, LARGEST_TEXT_BYTES).decode(encoding, errors)
