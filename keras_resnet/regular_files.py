"""Reading of files, but not of pipes, which would be waited for, nor of devices, which may never end (/dev/zero)."""

import errno
import os
import stat
from typing import BinaryIO

LARGEST_BYTES = 2_000_000_000  # no image file is larger; a sparse file would be read into memory as zeros


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


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Path -> content of the file.

    Raises:
        OSError: As for `open_regular`, or the file has more than `LARGEST_BYTES`.
    """
    with open_regular(path) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        if size_bytes > LARGEST_BYTES:
            raise OSError(errno.EFBIG, f"the file has {size_bytes:,} bytes, more than the limit of {LARGEST_BYTES:,}")
        return stream.read(size_bytes)


def is_plain_name(name: object) -> bool:
    """Untrusted name of a file in a folder -> whether it is one, without a way into another folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not any(c in name for c in "/\\\0")
