"""Files and folders that appear whole or not at all, and the hash of a file."""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"  # part of the name of a file that is being written
ABANDONED_S = 600.0  # seconds after which a partial file that nobody has changed is taken for one of a killed process


def file_sha256(path: Path) -> str:
    """File -> its SHA-256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """`with whole_file(path) as partial:` the file that the block writes to `partial` is finally renamed to `path`.

    If the block fails, only the older file stays. If the process is killed, `.<name>.<16 random digits>.partial` stays
    as well, until the same file is written again. Nobody can know the name before, so that a link that a stranger has
    put into the folder is never followed. `suffix` is for writers that need a file suffix.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}{suffix}")
    for left in partial_files(path):
        with suppress(OSError):  # another process may have removed it
            if time.time() - left.lstat().st_mtime > ABANDONED_S:
                left.unlink()
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk has no name, and the partial file's name says nothing
        with suppress(OSError):  # the folder itself may be gone
            partial.unlink()
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """`with whole_folder(path) as partial:` the new folder `partial`, which the block fills, is finally renamed to
    `path`, where nothing may be.

    What a killed process leaves has the name of a partial file; see `whole_file`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in partial_files(path):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > ABANDONED_S:
                shutil.rmtree(left)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    partial.mkdir()
    try:
        yield partial
        os.rename(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def partial_files(path: Path) -> list[Path]:
    """File -> the partial files that processes write, or have left, in its place."""
    try:
        names = os.listdir(path.parent)
    except OSError:  # there is no such folder
        return []
    return [path.with_name(name) for name in names if name.startswith(f".{path.name}.") and PARTIAL in name]


def remove_partial_files(folder: Path) -> None:
    """Removes what killed processes left in a folder that only this process writes now."""
    for path in folder.glob(f".*.*{PARTIAL}*"):
        with suppress(OSError):
            path.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, which replaces an older one."""
    with whole_file(path) as partial:
        partial.touch(exist_ok=False)  # a link that somebody has put there would be an error
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
