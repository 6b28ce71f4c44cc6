"""The tasks as one table: what images can show, and what a network can answer. Each is a folder here.

A task's folder holds all that is particular to it. Everything else asks the task, by `base.Task`.
"""

from collections.abc import Mapping
from typing import Any

from keras_resnet.errors import ArgumentError
from keras_resnet.facts import facts_of
from keras_resnet.tasks.base import Shape, Task
from keras_resnet.tasks.classify import Classify
from keras_resnet.tasks.segment import Segment
from keras_resnet.tasks.tag import Tag
from keras_resnet.variants import Contract

TASKS: Mapping[str, Task] = {task.name: task for task in (Classify(), Segment(), Tag())}


def task_named(name: str) -> Task:
    """Name -> task.

    Raises:
        ArgumentError: There is no such task.
    """
    if name not in TASKS:
        raise ArgumentError(f"the task must be one of {', '.join(TASKS)}. Received: {name!r}")
    return TASKS[name]


def task_of(model: Any) -> Task | None:
    """Keras model -> the task that was stated for it, or else the one whose shapes it has; None: no task's."""
    stated = facts_of(model).task
    if stated is not None:
        return task_named(stated)
    return next((task for task in TASKS.values() if task.recognises(model)), None)


def checked_task_of(model: Any) -> Task:
    """As `task_of`, of a model that has one.

    Raises:
        ArgumentError: It has none.
    """
    task = task_of(model)
    if task is None:
        raise ArgumentError(
            f"the model must have one of the tasks {', '.join(TASKS)}. Received: {getattr(model, 'name', model)!r}"
        )
    return task


def task_of_shapes(shape: Shape, answer: Shape) -> Task | None:
    """Shapes of the input and output of an artifact that says nothing about itself -> the task that has such."""
    return next((task for task in TASKS.values() if task.answers_in(shape, answer)), None)


def contract_of(model: Any) -> Contract | None:
    """Keras model -> how image files become its pixels, or None where they can't.

    A network without a task, which yields features, reads images as a classifier does.
    """
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return None
    task = task_of(model) or TASKS["classify"]
    return task.contract_of(model, facts_of(model).contract)
