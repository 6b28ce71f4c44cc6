"""The table of tasks: what images can show, and what a network can answer. Each task is a folder here.

A task's folder holds all code that is particular to the task. Other modules use the task through `base.Task`.
"""

from collections.abc import Mapping
from typing import Any

from keras_resnet.errors import ArgumentError
from keras_resnet.facts import facts_of
from keras_resnet.tasks.base import Shape, Task
from keras_resnet.tasks.classify import Classify
from keras_resnet.tasks.detect import Detect
from keras_resnet.tasks.embed import Embed
from keras_resnet.tasks.regress import Regress
from keras_resnet.tasks.segment import Segment
from keras_resnet.tasks.tag import Tag
from keras_resnet.variants import Contract

TASKS: Mapping[str, Task] = {task.name: task for task in (Classify(), Segment(), Tag(), Regress(), Embed(), Detect())}
LEARNED = {name: task for name, task in TASKS.items() if task.losses}  # tasks for which this package trains networks


def task_named(name: str) -> Task:
    """Name -> task.

    Raises:
        ArgumentError: There is no such task.
    """
    if name not in TASKS:
        raise ArgumentError(f"the task must be one of {', '.join(TASKS)}. Received: {name!r}")
    return TASKS[name]


def task_of(model: Any) -> Task | None:
    """Keras model -> the task that was stated for it, or that its last layers and its loss show; None: none of them."""
    try:
        return checked_task_of(model)
    except ArgumentError:
        return None


def checked_task_of(model: Any) -> Task:
    """Keras model with a task -> its task; see `task_of`.

    Raises:
        ArgumentError: The model has no task, or can be read in several ways.
    """
    stated = facts_of(model).task
    if stated is not None:
        return task_named(stated)
    from keras_resnet.graph import flatten
    from keras_resnet.tasks.interpret import check_functional, read

    check_functional(model, "`model`")
    name = f"`model` {model.name!r}"
    return task_named(read(model, flatten(model), None, None, name).task)


def task_of_shapes(shape: Shape, answer: Shape) -> Task | None:
    """Shapes of the input and output of an artifact without a description -> task with such shapes.

    The files of networks that only this package builds always have a description.
    """
    tasks = (task for task in TASKS.values() if not task.built_here_alone)
    return next((task for task in tasks if task.answers_in(shape, answer)), None)


def contract_of(model: Any) -> Contract | None:
    """Keras model -> contract by which image files become its pixels; None if they can't.

    A network without a task, which yields features, reads images as a classifier does.
    """
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return None
    task = task_of(model) or TASKS["classify"]
    return task.contract_of(model, facts_of(model).contract)
