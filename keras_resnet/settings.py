"""Settings as fields of a dataclass; each field declares its help text, default, choices and bounds."""

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Rule(NamedTuple):
    """A rule for values: its text, which follows "must" in an error message, and its check."""

    text: str
    holds: Callable[[Any], bool]


AT_LEAST_ONE = Rule("be at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Rule("not be negative", lambda value: value >= 0)
SHARE = Rule("lie in 0..1", lambda value: 0 <= value <= 1)
SHARE_WITHOUT_ZERO = Rule("lie above 0 and not above 1", lambda value: 0 < value <= 1)
SHARE_WITHOUT_ONE = Rule("lie in 0..1, without 1", lambda value: 0 <= value < 1)


def one_of(choices: Iterable[str]) -> Rule:
    """Choices of a field whose type does not name them -> rule."""
    choices = tuple(choices)
    return Rule(f"be one of {', '.join(choices)}", lambda value: value in choices)


@dataclass(frozen=True)
class Setting:
    """The declaration of a field."""

    name: str
    kind: Any  # type of its values
    default: Any
    help: str
    rules: tuple[Rule, ...]
    tasks: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]

    def suits(self, task: str) -> bool:
        """Whether the task has the setting."""
        return not self.tasks or task in self.tasks

    def choices_for(self, task: str) -> tuple[str, ...]:
        """-> choices of a `Literal` that are valid for the task."""
        return self.choices.get(task, typing.get_args(self.kind))


def setting(
    default: T,
    help: str,
    *rules: Rule,
    tasks: tuple[str, ...] = (),
    choices: Mapping[str, tuple[str, ...]] | None = None,
) -> T:
    """-> a field of a dataclass.

    Args:
        help: Help text, a full phrase that starts with the thing.
        tasks: The only tasks that have the setting; recipes of other tasks leave it out.
        choices: Valid choices of a `Literal`, by task. A task that is not named has all of them.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "rules": rules, "tasks": tasks, "choices": choices or {}}
    )


def settings_of(kind: type) -> dict[str, Setting]:
    """Dataclass -> its settings by name, in their order: the fields that `setting` made."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: Setting(field.name, hints[field.name], field.default, **field.metadata)
        for field in dataclasses.fields(kind)
        if field.metadata
    }
