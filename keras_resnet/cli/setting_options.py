"""Settings of a dataclass as options of a command."""

import inspect
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer

from keras_resnet.data.reading import READING, Reading
from keras_resnet.errors import ArgumentError
from keras_resnet.settings import Setting

NONE: Mapping[str, str] = MappingProxyType({})
FORMER_FLAGS = {"void_labels": "--void-label"}  # names of earlier versions, where the option was given for each value


def flag_of(name: str) -> str:
    """Name of a setting -> the option as users type it."""
    return f"--{name.replace('_', '-')}"


def parameters_of(settings: Mapping[str, Setting], former: Mapping[str, str] = NONE) -> list[inspect.Parameter]:
    """Settings by name, further flags that some have -> parameters of a command; each is None unless it is given."""
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name, declared, former)
        )
        for name, declared in settings.items()
    ]


def _annotation(name: str, declared: Setting, former: Mapping[str, str]) -> Any:
    kind, shown, flag = declared.kind, declared.default, flag_of(name)
    if kind is bool:
        option = typer.Option(f"{flag}/--no-{flag[2:]}", help=declared.help, show_default=str(shown).lower())
    elif typing.get_origin(kind) is tuple:
        more = [former[name]] if name in former else []
        option = typer.Option(
            flag, *more, help=f"{declared.help} Comma-separated.", show_default=",".join(map(str, shown)) or "none"
        )
        kind = list[str]
    else:
        kind = str if typing.get_origin(kind) is typing.Literal else kind
        option = typer.Option(flag, help=declared.help, show_default=str(shown) if shown != "" else False)
    return Annotated[kind | None, option]


def values_of(settings: Mapping[str, Setting], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, what the command was given -> the values that were given; lists of numbers as numbers.

    Raises:
        ArgumentError: A list holds something else than whole numbers.
    """
    values = {}
    for name, value in given.items():
        if value is None or value == []:  # typer gives an empty list where a list is not given
            continue
        declared = settings[name]
        if typing.get_origin(declared.kind) is tuple:
            value = _numbers(name, value)
        values[name] = value
    return values


def _numbers(name: str, texts: list[str]) -> tuple[int, ...]:
    """Name of a setting, ["128,160"] -> the two numbers."""
    numbers = [number.strip() for text in texts for number in text.split(",") if number.strip()]
    if not all(number.isdecimal() for number in numbers):
        raise ArgumentError(f"{flag_of(name)} takes whole numbers, for example 128,160. Received: {','.join(texts)}")
    return tuple(map(int, numbers))


def reading_of(given: Mapping[str, Any]) -> Reading:
    """What a command was given for each field of `Reading`, None where nothing -> the choices.

    Raises:
        ArgumentError: A value breaks the rule of its field.
    """
    values = values_of(READING, given)
    for name, value in values.items():
        declared = READING[name]
        choices = typing.get_args(declared.kind) if typing.get_origin(declared.kind) is typing.Literal else ()
        broken = [rule.text for rule in declared.rules if not rule.holds(value)]
        if broken or (choices and value not in choices):
            rule = broken[0] if broken else f"be one of {', '.join(choices)}"
            raise ArgumentError(f"{flag_of(name)} must {rule}. Received: {value}")
    return Reading(**values)


def arguments_of(reading: Reading) -> list[str]:
    """Choices about data -> the arguments that make them."""
    values = {name: getattr(reading, name) for name in READING}
    return arguments_for({name: value for name, value in values.items() if value != READING[name].default})


def arguments_for(values: Mapping[str, Any]) -> list[str]:
    """Values by name of their setting -> the arguments of a command that give them."""
    arguments = []
    for name, value in values.items():
        flag = flag_of(name)
        if isinstance(value, bool):
            arguments.append(flag if value else f"--no-{flag[2:]}")
        else:
            arguments += [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return arguments


def with_data_options(function: Callable[..., None]) -> Callable[..., None]:
    """Command with a parameter `reading` -> the command with an option for each field of `Reading` in its place."""

    def command(**given: Any) -> None:
        reading = reading_of({name: given.pop(name) for name in READING})
        function(**given, reading=reading)

    own = [p for p in inspect.signature(function).parameters.values() if p.name != "reading"]
    options = parameters_of(READING, FORMER_FLAGS)
    command.__doc__, command.__name__ = function.__doc__, function.__name__
    command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
    return command
