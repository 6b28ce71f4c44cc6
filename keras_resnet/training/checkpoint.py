"""Checkpoints: the state from which a run continues with bit-identical results, in one atomically written file."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors
from safetensors.numpy import save_file

from keras_resnet.errors import TrainingError, reason
from keras_resnet.variants import contract_of_fields
from keras_resnet.whole_files import whole_file

RANDOM = "random"  # group of the states of random numbers
PATTERN = re.compile(r"step-(\d{9})\.safetensors")


@dataclass
class TrainingProgress:
    """State of a run without its tensors. With the seed, it determines the order of images and the augmentation."""

    step: int = 0  # finished steps in total
    epoch: int = 0  # finished epochs
    batch: int = 0  # finished steps of the current epoch
    best_epoch: int = 0  # epoch of the weights in model.keras, from 1; 0: none yet
    history: list[dict[str, Any]] = field(default_factory=list)  # one row for each epoch
    fingerprint: str = ""  # fingerprint of the training data
    contract: dict[str, Any] = field(default_factory=dict)  # way from image files to the model's pixels
    problems: list[tuple[str, str, bool]] = field(default_factory=list)  # name, reason and use of bad image files


def save_checkpoint(folder: Path, model: keras.Model, progress: TrainingProgress, keep: int) -> Path:
    """Compiled model, progress of its run -> file `step-<n>.safetensors`; the previous `keep - 1` files stay.

    Raises:
        TrainingError: A weight is not finite, or the file can't be written. Earlier checkpoints stay.
    """
    tensors = {name: value_of(variable) for name, variable in _variables(model, progress)}
    broken = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if broken:
        raise TrainingError(
            f"step {progress.step}: {len(broken)} tensors are not finite, first {broken[0]}; no checkpoint was written"
        )
    path = folder / f"step-{progress.step:09d}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            save_file(tensors, partial, metadata={"progress": json.dumps(asdict(progress))})
            with partial.open("rb+") as stream:
                os.fsync(stream.fileno())
    except Exception as error:  # safetensors has its own exception for a full disk
        advice = (
            "Earlier checkpoints stay; make room and continue with --resume"
            if progress.step
            else "Make room and start again"
        )
        raise TrainingError(
            f"step {progress.step}: the checkpoint can't be written to {folder} ({reason(error)}). {advice}"
        ) from error
    found = checkpoints(folder)
    kept = [other for other in found if other.name <= path.name][:keep]  # newer files are unreadable
    for other in found:
        if other not in kept:
            other.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Folder -> checkpoints, the newest first."""
    found = (path for path in folder.glob("step-*") if PATTERN.fullmatch(path.name) and path.is_file())
    return sorted(found, reverse=True)


def read_progress(folder: Path) -> tuple[Path, TrainingProgress, list[str]]:
    """Folder -> newest readable checkpoint, its progress, and the problems of newer checkpoints.

    Raises:
        TrainingError: There is no readable checkpoint.
    """
    damaged: list[str] = []
    for path in checkpoints(folder):
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                return path, _progress_of(json.loads(file.metadata()["progress"])), damaged
        except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            damaged.append(f"{path}: can't be read ({reason(error)})")
    raise TrainingError(f"{folder}: no readable checkpoint to continue from", *(f"  {line}" for line in damaged))


def _progress_of(fields: dict[str, Any]) -> TrainingProgress:
    """Stored fields -> progress of the run."""
    if "best_score" in fields:  # an older checkpoint: the first epoch with the highest score was the best
        score = fields.pop("best_score")
        rows = fields["history"]
        fields["best_epoch"] = next((row["epoch"] for row in rows if score in _validation_scores(row)), 0)
    progress = TrainingProgress(**fields)
    wrong = next((rule for rule, holds in _rules(progress) if not holds), None)
    if wrong is not None:
        raise ValueError(f"its progress is damaged: {wrong}")
    if progress.contract:
        contract_of_fields(progress.contract)
    return progress


def _rules(progress: TrainingProgress) -> Iterator[tuple[str, bool]]:
    """Progress from an untrusted file -> rule, whether it holds. A check may assume that earlier checks passed."""
    counts = (progress.step, progress.epoch, progress.batch, progress.best_epoch)
    yield "numbers must be whole, from 0", all(type(count) is int and 0 <= count < 2**53 for count in counts)
    rows = progress.history
    yield "`history` must be a list of objects", isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    yield "`history` must hold numbers", all(type(value) in (int, float) for row in rows for value in row.values())
    yield "`fingerprint` must be a text", isinstance(progress.fingerprint, str)
    yield "`contract` must be an object", isinstance(progress.contract, dict)
    yield "`problems` must be a list", isinstance(progress.problems, list)
    yield (
        "`problems` must hold a name, a reason and a truth value each",
        all(isinstance(each, (list, tuple)) and [*map(type, each)] == [str, str, bool] for each in progress.problems),
    )


def _validation_scores(row: dict[str, Any]) -> set[float]:
    return {row[name] for name in ("val_top1_percent", "val_mean_iou_percent") if name in row}


def load_checkpoint(path: Path, model: keras.Model, progress: TrainingProgress) -> None:
    """Restores a compiled model of the same recipe and its optimizer from a file, at the progress of the run.

    Raises:
        TrainingError: The file's tensors don't fit the model; nothing is assigned.
    """
    variables = dict(_variables(model, progress))
    with safetensors.safe_open(path, framework="numpy") as file:
        found = set(file.keys())
        if not any(name.startswith(f"{RANDOM}/") for name in found):  # an earlier version, which did not store these
            variables = {name: each for name, each in variables.items() if not name.startswith(f"{RANDOM}/")}
        if found != set(variables):
            odd = sorted(found ^ set(variables))
            raise TrainingError(
                f"{path}: the checkpoint is of another network, which differs in {len(odd)} tensors, first {odd[0]}. "
                "Begin a new run"
            )
        for name, variable in variables.items():
            shape = tuple(file.get_slice(name).get_shape())
            if shape != tuple(variable.shape):
                raise TrainingError(
                    f"{path}: {name} has shape {shape}, but the model needs {tuple(variable.shape)}. Begin a new run"
                )
        for name, variable in variables.items():
            variable.assign(file.get_tensor(name))


def _variables(model: keras.Model, progress: TrainingProgress) -> Iterator[tuple[str, Any]]:
    """Compiled model -> unique name and variable: weights, optimizer, the states of the random numbers of dropout and,
    within an epoch, metrics."""
    others = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    random = [variable for variable in model.variables if id(variable) not in others]
    groups = {"model": model.weights, "optimizer": model.optimizer.variables, RANDOM: random}
    if progress.batch:
        groups["metrics"] = model.metrics_variables
    for group, variables in groups.items():
        for index, variable in enumerate(variables):
            # The path of an optimizer's variable contains a count of the optimizers in this process.
            name = variable.path if group == "model" else variable.name
            yield f"{group}/{index:04d}/{name}", variable


def value_of(variable: Any) -> np.ndarray:
    """Variable of any backend, spread over devices or not -> its value; Keras joins copies that differ."""
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable)))


def _is_finite(tensor: np.ndarray) -> bool:
    return not np.issubdtype(tensor.dtype, np.floating) or bool(np.isfinite(tensor).all())
