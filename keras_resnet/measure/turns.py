"""Subjects by turns -> what each gave, round by round; what two series of rounds say of each other."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from keras_resnet.printable import printable

Given = TypeVar("Given")


def by_turns(
    subjects: Mapping[str, Callable[[], Given]],
    rounds: int,
    tell: Callable[[str], None] = lambda line: print(printable(line), flush=True),
) -> dict[str, list[Given]]:
    """Subjects by name, each a turn of its own -> what each gave in each round; `tell` hears it at once.

    In each round each of them has one turn, so that what slows the whole machine for a while slows all of them.
    """
    given: dict[str, list[Given]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name, turn in subjects.items():
            given[name].append(turn())
            tell(f"round {number + 1} of {rounds}, {name}: {given[name][-1]}")
    return given


def spread(values: Sequence[float]) -> dict[str, float]:
    """-> their median and extremes."""
    return {"median": statistics.median(values), "minimum": min(values), "maximum": max(values)}


def ratio(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Two series by round -> median and extremes of the first to the second, round by round."""
    return spread([one / other for one, other in zip(values, others, strict=True)])
