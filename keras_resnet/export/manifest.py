"""The record beside the artifacts: description, source and verification of each artifact."""

import hashlib
import json
from pathlib import Path
from typing import Any

from keras_resnet.errors import ExportError
from keras_resnet.export.old_schema import current
from keras_resnet.regular_files import read_text
from keras_resnet.whole_files import file_sha256, write_whole

FILE_NAME = "manifest.json"
SCHEMA_VERSION = 2


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
            if not isinstance(entry["file"], str) or not isinstance(entry["description"], dict):
                raise ValueError(f"entry {name!r} is invalid")
            entry["description"] = current(entry["description"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExportError(f"{path}: this version can't read the manifest: {error}. Move it away") from error
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


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    write_whole(folder / FILE_NAME, (json.dumps(manifest, indent=2) + "\n").encode())


def weights_sha256(model: Any) -> str:
    """Keras model -> hash over every variable's path, shape and values, in the model's order."""
    from keras import ops

    digest = hashlib.sha256()
    for variable in model.variables:
        values = ops.convert_to_numpy(variable)
        digest.update(f"{variable.path} {values.shape} {values.dtype}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


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
