"""Latency and records: the numbers are those of the calls, and a record tells where it was made."""

import json
import os

import numpy as np
import pytest

from keras_resnet.measure import latency, record


def test_latency_is_the_median_of_the_counted_calls(monkeypatch):
    """A clock that says 3, 1, 2, 50 and 4 ms for the counted calls; the two calls before do not ask it."""
    durations_ms = [3, 1, 2, 50, 4]
    ticks = iter(np.cumsum([step for ms in durations_ms for step in (7e6, ms * 1e6)]).astype(int).tolist())
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: next(ticks))
    calls = []
    measured = latency.measure_latency(lambda: calls.append(1), repeats=5, warmup=2)
    assert len(calls) == 7
    assert (measured.median_ms, measured.repeats) == (3.0, 5)
    assert measured.p10_ms == pytest.approx(np.percentile(durations_ms, 10))
    assert measured.p90_ms == pytest.approx(np.percentile(durations_ms, 90))


def test_latency_refuses_no_repeats():
    with pytest.raises(ValueError, match=r"`repeats` must be at least 1. Received: repeats=0"):
        latency.measure_latency(lambda: None, repeats=0)


def test_record_holds_results_settings_and_environment(tmp_path):
    path = tmp_path / "results" / "record.json"
    record.write_record(path, "name", {"batch_size": 2}, {"latency_ms": 1.5})
    written = json.loads(path.read_text())
    assert (written["name"], written["settings"], written["results"]) == (
        "name",
        {"batch_size": 2},
        {"latency_ms": 1.5},
    )
    assert written["environment"]["cpu_count"] >= 1
    assert written["environment"]["threads"] == os.cpu_count()
    assert written["environment"]["versions"]["keras"].startswith("3.")
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]
