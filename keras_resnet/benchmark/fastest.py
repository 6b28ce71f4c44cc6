"""Results of `benchmark` -> the artifacts among which the fastest is chosen, and how exact each is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.benchmark.compare import Contender, Result
from keras_resnet.errors import ExportError
from keras_resnet.export.manifest import read_manifest
from keras_resnet.export.runtimes import format_of
from keras_resnet.fastest import Measured


def measured_artifacts(
    contenders: Sequence[Contender], results: Mapping[str, Result], batch_size: int
) -> dict[Path, Measured]:
    """Contenders, results by name -> the artifacts that were measured, by path."""
    found = {}
    for one in contenders:
        if one.file is None or one.answers is None or one.file.suffix == ".keras" or one.name not in results:
            continue
        latency_ms = results[one.name].timings[batch_size].latency.median_ms
        drop_points = _drop_points(one, one.file, contenders, results)
        within = None
        if drop_points is not None:
            most = one.answers.task.largest_drop_points.of(format_of(one.file).bytes_per_parameter)
            within = drop_points <= most + 1e-9
        found[one.file] = Measured(one.name, latency_ms, _is_exact(one), within)
    return found


def _is_exact(one: Contender) -> bool:
    """-> whether it is the model, or an artifact in float32 that was verified to give the model's answers."""
    if one.file is None or one.file.suffix == ".keras":
        return True
    return one.numbers == "float32" and _entry(one.file) is not None


def _entry(file: Path) -> Mapping[str, Any] | None:
    """Artifact -> what the manifest beside it records of its export; None: it records nothing."""
    try:
        entries = read_manifest(file.parent)["artifacts"].values()
    except ExportError:
        return None
    return next((entry for entry in entries if entry["file"] == file.name), None)


def _drop_points(
    artifact: Contender, file: Path, contenders: Sequence[Contender], results: Mapping[str, Result]
) -> float | None:
    """-> points of the model's score that an artifact loses on labelled images; None: that was not measured.

    With `--data`, the first contender that loses nothing stands for the model. Otherwise, the images that the export
    was given count.
    """
    score = artifact.answers.task.score if artifact.answers is not None else ""
    own = results[artifact.name].figures.get(score)
    exact = [one for one in contenders if one.name in results and _is_exact(one)]
    model = results[exact[0].name].figures.get(score) if exact else None
    if own is not None and model is not None:
        return model - own
    accuracy = (_entry(file) or {}).get("accuracy") or {}
    return accuracy.get("drop_points")
