"""Ctrl-C and SIGTERM: a command ends with one line that states what is kept and how to continue."""

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TITLES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Interrupted(BaseException):
    """A signal asked the command to end. It is no `KeyboardInterrupt`, because Typer ends silently after that one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)

    @property
    def status(self) -> int:
        """Exit status, by the convention of shells."""
        return 128 + self.number

    def __str__(self) -> str:
        notes = getattr(self, "__notes__", []) or [f"Nothing half-written is kept. To start over: {this_command()}"]
        return f"{TITLES[self.number]}. {' '.join(notes)}"


def this_command() -> str:
    """-> the command that runs, as a shell takes it."""
    return shlex.join(["keras-resnet", *sys.argv[1:]])


@contextmanager
def interruptible() -> Iterator[None]:
    """`with interruptible():` the first signal raises `Interrupted` in the block; the second ends the process at once.

    A signal that the process was started to ignore, as by `nohup` or in a shell's background, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows signal handlers only there
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in former:
            signal.signal(other, signal.SIG_DFL)
        sys.unraisablehook = lambda unraisable: None  # objects that the signal leaves half made complain at their end
        raise Interrupted(number)

    former = {number: signal.getsignal(number) for number in SIGNALS}
    former = {number: handler for number, handler in former.items() if handler is not signal.SIG_IGN}
    for number in former:
        signal.signal(number, interrupt)
    try:
        yield
    except Exception as error:
        if (interruption := _interruption_behind(error)) is None:
            raise
        raise interruption from error
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _interruption_behind(error: BaseException) -> Interrupted | None:
    """Error -> the signal that led to it: `zipfile`, for one, raises its own error when a signal ends its writing."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, Interrupted):
        behind = behind.__context__
    return behind


@contextmanager
def on_interrupt(note: Callable[[], str]) -> Iterator[None]:
    """`with on_interrupt(note):` if a signal ends the block, the line on it has this sentence."""
    try:
        yield
    except BaseException as error:
        if (interruption := _interruption_behind(error)) is not None:
            with suppress(OSError):
                interruption.add_note(note())
        raise
