"""What a layout is made of, and the copy of an artifact in it."""

import shutil
from pathlib import Path
from typing import NamedTuple

from keras_resnet.errors import ArgumentError, ExportError
from keras_resnet.export.artifact import Artifact
from keras_resnet.export.manifest import artifact_sha256


class Given(NamedTuple):
    """An opened artifact, and the names under which a server finds it."""

    artifact: Artifact
    kind: str  # result of `export.files.kind_of`
    name: str
    version: int
    storage_uri: str | None = None  # address to which the user copies the whole folder


def copy_artifact(given: Given, target: Path) -> None:
    """Copies the artifact's file to a new file, or the content of its folder to an existing, empty folder.

    Raises:
        ArgumentError: The folder has links, which could lead to any file of this machine.
        ExportError: The artifact has changed meanwhile.
    """
    source = given.artifact.path
    if source.is_dir():
        links = [entry for entry in source.rglob("*") if entry.is_symlink()]
        if links:
            raise ArgumentError(f"{source}: must be a folder without links. It has {links[0]}. Copy it with cp -rL")
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
    if artifact_sha256(source) != artifact_sha256(target):
        raise ExportError(f"{source}: the artifact has changed while it was copied")
