"""File from the Hub -> the record of its first download; a later change is an error.

A repository can change at any time, and with it the model that is made of it. The record has the revision (the commit)
and the SHA-256 that each file had at that time. It lies beside the Hub's cache, and serves all projects of a user.
"""

import json
import logging
import re
from pathlib import Path

from keras_resnet.errors import WeightsError, reason
from keras_resnet.printable import printable
from keras_resnet.regular_files import open_regular
from keras_resnet.whole_files import write_whole

FILE_NAME = "keras_resnet_weights.json"
SCHEMA_VERSION = 1
LARGEST_BYTES = 1_000_000  # several thousand files
MAIN = "main"  # revision that the Hub gives to whoever names none
_LOG = logging.getLogger("keras_resnet")
_COMMIT = re.compile("[0-9a-f]{40}")


def record_file() -> Path:
    """-> path of the record, beside the Hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).with_name(FILE_NAME)


def check_pinned(repository: str, revision: str, path: Path, sha256: str) -> None:
    """Compares a fetched file with the record of its first download, or records it.

    Args:
        repository: Repository on the Hub.
        revision: Revision that the user named; empty: none.
        path: The file in the Hub's cache.
        sha256: Its SHA-256.

    Raises:
        WeightsError: The file is another one than at its first download, or the record can't be read.
    """
    record = record_file()
    files = _read(record)
    name = f"hf://{repository}@{revision or MAIN}/{path.name}"
    found = {"revision": _revision_of(path), "sha256": sha256}
    first = files.setdefault(name, found)
    if first is found:
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            content = {"schema_version": SCHEMA_VERSION, "files": files}
            write_whole(record, (json.dumps(content, indent=2) + "\n").encode())
        except OSError as error:  # a cache that many share is often read-only
            _LOG.warning(printable(f"{record}: can't be written, so that later changes of {name} go unseen: {error}"))
    elif first["sha256"] != sha256:
        raise WeightsError(
            f"hf://{repository}: {path.name} has changed since its first download. It was {_shown(first)}, and is "
            f"{_shown(found)}. To keep using the first file, give --revision {first['revision']}. To accept the other "
            f"one, remove its entry {name!r} from {record}"
        )


def _read(record: Path) -> dict[str, dict[str, str]]:
    """Record -> {name of the file: {"revision": commit, "sha256": hash}}; it is empty before the first download."""
    if not record.exists():
        return {}
    try:
        with open_regular(record) as stream:
            text = stream.read(LARGEST_BYTES + 1)
        if len(text) > LARGEST_BYTES:
            raise ValueError(f"it has more than {LARGEST_BYTES:,} bytes")
        content = json.loads(text)
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {content['schema_version']}, but only {SCHEMA_VERSION} is known")
        return {
            name: {"revision": str(first["revision"]), "sha256": str(first["sha256"])}
            for name, first in content["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{record}: this record of files from the Hub can't be read ({reason(error)}). Move it away: the next "
            "download starts a new one"
        ) from error


def _revision_of(path: Path) -> str:
    """File in the Hub's cache, under `snapshots/<commit>` -> the commit, or "unknown"."""
    return next((part for part in path.parts if _COMMIT.fullmatch(part)), "unknown")


def _shown(file: dict[str, str]) -> str:
    return f"SHA-256 {file['sha256'][:16]}... of revision {file['revision']}"
