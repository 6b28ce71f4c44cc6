"""Latency and records: the numbers are those of the calls, and a record tells where it was made."""

import json
import os
import subprocess

import numpy as np
import pytest

from keras_resnet.benchmark import latency, record


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


@pytest.mark.parametrize("folder", [".", ".venv/lib/python3/site-packages"])
def test_the_code_revision_is_that_of_this_project_only(monkeypatch, tmp_path, folder):
    """An environment inside another project's checkout: that project's revision is not the code's."""
    module = tmp_path / folder / "keras_resnet" / "benchmark" / "record.py"
    module.parent.mkdir(parents=True)
    module.write_text("before")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    for command in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "--message", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    monkeypatch.setattr(record, "__file__", str(module))
    revision, modified = (record.environment()[key] for key in ("code_revision", "code_modified"))
    if folder != ".":
        assert (revision, modified) == (None, None)
        return
    assert head.stdout.startswith(revision)
    assert modified is False
    module.write_text("after")
    assert record.environment()["code_modified"] is True


def test_without_git_a_record_names_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert record.environment()["code_revision"] is None
