"""Progress of a long command: a display on a terminal, lines elsewhere, and none of them too late."""

import io
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import in_process
from rich.console import Console

from keras_resnet.cli import progress as module
from keras_resnet.cli.images import read_batches
from keras_resnet.cli.progress import Show, count_bar, lines, progress, stage_bars, stage_of_step, status

LINE = re.compile(r"\d+:\d\d:\d\d  .*, (time left unknown|\d+:\d\d:\d\d left)")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until a test sets `now`, in seconds."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come from the beginning, and often."""
    monkeypatch.setattr(module, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.005)


def waits_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_the_time_left_follows_from_the_parts_done_since_the_count_began(clock: SimpleNamespace) -> None:
    stream = io.StringIO()
    with lines(stream, each_step=True) as show:
        for now, *standing in (
            (2.0, "start", 0, 0),
            (10.0, "train epoch 3", 100, 400),  # a resumed run: the first 100 parts took none of this time
            (40.4, "train epoch 4", 160, 400),
            (3700.0, "train epoch 5", 390, 400),
            (3701.0, "measure a", 0, 5),  # another count
            (3711.0, "measure b", 2, 5),
        ):
            clock.now = now
            show(*standing)
    assert stream.getvalue().splitlines() == [
        "0:00:02  start, time left unknown",
        "0:00:10  train epoch 3 (100 of 400), time left unknown",
        "0:00:40  train epoch 4 (160 of 400), 0:02:02 left",
        "1:01:40  train epoch 5 (390 of 400), 0:02:07 left",
        "1:01:41  measure a (0 of 5), time left unknown",
        "1:01:51  measure b (2 of 5), 0:00:15 left",
    ]


def test_a_slow_step_is_a_line_again_and_again_until_the_end(impatient: None) -> None:
    stream = io.StringIO()
    with lines(stream) as show:
        show("write onnx", 5, 21)
        waits_for(lambda: stream.getvalue().count("\n") >= 3)
    told = stream.getvalue()
    assert {re.sub(r"^0:00:0\d  ", "", line) for line in told.splitlines()} == {
        "write onnx (5 of 21), time left unknown"
    }
    time.sleep(0.2)
    assert stream.getvalue() == told  # nobody writes when the command has ended


def test_lines_come_at_least_every_30_seconds_and_short_work_prints_none() -> None:
    assert module.LINE_EVERY_S < module.FIRST_LINE_S == 30
    stream = io.StringIO()
    with lines(stream) as show:
        for done in range(5):
            show("images", done, 4)
    assert stream.getvalue() == ""


def test_a_log_that_can_not_be_written_does_not_end_the_work() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with lines(Full(), each_step=True) as show:
        show("images", 1, 4)


def test_without_a_terminal_lines_are_printed_and_on_a_terminal_the_display_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def display(console: Console) -> Iterator[Show]:
        yield lambda step, done, total: console.print(f"drawn {step}")

    monkeypatch.setenv("TERM", "xterm")
    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(module, "terminal_stderr", lambda stream=stream: stream)
        with progress(display, each_step=True) as show:
            show("step", 1, 4)
        assert stream.getvalue() == ("drawn step\n" if drawn else "0:00:00  step (1 of 4), time left unknown\n")
    monkeypatch.setenv("TERM", "dumb")
    assert not module.is_drawable(Terminal())


def test_images_of_a_command_that_take_long_are_lines(impatient: None, capfd: pytest.CaptureFixture[str]) -> None:
    told = ""
    for _ in read_batches([*range(6)], lambda path: path, 3, []):  # type: ignore[arg-type]
        deadline = time.monotonic() + 10
        part = ""
        while part.count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
            part += capfd.readouterr().err
        told += part
    shown = [re.sub(r"^\d:\d\d:\d\d  |, [^,]* left.*", "", line) for line in told.splitlines()]
    assert list(dict.fromkeys(shown)) == ["images (0 of 6)", "images (3 of 6)"]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("predict {images} --model {model}", "images"),
        ("evaluate {model} {images} --split all", "images"),
        ("data check {images}", "images"),
        ("data pack {images} {out}", "shards"),
        ("export --model {model} --formats saved_model --out {out}", "prepare"),
    ],
)
def test_each_long_command_prints_lines_where_there_is_no_terminal(
    command: str,
    told: str,
    model_file: Path,
    image_folder: Path,
    tmp_path: Path,
    impatient: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for index, path in enumerate(sorted(image_folder.glob("*.png"))):  # 10 classes, as the model has
        folder = tmp_path / "images" / f"class {index % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    places = {"images": tmp_path / "images", "model": model_file, "out": tmp_path / "out"}
    status, _, errors = in_process(*(word.format(**places) for word in command.split()))
    assert status == 0, errors
    lines = [line for line in capfd.readouterr().err.splitlines() if LINE.fullmatch(line)]
    assert any(line.partition("  ")[2].startswith(told) for line in lines)


def test_a_terminal_gets_a_bar_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with stage_bars(Console(file=stream)) as show:
        for done in range(3):
            show("train", done, 2)
        show("export: tflite", 1, 2)
        show("export: onnx", 2, 2)
    first, last, _ = stream.getvalue().splitlines()[-3:]  # the end shows the cursor again
    assert "train" in first
    assert "export: onnx" in last
    assert "━" in last
    assert "export: tflite" not in last


def test_a_terminal_gets_a_bar_of_counts_and_a_line_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for display, shown in ((count_bar, "640/2000"), (status, "images (640 of 2000)")):
        stream = Terminal()
        with display(Console(file=stream, width=80)) as show:
            show("images", 640, 2000)
        assert shown in stream.getvalue()


def test_the_stage_of_a_step() -> None:
    steps = ("export: verify tflite", "measure onnx", "train")
    assert [stage_of_step(step) for step in steps] == ["export", "measure", "train"]
