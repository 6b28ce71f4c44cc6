"""The record beside the artifacts: description, source and verification of each artifact."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from keras_resnet.errors import ExportError
from keras_resnet.export.description import checked_description
from keras_resnet.regular_files import is_plain_name, read_text
from keras_resnet.whole_files import file_sha256, write_whole

FILE_NAME = "manifest.json"
SCHEMA_VERSION = 2

State = Literal["whole", "changed", "missing"]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Folder -> its manifest, or an empty manifest.

    Raises:
        ExportError: The manifest can't be read.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return {"schema_version": SCHEMA_VERSION, "artifacts": {}}
    try:
        manifest = json.loads(read_text(path))
        if manifest["schema_version"] != SCHEMA_VERSION or not isinstance(manifest["artifacts"], dict):
            raise ValueError(f"schema version {manifest['schema_version']}, but only {SCHEMA_VERSION} is known")
        for name, entry in manifest["artifacts"].items():
            measured = isinstance(entry["sha256"], str) and isinstance(entry["size_bytes"], int)
            if not is_plain_name(entry["file"]) or not measured or not isinstance(entry["description"], dict):
                raise ValueError(f"entry {name!r} must have a file in the folder, its hash and size, and a description")
            entry["description"] = checked_description(entry["description"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"the field {error} is missing" if isinstance(error, KeyError) else error
        raise ExportError(f"{path}: this version can't read the manifest: {what}. Move it away") from error
    return manifest


def record(folder: Path, format_name: str, entry: dict[str, Any]) -> None:
    """Adds or replaces one artifact's entry in the folder's manifest."""
    manifest = read_manifest(folder)
    manifest["artifacts"][format_name] = entry
    _write(folder, manifest)


def forget(folder: Path, format_name: str) -> None:
    """Removes one artifact's entry, if there is one."""
    manifest = read_manifest(folder)
    if manifest["artifacts"].pop(format_name, None) is not None:
        _write(folder, manifest)


def state_of(folder: Path, entry: Mapping[str, Any]) -> State:
    """Folder, entry of its manifest -> whether the artifact is there as its export left it."""
    path = folder / entry["file"]
    if not (path.is_file() or path.is_dir()):
        return "missing"
    as_recorded = size_bytes(path) == entry["size_bytes"] and artifact_sha256(path) == entry["sha256"]
    return "whole" if as_recorded else "changed"


def check_recorded(folder: Path, entry: Mapping[str, Any]) -> None:
    """Raises `ExportError` if an artifact is another one than its entry in the folder's manifest records."""
    if state_of(folder, entry) == "changed":
        raise ExportError(changed(folder, entry))


def changed(folder: Path, entry: Mapping[str, Any]) -> str:
    """Folder, entry of an artifact that has changed -> the line that an error has about it."""
    return (
        f"{folder / entry['file']}: changed: {FILE_NAME} beside it records {entry['size_bytes']:,} bytes with SHA-256 "
        f"{entry['sha256'][:16]}..., which another file has. Export or fetch the folder again"
    )


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    write_whole(folder / FILE_NAME, (json.dumps(manifest, indent=2) + "\n").encode())


def size_bytes(path: Path) -> int:
    """File or folder -> size in bytes."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def artifact_sha256(path: Path) -> str:
    """File or folder -> hash. The hash of a folder covers the names and contents of its files."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {file_sha256(file)}\n".encode())
    return digest.hexdigest()
