"""Work between two steps of training: checkpoints, and reasons to stop."""

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from types import FrameType
from typing import Any

import keras

from keras_resnet.data.problems import Problems
from keras_resnet.errors import TrainingError
from keras_resnet.training.checkpoint import TrainingProgress, load_checkpoint, save_checkpoint
from keras_resnet.training.recipe import Recipe


class Watch(keras.callbacks.Callback):
    """Counts the steps of `fit`, writes checkpoints, and stops the run if it must not continue.

    Raises, from within `fit`:
        TrainingError: The loss is not finite, too many files can't be read, or the disk is full.
    """

    def __init__(
        self,
        folder: Path | None,
        progress: TrainingProgress,
        steps_per_epoch: int,
        recipe: Recipe,
        problems: Problems,
        show: Callable[[dict[str, float]], None],
    ) -> None:
        """`folder` of the checkpoints is None in all processes but the first."""
        super().__init__()
        self.folder, self.progress, self.steps_per_epoch, self.recipe = folder, progress, steps_per_epoch, recipe
        self.problems, self.show = problems, show
        self.terminated = False
        self.restore_from: Path | None = None

    def save(self) -> None:
        self.progress.problems = [astuple(problem) for problem in self.problems.found]
        if self.folder is not None:
            save_checkpoint(self.folder, self.model, self.progress, self.recipe.checkpoints_kept)

    def restore(self) -> None:
        """Restores the state of the interrupted run at its first call."""
        if self.restore_from is not None:
            load_checkpoint(self.restore_from, self.model, self.progress)
            self.restore_from = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.restore()  # all variables exist now, and `fit` has reset the metrics

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        progress = self.progress
        progress.step += 1
        progress.batch += 1
        figures = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(figures.get("loss", 0.0)):
            raise TrainingError(
                f"step {progress.step} (epoch {progress.epoch + 1}): the loss is {figures['loss']}. The last "
                "checkpoint is from an earlier step. A lower learning rate, a longer warm-up or clip_norm may help"
            )
        check_problems(self.problems)
        self.show(figures)
        ends_epoch = progress.batch == self.steps_per_epoch  # its checkpoint follows the validation
        if not ends_epoch and (self.terminated or progress.step % self.recipe.checkpoint_steps == 0):
            self.save()
        if self.terminated:
            self.model.stop_training = True


def check_problems(problems: Problems) -> None:
    """Raises `TrainingError` if more files can't be read than the recipe allows."""
    if problems.exceeded:
        first = next(problem for problem in problems.found if not problem.used)
        raise TrainingError(
            f"{problems.unusable} files can't be read, more than problem_limit = {problems.limit} allows; first "
            f"{first.name}: {first.reason}. problem_images.csv in the run directory lists them"
        )


class StopOnSignal:
    """`with StopOnSignal(watch, tell):` after SIGTERM or Ctrl-C, `fit` ends after the step and a checkpoint.

    After SIGTERM, the run returns an incomplete result. After Ctrl-C, the block ends with the exception that Ctrl-C
    raises outside of it. A second signal of either kind acts at once.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, watch: Watch, tell: Callable[[str], None]) -> None:
        self.watch, self.tell = watch, tell
        self.former: dict[int, Any] = {}
        self.interrupted = False

    def __enter__(self) -> "StopOnSignal":
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers only there
            for number in self.SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self.former[number] = signal.signal(number, self.handle)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._leave()
        if self.interrupted and error is None:
            signal.raise_signal(signal.SIGINT)

    def _leave(self) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        self._leave()
        self.watch.terminated = True
        self.interrupted = number == signal.SIGINT
        with suppress(RuntimeError):  # the signal came while something was printed
            self.tell("stopping after this step and its checkpoint; a second signal stops at once")


class Rate:
    """Measures images per second since it was created."""

    def __init__(self) -> None:
        self.start, self.images = time.perf_counter(), 0

    def add(self, images: int) -> None:
        self.images += images

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)
