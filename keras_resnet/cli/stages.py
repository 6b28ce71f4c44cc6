"""Stages of a long command: a bar for each on a terminal, lines of text elsewhere."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

LINE_EVERY_S = 15.0  # seconds between lines where there is no terminal, also within a stage

Show = Callable[[str, int, int], None]  # name of the step, number of finished parts, number of all parts


@contextlib.contextmanager
def stages(stream: TextIO) -> Iterator[Show]:
    """Stream -> `show(step, done, total)`, to be called at every step. The first word of a step names its stage."""
    from rich.console import Console

    console = Console(file=stream)
    with _bars(console) if console.is_interactive else _lines(stream) as show:
        yield show


def stage_of_step(step: str) -> str:
    """Step, such as "export: write tflite" or "measure onnx" -> its stage, "export" or "measure"."""
    return step.partition(":")[0].partition(" ")[0]


@contextlib.contextmanager
def _bars(console: object) -> Iterator[Show]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:  # type: ignore[arg-type]
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int) -> None:
            stage = stage_of_step(step)
            if stage not in tasks:
                tasks[stage] = bar.add_task(step, total=total)
            bar.update(tasks[stage], description=step, completed=done, total=total)

        yield show


@contextlib.contextmanager
def _lines(stream: TextIO) -> Iterator[Show]:
    start, ended, lock = time.monotonic(), threading.Event(), threading.Lock()
    now, printed = ("", 0, 0), ""

    def line() -> None:
        step, done, total = now
        print(f"{time.monotonic() - start:5.0f} s  {step} ({done} of {total})", file=stream, flush=True)

    def show(step: str, done: int, total: int) -> None:
        nonlocal now, printed
        with lock:
            now = (step, done, total)
            if step != printed:
                line()
                printed = step

    def repeat() -> None:
        while not ended.wait(LINE_EVERY_S):
            with lock:
                if printed:
                    line()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield show
    finally:
        ended.set()
        thread.join()
