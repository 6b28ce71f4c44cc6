"""A subject in a process of its own: its figures are its own, and a failure says whose and why."""

import os
import time

import numpy as np
import pytest

from keras_resnet.errors import MeasurementError
from keras_resnet.measure.process import Loader, Opened, Subject, in_a_process, run_python

HELD_BYTES = 200_000_000
SLEEP_S = 0.05


def loader(fails: str = "", side: int | None = 5, device_mb: float | None = None) -> Loader:
    """A model that sleeps for each image, holds much memory while it is loaded, and sums the pixels of an image."""
    print("a framework that chatters on stdout")
    time.sleep(0.2)

    def predict(pixels: np.ndarray) -> np.ndarray:
        if fails == "later" and len(pixels) > 1:
            raise ValueError("two are too many")
        time.sleep(SLEEP_S * len(pixels))
        return pixels.sum((1, 2, 3), dtype="int64")

    def load() -> Opened:
        if fails == "at once":
            raise ValueError("no such model")
        if fails == "never":
            time.sleep(60)
        np.ones(HELD_BYTES, "uint8").sum()  # and let go again
        return Opened(predict, (side, side, 2), None if device_mb is None else lambda: device_mb)

    return load


OPENER = f"{__name__}:loader"


@pytest.fixture(autouse=True)
def _found_by_the_process(monkeypatch, request):
    monkeypatch.setenv("PYTHONPATH", str(request.path.parent))


def test_import_load_calls_and_memory_are_told_apart():
    with Subject("sleeper", OPENER, {}) as subject:
        assert subject.opening.import_ms >= 200
        assert subject.opening.load_ms >= 1e3 * SLEEP_S
        assert subject.opening.load_memory_mb == pytest.approx(HELD_BYTES / 1e6, rel=0.2)
        one, three = subject.times_ms(4), subject.times_ms(2, batch_size=3)
        assert (len(one), len(three)) == (4, 2)
        assert min(one) >= 1e3 * SLEEP_S
        assert min(three) >= 3e3 * SLEEP_S
        assert subject.peak_memory_mb() > HELD_BYTES / 1e6


def test_what_runs_on_a_device_tells_the_memory_of_that():
    with Subject("sleeper", OPENER, {"device_mb": 7.5}) as subject:
        assert subject.peak_memory_mb() == 7.5


def test_predicts_what_it_is_given():
    pixels = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 3), "uint8")
    with Subject("sleeper", OPENER, {"side": None}) as subject:
        received = subject.predict(pixels, batch_size=2)
        assert list(received) == ["probabilities"]
        np.testing.assert_array_equal(received["probabilities"], pixels.sum((1, 2, 3), dtype="int64"))


def test_failure_says_whose_and_why():
    with pytest.raises(MeasurementError, match="sleeper can't be measured: exit status 1: ValueError: no such model"):
        Subject("sleeper", OPENER, {"fails": "at once"})
    with Subject("sleeper", OPENER, {"fails": "later"}) as subject:
        assert len(subject.times_ms(1)) == 1
        with pytest.raises(MeasurementError, match=r"sleeper can't be measured: exit status 1: .*two are too many"):
            subject.times_ms(1, batch_size=2)
        with pytest.raises(MeasurementError, match="two are too many"):
            subject.times_ms(1)


def test_no_answer_in_time_ends_the_process():
    with pytest.raises(MeasurementError, match="sleeper can't be measured: no answer in 2 s"):
        Subject("sleeper", OPENER, {"fails": "never"}, timeout_s=2)


def what_is_around(first: int, fails: bool = False) -> dict:
    print("chatter on stdout")
    if fails:
        raise ValueError("no such function")
    return {"sum": first + 1, "said": os.environ["SAID"], "cores": sorted(os.sched_getaffinity(0)), "pid": os.getpid()}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_a_function_is_called_once_in_a_process_of_its_own(monkeypatch):
    """It finds the modules that this process finds, whatever PYTHONPATH says."""
    monkeypatch.delenv("PYTHONPATH")
    core = max(os.sched_getaffinity(0))
    name = f"{__name__}:what_is_around"
    answer = in_a_process(name, {"first": 2}, environment={"SAID": "so"}, cores=[core])
    assert answer.pop("pid") != os.getpid()
    assert answer == {"sum": 3, "said": "so", "cores": [core]}
    with pytest.raises(MeasurementError, match=r"exit status 1\n(.|\n)*ValueError: no such function"):
        in_a_process(name, {"first": 2, "fails": True}, environment={"SAID": ""})


def test_python_is_timed_from_its_start_to_its_end():
    finished = run_python(["-c", "import sys, time; time.sleep(0.3); print('out'); print('err', file=sys.stderr)"])
    assert finished.seconds >= 0.3
    assert (finished.stdout, finished.stderr) == ("out\n", "err\n")
    with pytest.raises(MeasurementError, match=r"did not end in 0.2 s"):
        run_python(["-c", "import time; time.sleep(9)"], timeout_s=0.2)


def test_a_process_does_not_look_for_modules_in_the_current_folder(monkeypatch, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert in_a_process("os:getcwd", {}) == str(tmp_path)
