"""Progress of a long command: bars on a terminal, lines elsewhere, and none of them too late."""

import io
import re
import time

import pytest

from keras_resnet.cli import stages as module
from keras_resnet.cli.stages import stage_of_step, stages


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_each_step_is_a_line_and_a_long_one_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.05)
    stream = io.StringIO()
    with stages(stream) as show:
        show("train", 0, 40)
        show("train", 7, 40)
        deadline = time.monotonic() + 10
        while stream.getvalue().count("train (7 of 40)") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        show("export: tflite", 0, 2)
    lines = stream.getvalue().splitlines()
    assert all(re.fullmatch(r" +\d+ s  (train|export: tflite) \(\d+ of \d+\)", line) for line in lines)
    told = [line.partition(" s  ")[2] for line in lines]
    assert told[0] == "train (0 of 40)"
    assert told[1] == told[2] == "train (7 of 40)"
    assert told[-1] == "export: tflite (0 of 2)"
    before = stream.getvalue()
    time.sleep(0.2)
    assert stream.getvalue() == before  # nobody writes when the command has ended


def test_a_terminal_gets_a_bar_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with stages(stream) as show:
        for done in range(3):
            show("train", done, 2)
        show("export: tflite", 1, 2)
        show("export: onnx", 2, 2)
    first, last, _ = stream.getvalue().splitlines()[-3:]  # the end shows the cursor again
    assert "train" in first
    assert "export: onnx" in last
    assert "━" in last
    assert "export: tflite" not in last


def test_the_stage_of_a_step() -> None:
    steps = ("export: verify tflite", "measure onnx", "train")
    assert [stage_of_step(step) for step in steps] == ["export", "measure", "train"]
