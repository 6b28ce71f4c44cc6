"""Answers that an artifact gave when it was exported: recorded beside it, and compared on another machine.

An export compares an artifact with its model where both are. A server has only the artifact, and a runtime and a CPU of
its own, whose kernels may round otherwise. So the export records a few images with the answers that the verified
artifact gave, in `<name of the artifact>.answers.npz`: the pixels as `image`, and each output by its name. The images
are made by arithmetic, as long as the answers to them differ enough to prove something, and not a user's own.
"""

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.answers import IMAGE, Answer
from keras_resnet.array_files import Arrays
from keras_resnet.errors import ExportError, reason
from keras_resnet.export.checks import Report
from keras_resnet.export.comparison import Compared, compare_answers, finite_check, shapes_of
from keras_resnet.export.files import ANSWERS
from keras_resnet.export.formats import Format
from keras_resnet.export.manifest import FILE_NAME, artifact_sha256, read_manifest
from keras_resnet.export.running import AS_WRITTEN, Running
from keras_resnet.export.runtimes import Runtime, format_and_description, open_runtime, predict, runtime_errors
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.base import Check, Task
from keras_resnet.whole_files import file_sha256, write_whole

NOT_COMPARED = Compared([], math.nan, math.nan, math.nan)
MOST_IMAGES, MOST_IMAGE_BYTES = 4, 4_000_000  # in one record, which has at least one image
MOST_VALUES = 250_000  # recorded values of an image that is answered pixel by pixel: every second, third ... pixel


def answers_file(artifact: Path) -> Path:
    """Artifact -> path of its recorded answers, which lie beside it."""
    return artifact.with_name(artifact.name + ANSWERS)


