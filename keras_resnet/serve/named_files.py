"""Arguments of `keras-resnet serve` -> names, versions and paths of the artifacts that are served."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_resnet.errors import ArgumentError
from keras_resnet.export.manifest import FILE_NAME
from keras_resnet.export.running import AS_WRITTEN, Running
from keras_resnet.loading import is_artifact
from keras_resnet.model_folders import model_in

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # no character has a meaning in a URL
VERSION = re.compile(r"[1-9][0-9]{0,17}")  # TensorFlow Serving and Triton name folders of versions so
_NAMED = re.compile(r"([^=/\\]*)=(.+)", re.DOTALL)


class ServedFile(NamedTuple):
    """One artifact and the place in URLs under which it is served."""

    name: str
    version: str | None  # None: the artifact is no version among others
    path: str


def served_files(arguments: Sequence[str], running: Running = AS_WRITTEN) -> list[ServedFile]:
    """Arguments `PATH` or `NAME=PATH` -> artifacts, the newest version of a name last.

    A path is an artifact, a folder that `export` wrote, or a folder of versions: `PATH/1`, `PATH/2` and so on, each of
    them an artifact, a folder that `export` wrote, or a folder with one artifact.

    Raises:
        ArgumentError: A path is none of these, or a name is invalid or used twice.
    """
    found: list[ServedFile] = []
    for argument in arguments:
        named = None if os.path.exists(argument) else _NAMED.fullmatch(argument)
        path = named[2] if named else argument
        name = named[1] if named else Path(path).name.removesuffix(".onnx").removesuffix(".tflite")
        if not NAME.fullmatch(name):
            raise ArgumentError(
                "the name of an artifact must begin with a letter or digit of ASCII, and hold at most 100 letters, "
                f"digits, dots, hyphens and underscores. Received: {name!r}. Give a name before the path: NAME={path}"
            )
        if name in [file.name for file in found]:
            raise ArgumentError(f"each artifact must have a name of its own: NAME=PATH. Received twice: {name}")
        found += _files(name, path, running)
    return found


def _files(name: str, path: str, running: Running) -> Iterator[ServedFile]:
    if not os.path.exists(path):
        raise ArgumentError(f"{path}: no such file or folder")
    versions = _versions(Path(path))
    if not versions:
        yield ServedFile(name, None, _artifact(path, running))
    for version in versions:
        yield ServedFile(name, version, _artifact(os.path.join(path, version), running))


def _versions(path: Path) -> list[str]:
    """-> the versions in a folder of versions, the newest last; none for any other path."""
    if not path.is_dir() or is_artifact(str(path)) or (path / FILE_NAME).exists():
        return []
    return sorted((entry.name for entry in path.iterdir() if VERSION.fullmatch(entry.name) and entry.is_dir()), key=int)


def _artifact(path: str, running: Running) -> str:
    """Artifact, a folder that `export` wrote, or a folder with one artifact -> path of the artifact."""
    if is_artifact(path):
        return path
    if Path(path).is_dir() and not (Path(path) / FILE_NAME).exists():
        inside = [str(entry) for entry in sorted(Path(path).iterdir()) if is_artifact(str(entry))]
        if len(inside) == 1:
            return inside[0]
    if path.endswith(".keras"):
        raise ArgumentError(
            f"{path}: only artifacts are served. Export it first: keras-resnet export --model {path} --formats onnx "
            "--out out"
        )
    taken = model_in(path, running)
    if not is_artifact(taken):
        raise ArgumentError(
            "an artifact must be a SavedModel, OpenVINO or web folder, a .tflite or an .onnx file, or a folder that "
            f"`keras-resnet export` wrote. Received: {taken}"
        )
    return taken
