"""Callable -> latency in milliseconds, with its spread."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: the median (p50) over `repeats`, the deciles that enclose four fifths, the slowest."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    p99_ms: float
    repeats: int

    @classmethod
    def of(cls, times_ms: Sequence[float] | np.ndarray) -> "Latency":
        """Milliseconds of each call -> their percentiles."""
        p10, median, p90, p99 = (float(value) for value in np.percentile(times_ms, [10, 50, 90, 99]))
        return cls(median, p10, p90, p99, len(times_ms))


def measure_latency(call: Callable[[], Any], repeats: int = 50, warmup: int = 5) -> Latency:
    """Callable that returns when its work is done -> `Latency`, after `warmup` calls that do not count."""
    if repeats < 1:
        raise ValueError(f"`repeats` must be at least 1. Received: repeats={repeats}")
    for _ in range(warmup):
        call()
    return Latency.of([call_ms(call) for _ in range(repeats)])


def call_ms(call: Callable[[], Any]) -> float:
    """Callable -> milliseconds of one call."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6
