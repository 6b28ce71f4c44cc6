"""Results of `benchmark` -> the artifacts among which the fastest is chosen, and how exact each is."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_resnet.benchmark.compare import Contender, Result
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
        within = _within_gate(one, one.file, contenders, results)
        found[one.file] = Measured(one.name, latency_ms, one.numbers == "float32", within)
    return found


def _within_gate(
    artifact: Contender, file: Path, contenders: Sequence[Contender], results: Mapping[str, Result]
) -> bool:
    """-> whether the artifact's score on labelled images is near enough to the model's.

    With `--data`, the first contender in float32 stands for the model. Otherwise, the images that the export was given
    count: it gives no name to an artifact that loses more than the gate allows.
    """
    if artifact.answers is None:
        return False
    task = artifact.answers.task
    scores = [results[one.name].figures.get(task.score) for one in contenders if one.numbers == "float32"]
    own = results[artifact.name].figures.get(task.score)
    if own is not None and scores and scores[0] is not None:
        return scores[0] - own <= task.largest_drop_points.of(format_of(file).bytes_per_parameter) + 1e-9
    entries = read_manifest(file.parent)["artifacts"].values()
    return any(entry["file"] == file.name and entry.get("accuracy") is not None for entry in entries)
