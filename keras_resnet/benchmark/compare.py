"""Contenders -> latency, memory, load time, accuracy and size of each, measured in turn, each in its own process.

Each contender is opened once. Its process lives as long as the comparison and is idle between its turns. In each round,
each contender has one turn. The ratio of two contenders compares the medians of their turns within a round, so that a
slow phase of the machine cancels out.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.errors import MeasurementError
from keras_resnet.export.manifest import size_bytes
from keras_resnet.measure.latency import Latency
from keras_resnet.measure.process import Opening, Subject
from keras_resnet.measure.turns import ratio
from keras_resnet.predictor import Predictor

WARMUP = 2  # calls at the start of each turn that do not count
TURN_S = 1.5  # what a turn may take; slow contenders get fewer calls, but three at least
FEWEST, MOST = 3, 50  # calls of a turn


Predict = Callable[[np.ndarray], Answer]  # pixels uint8 [N, H, W, 3] -> outputs by name, [N, ...]


@dataclass(frozen=True)
class Contender:
    """What is measured: `opener` and `arguments` as `measure.process.Subject` takes them."""

    name: str
    opener: str
    arguments: Mapping[str, Any]
    setting: str  # how it runs, in words
    file: Path | None = None
    answers: Predictor | None = None  # what its answers mean; None: nothing
    ours: bool = True  # whether what runs is of this package; the runtime may be another's
    numbers: str = "float32"  # in which it computes, or in which its weights are kept


@dataclass(frozen=True)
class Ratio:
    """Ratio of a contender's latency to the first contender's latency, over the rounds."""

    median: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Timing:
    """Latency of one contender at one batch size."""

    latency: Latency  # over the calls of all rounds
    images_per_s: float
    ratio_to_first: Ratio


@dataclass
class Result:
    """Measurements of one contender."""

    setting: str
    opening: Opening
    size_mb: float | None  # size of its file; 1 MB = 10^6 bytes
    ours: bool = True
    numbers: str = "float32"
    timings: dict[int, Timing] = field(default_factory=dict)  # by batch size
    peak_memory_mb: float = (
        0.0  # resident memory of its process since the model was opened; on a GPU, memory of the GPU
    )
    figures: dict[str, float | None] = field(default_factory=dict)  # figures of its answers, by name with unit

    def as_dict(self) -> dict[str, Any]:
        """-> as a record in JSON holds it."""
        record = asdict(self)
        return {**record, **record.pop("figures")}


@dataclass
class Comparison:
    """Results of the contenders by name, and why the other contenders could not be measured."""

    results: dict[str, Result] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def compare(
    contenders: Sequence[Contender],
    *,
    batch_sizes: Sequence[int] = (1,),
    threads: int | None = None,
    rounds: int = 5,
    judge: Callable[[Contender, Predict], Mapping[str, float | None]] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Contenders, each with a name of its own -> what was measured of each; one that fails costs the others nothing.

    `judge` is given each contender whose answers mean something, and a function that asks it, an image at a time, and
    gives figures; `tell` hears what is being done.
    """
    compared = Comparison()
    turns_ms: dict[tuple[str, int], list[list[float]]] = {}
    with contextlib.ExitStack() as stack:
        subjects: dict[str, Subject] = {}
        for contender in contenders:
            with _noting(compared, contender.name):
                tell(f"opening {contender.name}")
                subject = Subject(
                    contender.name, contender.opener, contender.arguments, batch_size=batch_sizes[0], threads=threads
                )
                subjects[contender.name] = stack.enter_context(subject)
                size_mb = None if contender.file is None else size_bytes(contender.file) / 1e6
                compared.results[contender.name] = Result(
                    contender.setting, subject.opening, size_mb, contender.ours, contender.numbers
                )
        for number in range(rounds):
            for batch_size in batch_sizes:
                tell(f"round {number + 1} of {rounds}, batch {batch_size}")
                for name in list(compared.results):
                    with _noting(compared, name):
                        turns_ms.setdefault((name, batch_size), []).append(_turn(subjects[name], batch_size))
        for contender in contenders:
            if contender.name not in compared.results:
                continue
            with _noting(compared, contender.name):
                result, subject = compared.results[contender.name], subjects[contender.name]
                result.peak_memory_mb = subject.peak_memory_mb()
                if judge is not None and contender.answers is not None:
                    tell(f"accuracy of {contender.name}")
                    result.figures |= judge(contender, partial(subject.predict, batch_size=1))
    for name, result in compared.results.items():
        first = next(iter(compared.results))
        for batch_size in batch_sizes:
            result.timings[batch_size] = _timing(turns_ms[name, batch_size], turns_ms[first, batch_size], batch_size)
    return compared


@contextlib.contextmanager
def _noting(compared: Comparison, name: str) -> Iterator[None]:
    """Takes a contender that fails within it out of the results, and notes why."""
    try:
        yield
    except MeasurementError as error:
        compared.results.pop(name, None)
        compared.failures[name] = str(error)


def _turn(subject: Subject, batch_size: int) -> list[float]:
    once_ms = subject.times_ms(WARMUP, batch_size)[-1]
    return subject.times_ms(int(np.clip(1e3 * TURN_S / once_ms, FEWEST, MOST)), batch_size)


def _timing(turns_ms: list[list[float]], first: list[list[float]], batch_size: int) -> Timing:
    """Milliseconds of the calls by round, of a contender and of the first contender -> latency, rate and ratio."""
    latency = Latency.of(np.concatenate(turns_ms))
    to_first = Ratio(**ratio([float(np.median(turn)) for turn in turns_ms], [float(np.median(turn)) for turn in first]))
    return Timing(latency, 1e3 * batch_size / latency.median_ms, to_first)
