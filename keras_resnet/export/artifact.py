"""Path of an artifact -> opened artifact that runs on image files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.answers import IMAGE
from keras_resnet.errors import ExportError, reason
from keras_resnet.export.formats import Format
from keras_resnet.export.running import AS_WRITTEN, Running
from keras_resnet.export.runtimes import Runtime, format_and_description, image_shape, open_runtime, predict
from keras_resnet.labels import imagenet_labels
from keras_resnet.predictor import BATCH_SIZE, Predictor
from keras_resnet.tasks import task_named, task_of_shapes
from keras_resnet.tasks.base import Task
from keras_resnet.variants import LARGEST_SIDE, Contract


@dataclass(frozen=True)
class Artifact:
    """An opened artifact with its description."""

    path: Path
    format: Format
    description: dict[str, Any] | None
    task: Task
    contract: Contract  # way from image files to its pixels
    class_names: list[str] | None
    runtime: Runtime
    task_facts: Mapping[str, Any]  # facts that only its task knows

    @property
    def predictor(self) -> Predictor:
        """The artifact as a predictor."""
        return Predictor(
            str(self.path),
            self.task,
            self.class_names,
            self.contract,
            self.classes,
            self.predict,
            self.task_facts,
        )

    @property
    def classes(self) -> int:
        if self.description is not None:
            return int(self.description["output"]["classes"])
        return int(self.task.classes_in(next(iter(self.runtime.outputs.values())).shape) or 0)

    def predict(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Pixels uint8 `[N, H, W, 3]` -> outputs by name: a classifier's `probabilities` `[N, classes]`.

        Raises:
            ExportError: The runtime fails on the pixels.
        """
        try:
            return predict(self.runtime, pixels, BATCH_SIZE if self.format.any_batch else 1)
        except Exception as error:  # each runtime has its own exceptions, some derived directly from Exception
            raise ExportError(f"{self.path}: {self.format.runtime} can't run it: {reason(error)}") from error


def open_artifact(
    path: str | os.PathLike[str],
    threads: int | None = None,
    trust: bool = False,
    running: Running = AS_WRITTEN,
    shared: bool = False,
) -> Artifact:
    """SavedModel, OpenVINO or web folder, .tflite or .onnx file -> opened artifact.

    A file without a description gets a centre crop of its input size, and ImageNet's names for 1000 classes. `trust`
    and `shared` are explained at `open_runtime`.

    Raises:
        ExportError: The path is no artifact, can't be opened, or does not take RGB images.
    """
    path = Path(path)
    row, description = format_and_description(path, trust)
    row = running.of(row)
    runtime = open_runtime(path, row, threads, trust, shared)
    names = [output.name for output in row.outputs]
    if list(runtime.inputs) != [IMAGE] or set(runtime.outputs) != set(names):
        raise ExportError(
            f"{path}: must take {IMAGE!r} and give {', '.join(map(repr, names))}. It takes "
            f"{', '.join(runtime.inputs)} and gives {', '.join(runtime.outputs)}"
        )
    shape, answer = runtime.inputs[IMAGE].shape, runtime.outputs[row.output.name].shape
    if row.output.decides:  # the output holds classes instead of scores
        answer = (*answer, None)
    task = task_named(description["task"]) if description else task_of_shapes(shape, answer)
    if task is None or len(shape) != 4 or not task.answers_in(shape, answer):
        raise ExportError(
            f"{path}: must take images [N, H, W, 3] and give [N, classes], [N, H, W, classes] or boxes [N, D, 4]. "
            f"It takes {shape} and gives {answer}"
        )
    if description and task.classes_in(answer) not in (None, description["output"]["classes"]):
        raise ExportError(
            f"{path}: its description states {description['output']['classes']} classes, but it gives {answer}. Export "
            "it again"
        )
    height, width, channels = image_shape(shape)
    if description and any(
        side != stated for side, stated in zip((height, width), description["input"]["size"], strict=False)
    ):
        raise ExportError(
            f"{path}: its description states an input of {description['input']['size']}, but it takes {shape}. Export "
            "it again"
        )
    given = description["input"] if description else {}
    contract = task.contract_of_artifact((height, width), given)
    if channels != 3 or contract is None or max(height or 0, width or 0) > LARGEST_SIDE:
        raise ExportError(f"{path}: must take {task.takes} of up to {LARGEST_SIDE} pixels a side. Its input is {shape}")
    class_names = description["labels"] if description else None
    if description is None and answer[1:] == (1000,):
        class_names = [name for _, name in imagenet_labels()]
    facts = task.checked_facts(description.get("task_facts", {}) if description else {})
    return Artifact(path, row, description, task, contract, class_names, runtime, facts)
