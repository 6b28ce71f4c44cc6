"""Files that appear whole or not at all, and the hash of a file."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"  # part of the name of a file that is being written


def file_sha256(path: Path) -> str:
    """File -> its SHA-256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """`with whole_file(path) as partial:` the file that the block writes to `partial` is finally renamed to `path`.

    If the block fails, only the older file stays. If the process is killed, `.<name>.partial` stays as well.
    `suffix` is for writers that need a file suffix.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}{suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):  # the folder itself may be gone
            partial.unlink()
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, which replaces an older one."""
    with whole_file(path) as partial:
        partial.write_bytes(content)


def targets_of(paths: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    """Image files, folder, suffix -> file name for the picture of each image; equal names get numbers."""
    taken: set[str] = set()
    targets = []
    for path in paths:
        name, number = path.stem + suffix, 2
        while name.casefold() in taken:  # some file systems ignore case
            name, number = f"{path.stem}-{number}{suffix}", number + 1
        taken.add(name.casefold())
        targets.append(out / name)
    return targets
