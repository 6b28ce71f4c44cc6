"""Progress of a long command: a display on a terminal, and elsewhere a line at least every 30 seconds.

rich, which draws the displays, prints nothing without a terminal before the work has ended. tqdm would, but only when a
step ends, and a step can take minutes.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import IO, TYPE_CHECKING

from keras_resnet.printable import printable
from keras_resnet.quiet import terminal_stderr

if TYPE_CHECKING:
    from rich.console import Console

FIRST_LINE_S = 30.0  # seconds before the first line, so that shorter work prints none
# Seconds between lines, also within a step. Not 30, because a line waits while TensorFlow's converter to TFLite holds
# Python's lock: for up to 4 s with ResNet-18, and 19 s with ResNet-152, on two cores.
LINE_EVERY_S = 20.0

Show = Callable[[str, int, int], None]  # name of the step, number of finished parts, number of all parts (0: unknown)
Display = Callable[["Console"], AbstractContextManager[Show]]


@contextlib.contextmanager
def progress(display: Display, each_step: bool = False) -> Iterator[Show]:
    """Display for a terminal -> `show(step, done, total)`, to be called when something is done.

    Where stderr is not a terminal, lines are printed there instead; with `each_step`, also a line as each step begins.
    """
    stream = terminal_stderr()
    if is_drawable(stream):
        from rich.console import Console

        shown = display(Console(file=stream))
    else:
        shown = lines(stream, each_step)
    with shown as show:
        yield lambda step, done, total: show(printable(step), done, total)


def is_drawable(stream: IO[str]) -> bool:
    """Stream -> whether it is a terminal on which a display can be drawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def lines(stream: IO[str], each_step: bool = False) -> Iterator[Show]:
    """Stream -> `show(step, done, total)`, whose newest arguments are printed as a line every `LINE_EVERY_S`.

    A line states the time since the start, the step, its parts, and an estimate of the time left:
    `0:01:30  images (640 of 2000), 0:03:11 left`.
    """
    start, ended, lock = time.monotonic(), threading.Event(), threading.Lock()
    now, begun = ("", 0, 0), (start, 0, 0)  # begun: time, finished parts and all parts when this count began

    def line() -> None:
        step, done, total = now
        parts = f" ({done} of {total})" if total else ""
        text = f"{_whole_seconds(time.monotonic() - start)}  {step}{parts}, {left()}\n"
        with contextlib.suppress(OSError):  # a full disk under the log does not end the work
            stream.write(text)  # at once, so that no other line comes between
            stream.flush()

    def left() -> str:
        (_, done, total), (since, first, _) = now, begun
        if not total or done <= first:
            return "time left unknown"
        return f"{_whole_seconds((time.monotonic() - since) * (total - done) / (done - first))} left"

    def show(step: str, done: int, total: int) -> None:
        nonlocal now, begun
        with lock:
            begins = step != now[0]
            if total != begun[2] or done < begun[1]:
                begun = (time.monotonic(), done, total)
            now = (step, done, total)
            if each_step and begins:
                line()

    def repeat() -> None:
        due = start + FIRST_LINE_S
        while not ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + LINE_EVERY_S, time.monotonic())  # no line is made up for after a suspension
            with lock:
                if now[0]:
                    line()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield show
    finally:
        ended.set()
        thread.join()


def _whole_seconds(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))


@contextlib.contextmanager
def count_bar(console: "Console") -> Iterator[Show]:
    """Console of a terminal -> `show`, as a bar that disappears at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, redirect_stdout=False, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total or None)


@contextlib.contextmanager
def no_display(console: "Console") -> Iterator[Show]:
    """Console of a terminal -> `show` that shows nothing, where the terminal shows the progress already."""
    yield lambda step, done, total: None


@contextlib.contextmanager
def status(console: "Console") -> Iterator[Show]:
    """Console of a terminal -> `show`, as a line with a spinner. What is printed meanwhile appears above it."""
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(style="status.spinner"), TextColumn("{task.description}", markup=False))
    # What is printed to a redirected stdout would appear on stderr.
    redirected = sys.stdout.isatty()
    with Progress(*columns, console=console, redirect_stdout=redirected, transient=True) as bar:
        task = bar.add_task("start", total=None)

        def show(step: str, done: int, total: int) -> None:
            bar.update(task, description=f"{step} ({done} of {total})" if total else step)

        yield show


@contextlib.contextmanager
def stage_bars(console: "Console") -> Iterator[Show]:
    """Console of a terminal -> `show`, as a bar for each stage. The first word of a step names its stage."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description:<28}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            stage = stage_of_step(step)
            if stage not in tasks:
                tasks[stage] = bar.add_task(step, total=total)
            bar.update(tasks[stage], description=step, completed=done, total=total)

        yield show


def stage_of_step(step: str) -> str:
    """Step, such as "export: write tflite" or "measure onnx" -> its stage, "export" or "measure"."""
    return step.partition(":")[0].partition(" ")[0]
