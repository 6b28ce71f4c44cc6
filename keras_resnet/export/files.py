"""Artifacts and folders of them: replaced in one step where that can be, taken back, cleaned up."""

import ctypes
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from keras_resnet.export.formats import UNVERIFIED
from keras_resnet.whole_files import PARTIAL

REPLACED = ".replaced"  # suffix of a folder on its way out
# Files that are replaced with each run.
WRITTEN = ("manifest.json", "report.html", "REPORT.md", "report.png", "quantization-error-*")

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


def replace(new: Path, path: Path) -> None:
    """Gives `new` the name `path`, in one step where the system can; what had that name is removed.

    A system that can't swap two names, as Linux does on its own file systems, has no such step for a folder: the older
    one is moved aside first, and `recover` takes it back from there.
    """
    aside = path.with_name(path.name + REPLACED)
    remove(aside)
    if os.path.lexists(path) and (path.is_dir() or new.is_dir()):
        if _exchange(new, path):
            remove(new)
            return
        os.replace(path, aside)
    os.replace(new, path)
    remove(aside)


def _exchange(first: Path, second: Path) -> bool:
    """Swaps two names -> whether this system, and the file system that they are on, can do that."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # no such function, no such library, Windows
        return False
    names = os.fsencode(first), os.fsencode(second)
    return renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def recover(path: Path) -> None:
    """Takes back a folder that a run moved aside and was killed before it could put another in its place."""
    aside = path.with_name(path.name + REPLACED)
    if aside.exists() and not path.exists():
        os.replace(aside, path)


def clean(folder: Path, names: Iterable[str]) -> None:
    """Removes what a killed run left of the artifacts of these names, and of the files beside them."""
    for name in names:
        for left in (name + UNVERIFIED, name + REPLACED, f".{name}.scratch"):
            remove(folder / left)
    for name in WRITTEN:
        for partial in folder.glob(f".{name}{PARTIAL}"):
            remove(partial)


def remove(path: Path) -> None:
    """Removes a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
