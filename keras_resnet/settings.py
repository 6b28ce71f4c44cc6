"""Settings as fields of a dataclass; each declares what it is, its default and what it may be, in one place."""

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Rule(NamedTuple):
    """What a value must do, in the words of an error, and whether a value does it."""

    text: str
    holds: Callable[[Any], bool]


AT_LEAST_ONE = Rule("be at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Rule("not be negative", lambda value: value >= 0)
SHARE = Rule("lie in 0..1", lambda value: 0 <= value <= 1)
SHARE_WITHOUT_ZERO = Rule("lie above 0 and not above 1", lambda value: 0 < value <= 1)
SHARE_WITHOUT_ONE = Rule("lie in 0..1, without 1", lambda value: 0 <= value < 1)


def one_of(choices: Iterable[str]) -> Rule:
    """Choices that are named in another place than the field's type -> the rule."""
    choices = tuple(choices)
    return Rule(f"be one of {', '.join(choices)}", lambda value: value in choices)


@dataclass(frozen=True)
class Setting:
    """A field as it was declared."""

    name: str
    kind: Any  # its type
    default: Any
    help: str
    rules: tuple[Rule, ...]
    task: str | None
    choices: Mapping[str, tuple[str, ...]]

    def suits(self, task: str) -> bool:
        """Whether the task has the setting at all."""
        return self.task in (None, task)

    def choices_for(self, task: str) -> tuple[str, ...]:
        """-> those of the choices of a `Literal` that the task has."""
        return self.choices.get(task, typing.get_args(self.kind))


def setting(
    default: T,
    help: str,
    *rules: Rule,
    task: str | None = None,
    choices: Mapping[str, tuple[str, ...]] | None = None,
) -> T:
    """-> a field of a dataclass.

    Args:
        help: A sentence that stands alone.
        task: The only task that has the setting; the recipes of others leave it out.
        choices: By task, those of the choices of a `Literal` that the task has. Tasks that are not named have all.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "rules": rules, "task": task, "choices": choices or {}}
    )


def settings_of(kind: type) -> dict[str, Setting]:
    """Dataclass, all fields of which were made by `setting` -> these by name, in their order."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: Setting(field.name, hints[field.name], field.default, **field.metadata)
        for field in dataclasses.fields(kind)
    }
