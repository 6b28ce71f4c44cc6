"""Artifact files and folders: atomic replacement where possible, recovery, and clean-up."""

import ctypes
import functools
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from keras_resnet.errors import ExportError
from keras_resnet.export.formats import FORMATS, UNVERIFIED
from keras_resnet.one_writer import only_writer
from keras_resnet.whole_files import partial_files

GRAPH_FILE = "saved_model.pb"  # makes a folder a SavedModel
IR_FILE = "model.xml"  # makes a folder OpenVINO's; its constants are in model.bin
PAGE_FILE, NETWORK_FILE = "index.html", "model.onnx"  # in a folder for browsers
LABELS_FILE, DESCRIPTION_FILE = "labels.txt", "description.json"  # inside or beside a graph
ANSWERS = ".answers.npz"  # suffix of the file beside an artifact with its recorded answers
REPLACED = ".replaced"  # suffix of a folder that is being replaced
# Files that each run replaces.
WRITTEN = (
    *("manifest.json", "report.html", "REPORT.md", "report.png"),
    *(f"quantization-error-{name}{suffix}" for name in FORMATS for suffix in (".csv", ".png")),
)

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # constants of Linux's renameat2


def claims_folder(export: Callable[..., Any]) -> Callable[..., Any]:
    """`export(model, folder, ...)` -> `export` that no other process can call for the same folder meanwhile.

    The folder is made if needed, and removed again if nothing was written to it.
    """

    @functools.wraps(export)
    def alone(model: Any, folder: str | os.PathLike[str], *args: Any, **given: Any) -> Any:
        out = Path(folder)
        existed = out.exists()
        if existed and not out.is_dir():
            raise ExportError(f"`folder` (--out) must be a new or existing folder. Received: {out}, which is a file")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExportError(f"`folder` (--out) can't be made: {out}: {error.strerror or error}") from error
        with only_writer(out):
            try:
                return export(model, folder, *args, **given)
            except BaseException:
                if not existed:
                    with suppress(OSError):  # it holds files
                        out.rmdir()
                raise

    return alone


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


def clean(folder: Path, names: Sequence[str]) -> None:
    """Removes partial artifacts, and partial files beside them, that a killed run left."""
    for name in names:
        for left in (name + UNVERIFIED, name + UNVERIFIED + ANSWERS, name + REPLACED, f".{name}.scratch"):
            remove(folder / left)
    for name in (*WRITTEN, *(name + UNVERIFIED + ANSWERS for name in names)):
        for partial in partial_files(folder / name):
            remove(partial)


def remove(path: Path) -> None:
    """Removes a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_artifact_folder(path: Path) -> bool:
    """Path -> whether it is a folder that is an artifact: a SavedModel, OpenVINO's, or for browsers."""
    return any((path / name).exists() for name in (GRAPH_FILE, IR_FILE)) or _is_web(path)


def kind_of(path: Path) -> Literal["saved_model", "openvino", "web", "tflite", "onnx"]:
    """File or folder of an artifact -> what it is, by its content. What is nothing else counts as an ONNX file."""
    if path.is_dir():
        if (path / GRAPH_FILE).exists():
            return "saved_model"
        if (path / IR_FILE).exists():
            return "openvino"
        return "web" if _is_web(path) else "saved_model"
    with path.open("rb") as stream:
        return "tflite" if stream.read(8)[4:] == b"TFL3" else "onnx"


def onnx_file(path: Path) -> Path:
    """ONNX file, or folder for browsers -> the ONNX file."""
    return path / NETWORK_FILE if path.is_dir() else path


def _is_web(path: Path) -> bool:
    return (path / PAGE_FILE).exists() and (path / DESCRIPTION_FILE).exists()