def record_answers(
    artifact: Path, row: Format, task: Task, classes: int, candidates: Iterable[np.ndarray]
) -> dict[str, Any] | None:
    """Verified artifact, its row of the table, images to choose from `[N, H, W, C]` -> hash and number of the answers,
    once they are written.

    The first of the candidates is taken whose answers can be compared. None: there is none, and nothing is written.
    """
    runtime, row = open_runtime(artifact, row), _for(task, row)
    for images in candidates:
        count = max(1, min(MOST_IMAGES, len(images), MOST_IMAGE_BYTES // images[0].nbytes))
        chosen = images[np.linspace(0, len(images) - 1, count).astype(int)]
        answers = _ask(runtime, chosen)
        itself = _compare(answers, answers, row, task, classes)
        if all(check.passed for check in itself.checks):
            content = io.BytesIO()
            np.savez_compressed(content, **{IMAGE: chosen}, **answers)  # type: ignore[arg-type]  # its stub is wrong
            file = answers_file(artifact)
            write_whole(file, content.getvalue())
            return {"sha256": file_sha256(file), "images": count}
    return None


def examine_recorded(artifact: Path, trust: bool = False, running: Running = AS_WRITTEN) -> Report:
    """Artifact -> report of its comparison with what `manifest.json` beside it records, in this machine's runtime.

    Raises:
        ExportError: Nothing is recorded about the artifact, or the record can't be read.
    """
    artifact = artifact.absolute()
    entry = _entry_of(artifact)
    images, expected = _read(artifact, entry)
    checks, compared = [_file_check(artifact, entry), _verification_check(entry)], NOT_COMPARED
    name = str(entry["description"]["format"])
    if checks[0].passed:  # otherwise nothing of the record is about this file
        row, description = format_and_description(artifact, trust)
        checks.append(_description_check(description or {}, entry["description"]))
        task, classes = TASKS[entry["description"]["task"]], int(entry["description"]["output"]["classes"])
        name, row = row.name, _for(task, running.of(row))
        try:
            with runtime_errors():
                answers = _ask(open_runtime(artifact, row, trust=trust), images)
        except ExportError as error:
            checks.append(Check("runs", str(error), "the artifact opens and runs", False))
        else:
            shapes = [shapes_of(dict(sorted(each.items()))) for each in (answers, expected)]
            alike = answers.keys() == expected.keys() and shapes[0] == shapes[1]
            checks += [finite_check(answers), Check("answer shape", shapes[0], shapes[1], alike)]
            if checks[-1].passed and checks[-2].passed:
                compared = _compare(answers, expected, row, task, classes)
    return Report(name, (*checks, *compared.checks), len(images), *compared[1:])


def _for(task: Task, row: Format) -> Format:
    """Row of the table -> row with the bounds for answers of the task."""
    return replace(row, tolerance=task.tolerance(row.tolerance))


def _ask(runtime: Runtime, images: np.ndarray) -> Answer:
    """-> answers, of every so many pixels where each pixel has one."""
    answers = dict(predict(runtime, images))
    for name, values in answers.items():
        if values.shape[1:3] == images.shape[1:3]:
            step = math.ceil(math.sqrt(values[0].size / MOST_VALUES))
            answers[name] = values[:, ::step, ::step]
    return answers


def _compare(answers: Answer, expected: Answer, row: Format, task: Task, classes: int) -> Compared:
    if row.output.decides:  # 1 for the class of each pixel, 0 for the others
        answers, expected = (
            {name: np.eye(classes, dtype="float32")[values] for name, values in each.items()}
            for each in (answers, expected)
        )
    return compare_answers(answers, expected, row, task)


# --- reading of the record ----------------------------------------------------------------------------------------


def _entry_of(artifact: Path) -> Mapping[str, Any]:
    """Artifact -> its entry in the manifest beside it."""
    if not artifact.exists():
        raise ExportError(f"{artifact}: no such file or folder")
    entries = read_manifest(artifact.parent)["artifacts"].values()
    entry = next((entry for entry in entries if entry["file"] == artifact.name), None)
    if entry is None:
        raise ExportError(
            f"{artifact}: {FILE_NAME} beside it records nothing about it. Copy the whole folder that `keras-resnet "
            "export` wrote, or compare the artifact with its model: --model"
        )
    return entry


def _read(artifact: Path, entry: Mapping[str, Any]) -> tuple[np.ndarray, Answer]:
    """Artifact, its entry -> recorded images uint8 `[N, H, W, C]`, and the answers to them."""
    recorded = entry.get("answers")
    if not recorded:
        raise ExportError(
            f"{artifact}: no answers were recorded when it was exported: an earlier version wrote it, or its answers "
            "to the images were too alike to be compared. Export it again, with --calibration, or compare it with its "
            "model: --model"
        )
    file = answers_file(artifact)
    try:
        if file_sha256(file) != recorded["sha256"]:
            raise ValueError(f"it is not the file that {FILE_NAME} records")
        with Arrays(file) as arrays:
            answers = {name: arrays[name] for name in arrays.names}
        images = answers.pop(IMAGE)
        if images.dtype != np.uint8 or images.ndim != 4 or not len(images) or not answers:
            raise ValueError("it must hold pixels uint8 [N, H, W, C], and answers to them")
    except Exception as error:  # a damaged archive can make its readers raise anything
        raise ExportError(
            f"{file}: the recorded answers can't be read: {reason(error)}. Copy the whole folder that `keras-resnet "
            "export` wrote"
        ) from error
    return images, answers


def _file_check(artifact: Path, entry: Mapping[str, Any]) -> Check:
    digest = artifact_sha256(artifact)
    return Check("file", f"SHA-256 {digest[:16]}...", f"SHA-256 {entry['sha256'][:16]}...", digest == entry["sha256"])


def _verification_check(entry: Mapping[str, Any]) -> Check:
    """Checks that the export found the artifact equal to its model."""
    passed = (entry.get("verification") or {}).get("passed") is True
    return Check(
        "equal to its model", "so found by the export" if passed else "not recorded", "found by the export", passed
    )


def _description_check(own: Mapping[str, Any], recorded: Mapping[str, Any]) -> Check:
    wrong = sorted(key for key in {*own, *recorded} if own.get(key) != recorded.get(key))
    return Check("description", f"other {', '.join(wrong)}" if wrong else "as recorded", "as recorded", not wrong)
