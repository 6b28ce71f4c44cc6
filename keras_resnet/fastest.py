"""The fastest artifact of a folder on this machine: `benchmark` records it, and `predict` and `evaluate` take it.

The record, `fastest.json`, has an entry for each machine that measured the folder, since the order of the formats
depends on the instructions of the CPU.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet.environment import machine
from keras_resnet.errors import ExportError
from keras_resnet.export.manifest import artifact_sha256
from keras_resnet.regular_files import read_text
from keras_resnet.whole_files import write_whole

FILE_NAME = "fastest.json"


class Measured(NamedTuple):
    """One artifact, as `benchmark` has measured it."""

    name: str
    latency_ms: float
    loses_nothing: bool  # it computes in float32, and was verified to give the model's answers
    within_gate: bool | None  # whether its score is as near to the model's as the gate asks for; None: not measured


class Fastest(NamedTuple):
    """The fastest artifact that loses nothing, and the fastest one within the gate; None: there is none."""

    exact: Measured | None
    within_gate: Measured | None
    any_score: bool  # whether the score of any artifact is known

    @property
    def taken(self) -> Measured | None:
        """The artifact that `predict` and `evaluate` take."""
        found = [one for one in (self.exact, self.within_gate) if one is not None]
        return min(found, key=lambda one: one.latency_ms, default=None)


def fastest_of(artifacts: Sequence[Measured]) -> Fastest:
    """Measured artifacts -> the fastest of each kind."""

    def least(those: list[Measured]) -> Measured | None:
        return min(those, key=lambda one: one.latency_ms, default=None)

    return Fastest(
        least([one for one in artifacts if one.loses_nothing]),
        least([one for one in artifacts if one.within_gate]),
        any(one.within_gate is not None for one in artifacts),
    )


def sentence(fastest: Fastest, batch_size: int) -> str:
    """-> what the user reads about the fastest artifacts."""
    parts = []
    if (exact := fastest.exact) is not None:
        parts.append(f"the fastest file that loses nothing is {exact.name} ({exact.latency_ms:.3g} ms)")
    else:
        parts.append("no file was exported in float32 and verified")
    if (within := fastest.within_gate) is not None:
        parts.append(f"the fastest file within the gate is {within.name} ({within.latency_ms:.3g} ms)")
    elif fastest.any_score:
        parts.append("no file is within the gate")
    else:
        parts.append("no file was measured on labelled images, so that none is known to be within the gate")
    return f"On this machine, at batch size {batch_size}, {', and '.join(parts)}."


def record_fastest(file: Path, latency_ms: float, batch_size: int) -> None:
    """Artifact, its latency -> the record in its folder names it as the fastest on this machine."""
    entry = {
        "file": file.name,
        "sha256": artifact_sha256(file),
        "latency_ms": latency_ms,
        "batch_size": batch_size,
    }
    machines = {**_machines(file.parent), machine(): entry}
    write_whole(file.parent / FILE_NAME, (json.dumps({"machines": machines}, indent=2) + "\n").encode())


def fastest_in(folder: Path, files: Sequence[str]) -> str | None:
    """Folder, its artifacts -> the one that was the fastest on this machine, if it is there and has not changed since.

    Raises:
        ExportError: The record can't be read.
    """
    entry = _machines(folder).get(machine())
    if entry is None or entry["file"] not in files:
        return None
    return str(entry["file"]) if artifact_sha256(folder / entry["file"]) == entry["sha256"] else None


def _machines(folder: Path) -> Mapping[str, Any]:
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        machines: Mapping[str, Any] = json.loads(read_text(path))["machines"]
        if not all(isinstance(entry["file"], str) and entry["sha256"] for entry in machines.values()):
            raise ValueError("an entry names no file")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(f"{path}: the record can't be read: {error}. Remove it, and run benchmark again") from error
    return machines
