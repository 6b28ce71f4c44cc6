"""Trained model <-> `.keras` file with a description: its task, its class names and the pixels that it expects.

A `.keras` file is a zip archive, of which Keras reads only its own members. The description is one more member, so that
the file stays an ordinary `.keras` file.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keras_resnet.contained import remember
from keras_resnet.errors import WeightsError, reason
from keras_resnet.facts import facts_of
from keras_resnet.tasks import TASKS, checked_task_of, task_named
from keras_resnet.variants import Contract, contract_of_fields
from keras_resnet.whole_files import file_sha256, whole_file

MEMBER = "keras_resnet.json"
SCHEMA_VERSION = 2  # schema 1 had neither a version nor a task
LARGEST_MEMBER_BYTES = 16_000_000  # largest description, enough for 100,000 class names


@dataclass(frozen=True)
class ModelDescription:
    """The description of a model in its file."""

    task: str  # its name in `tasks.TASKS`
    class_names: tuple[str, ...] | None  # names in the order of the outputs
    contract: Contract  # way from image files to its pixels
    task_facts: Mapping[str, Any] = field(default_factory=dict)  # facts that only its task knows

    def check(self, model: Any) -> None:
        """Raises `ValueError` if the model has another number of classes, or another input size."""
        classes = TASKS[self.task].classes_of(model)
        if self.class_names is not None and len(self.class_names) != classes:
            raise ValueError(f"{len(self.class_names)} names for {classes} classes")
        sides, wanted = tuple(model.inputs[0].shape[1:3]), self.contract.sides
        if any(side not in (None, given) for side, given in zip(sides, wanted, strict=True)):
            raise ValueError(f"pixels of {wanted} for an input of {sides}")


def save_model(
    model: Any,
    path: str | os.PathLike[str],
    class_names: Sequence[str] | None,
    contract: Contract,
    task: str | None = None,
    task_facts: Mapping[str, Any] | None = None,
) -> None:
    """Keras model, class names, contract -> `.keras` file, which replaces an older file once it is complete.

    Args:
        task: Task of the model. Default: its stated task, or, for a model of another package, the task with its shapes.
        task_facts: Facts that only this task knows. Default: the facts stated about the model.

    Raises:
        ValueError: `path` has another suffix, class names or contract don't fit the model, or the model has no task.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"`path` must end in .keras. Received: path={str(path)!r}")
    if isinstance(class_names, str):
        raise ValueError(f"`class_names` must be a list of names, or None. Received: class_names={class_names!r}")
    known = checked_task_of(model) if task is None else task_named(task)
    given = facts_of(model).task_facts if task_facts is None else task_facts
    description = ModelDescription(
        known.name, None if class_names is None else tuple(class_names), contract, dict(given)
    )
    try:
        member = json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "task": description.task,
                "labels": description.class_names,
                "contract": asdict(contract),
                "task_facts": description.task_facts,
            }
        )
        _parsed(member)
        description.check(model)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`class_names` and `contract` must fit the model. Received: {error}") from error
    with whole_file(path, suffix=".keras") as partial:
        model.save(partial)
        with zipfile.ZipFile(partial, "a", zipfile.ZIP_STORED) as archive:  # compressed members are refused on loading
            archive.writestr(MEMBER, member)
    remember(file_sha256(path), "keras")


def read_model_description(path: str | os.PathLike[str]) -> ModelDescription | None:
    """`.keras` file -> description of its model, or None if the file has no description, as Keras writes it.

    Raises:
        WeightsError: The file is no archive, or its description is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                return None
            size_bytes = archive.getinfo(MEMBER).file_size
            if size_bytes > LARGEST_MEMBER_BYTES:
                raise ValueError(f"it has {size_bytes:,} bytes, more than the limit of {LARGEST_MEMBER_BYTES:,}")
            return _parsed(archive.read(MEMBER))
    # RuntimeError: the member is encrypted, has an unsupported compression, or its JSON is nested too deep.
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f"{os.fspath(path)}: its member {MEMBER!r} can't be read: {reason(error)}") from error


def _parsed(member: str | bytes) -> ModelDescription:
    """Untrusted JSON text -> description.

    Raises:
        ValueError: The text is not JSON, or a field is missing, has the wrong type or is out of range.
    """
    content = json.loads(member)
    if not isinstance(content, dict) or not isinstance(content.get("contract"), dict) or "labels" not in content:
        raise ValueError("it must be an object with 'labels' and 'contract'")
    labels = content["labels"]
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ValueError("'labels' must be null or a list of texts")
    contract = contract_of_fields(content["contract"])
    task = _task_of(content)
    facts = content.get("task_facts", {})
    if not isinstance(facts, dict):
        raise ValueError("'task_facts' must be an object")
    return ModelDescription(task, None if labels is None else tuple(labels), contract, TASKS[task].checked_facts(facts))


def _task_of(content: dict[str, Any]) -> str:
    """JSON object -> name of the task. In version 1, the kind of contract tells the task.

    Raises:
        ValueError: The version or the task is unknown.
    """
    version = content.get("schema_version", 1)
    if version == 1:
        return "segment" if "height" in content["contract"] else "classify"
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema version {version!r} is unknown; the newest known version is {SCHEMA_VERSION}"[:200])
    task = content.get("task")
    if not isinstance(task, str) or task not in TASKS:
        raise ValueError(f"'task' must be one of {', '.join(TASKS)}: {task!r}"[:200])
    return task
