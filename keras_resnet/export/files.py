"""Artifact files and folders: atomic replacement where possible, recovery, and clean-up."""

import ctypes
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from keras_resnet.export.formats import FORMATS, UNVERIFIED
from keras_resnet.whole_files import partial_files

REPLACED = ".replaced"  # suffix of a folder that is being replaced
# Files that each run replaces.
WRITTEN = (
    *("manifest.json", "report.html", "REPORT.md", "report.png"),
    *(f"quantization-error-{name}{suffix}" for name in FORMATS for suffix in (".csv", ".png")),
)

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # constants of Linux's renameat2


def replace(new: Path, path: Path) -> None:
    """Renames `new` to `path`, in one step if the system can, and removes the older file or folder of that name.

    Linux can swap two names on its own file systems. Elsewhere a folder can't be replaced in one step: the older folder
    is moved aside first, and `recover` moves it back after an interruption.
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
    """Swaps two names -> whether this system and its file system support this."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # no such function, no such library, Windows
        return False
    names = os.fsencode(first), os.fsencode(second)
    return renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def recover(path: Path) -> None:
    """Moves back a folder that a run moved aside before it was killed."""
    aside = path.with_name(path.name + REPLACED)
    if aside.exists() and not path.exists():
        os.replace(aside, path)


def clean(folder: Path, names: Iterable[str]) -> None:
    """Removes partial artifacts, and partial files beside them, that a killed run left."""
    for name in names:
        for left in (name + UNVERIFIED, name + REPLACED, f".{name}.scratch"):
            remove(folder / left)
    for name in WRITTEN:
        for partial in partial_files(folder / name):
            remove(partial)


def remove(path: Path) -> None:
    """Removes a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_tflite(path: Path) -> bool:
    """File of an artifact -> whether it is a TFLite file; otherwise, it is an ONNX file."""
    with path.open("rb") as stream:
        return stream.read(8)[4:] == b"TFL3"
