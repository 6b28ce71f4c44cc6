"""One process at a time writes to a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_resnet.errors import ArgumentError

_HELD: set[str] = set()  # folders that this process has: a command may call another one for its folder


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """`with only_writer(folder):` until the block ends, the same call in another process is an error.

    The folder itself is locked, so that no file is left behind, and the kernel unlocks it when the process ends in
    whatever way. Where the system or the file system locks no folders (Windows, some NFS), the block runs unguarded.

    Raises:
        ArgumentError: Another process writes to the folder.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    name = os.path.realpath(folder)
    if name in _HELD:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArgumentError(
                f"another process is writing to {folder}. Wait until it has ended, or give another folder"
            ) from error
        except OSError:
            pass
        _HELD.add(name)
        try:
            yield
        finally:
            _HELD.discard(name)
    finally:
        os.close(descriptor)
