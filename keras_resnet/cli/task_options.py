"""Options that a command has only for some tasks. Each task's folder declares its options."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from keras_resnet.errors import ArgumentError
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.base import Task


def with_task_options(command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Name of a command -> decorator that replaces the function's `**options` by the options of all tasks."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        options = {name: kind for task in TASKS.values() for name, kind in task.options(command).items()}
        own = [
            p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in options.items()
        ]
        function.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
        return function

    return decorate


def options_of(task: Task, command: str, given: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Task of a model, name of a command, values of all tasks' options -> values of this task's options.

    Raises:
        ArgumentError: The user gave an option of another task.
    """
    own = task.options(command)
    wrong = [name for name, value in given.items() if value is not None and name not in own]
    if wrong:
        others = [other.title for other in TASKS.values() if {*wrong} <= {*other.options(command)}]
        names = ", ".join(_flag(command, name) for name in wrong)
        raise ArgumentError(f"{names}: only for {' or '.join(others) or 'other tasks'}. {model} is for {task.title}")
    return {name: given[name] for name in own}


def _flag(command: str, name: str) -> str:
    """Name of an option's parameter -> the option as users type it."""
    for task in TASKS.values():
        if name in task.options(command):
            [declared] = task.options(command)[name].__metadata__
            names = [declared.default, *(declared.param_decls or ())]  # within Annotated, the first is a name
            return next(name for name in (*names, f"--{name.replace('_', '-')}") if str(name).startswith("--"))
    return f"--{name.replace('_', '-')}"
