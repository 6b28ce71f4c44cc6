"""`keras-resnet train`: recipe -> run directory."""

import contextlib
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_resnet.cli.further import how_to_train_further, is_finished
from keras_resnet.cli.interrupts import on_interrupt, this_command
from keras_resnet.cli.progress import is_drawable, lines
from keras_resnet.cli.setting_options import arguments_of, parameters_of, values_of
from keras_resnet.errors import ArgumentError
from keras_resnet.printable import printable
from keras_resnet.quiet import import_keras, terminal_stderr
from keras_resnet.tasks import TASKS
from keras_resnet.training.processes import PeerLostError
from keras_resnet.training.recipe import SETTINGS, read_recipe
from keras_resnet.training.run_files import CHECKPOINTS, RECIPE

if TYPE_CHECKING:
    from rich.console import Console

TERMINATED = 143  # exit status of a program that was ended by SIGTERM


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Name of a recipe that comes with the package (`keras-resnet recipes` lists them), or path of a TOML "
            "file; a file that is called like a recipe is ./NAME. Each key is also an option.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory to make: a new or empty folder.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Run directory of an interrupted run, which continues from its last checkpoint. The results are "
            "bit-identical to an uninterrupted run only with deterministic = true on one CPU."
        ),
    ] = None,
    **keys: Any,
) -> None:
    """Train a network by a recipe, and write a run directory. Its model.keras is the network of the best epoch.

    Options override the recipe's keys; docs/train.md explains them. Ctrl-C and SIGTERM end the run after a checkpoint,
    with exit status 130 or 143, and print how to continue.
    """
    given = values_of(SETTINGS, keys)
    finished = next((run for run in (out, resume) if run is not None and is_finished(run)), None)
    if finished is not None and (finished == out or recipe is not None or given):
        raise ArgumentError(*how_to_train_further(finished, given))
    if resume is not None and (recipe is not None or out is not None or given):
        raise ArgumentError("--resume continues a run by its own recipe; leave out all other options")
    chosen = read_recipe(recipe, given)
    run = out or resume
    if run is None:
        raise ArgumentError("give --out, the folder of a new run, or --resume with the folder of an interrupted run")

    from rich.console import Console

    console = Console(file=terminal_stderr(), soft_wrap=True, highlight=False, markup=False, emoji=False)
    display = _bar if is_drawable(console.file) else _lines
    try:
        with on_interrupt(lambda: _how_to_continue(run)), display(console) as show:
            import_keras()
            from keras_resnet.training import fit

            def say(line: str) -> None:
                with contextlib.suppress(OSError):  # a full disk under the log does not end the work
                    console.print(printable(line))

            listener = fit.Listener(say=say, show=show)
            result = fit.resume(run, listener) if resume else fit.train(chosen, run, listener)
    except PeerLostError as error:
        print(printable(f"error: {error}"), file=sys.stderr, flush=True)
        os._exit(1)  # at an ordinary exit, JAX would wait for the process that is gone
    if not result.complete:
        print(printable(f"terminated after a checkpoint. To continue: {_resume(result.run)}"))
        raise typer.Exit(TERMINATED)
    _print(result)
    if finished is not None:
        for line in how_to_train_further(finished, given):
            print(printable(line))


def _how_to_continue(run: Path) -> str:
    if not (run / RECIPE).is_file():
        return f"Nothing was written. To start over: {this_command()}"
    newest = max((path.stem for path in (run / CHECKPOINTS).glob("step-*.safetensors")), default=None)
    kept = "there is no checkpoint yet" if newest is None else f"the checkpoint of step {int(newest[5:])} is kept"
    return f"In {run}, {kept}. To continue: {_resume(run)}"


def _resume(run: Path) -> str:
    return shlex.join(["keras-resnet", "train", "--resume", str(run)])


@contextlib.contextmanager
def _bar(console: "Console") -> Iterator[Callable[[Any], None]]:
    """Console of a terminal -> function that shows the state of a run as a bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=6),  # all columns fit into 80 characters
        TextColumn("{task.percentage:.0f} %, {task.fields[rate]} images/s, {task.fields[figures]}, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None, epoch="-", rate="-", figures="starting", visible=False)

        def show(standing: Any) -> None:
            bar.update(
                task,
                total=standing.steps,
                completed=standing.step,
                epoch=f"{standing.epoch}/{standing.epochs}",
                rate=f"{standing.images_per_second:.0f}",
                figures=_figures(standing),
                visible=True,
            )

        yield show


@contextlib.contextmanager
def _lines(console: "Console") -> Iterator[Callable[[Any], None]]:
    """Console of a log file -> function that takes the state of a run, for the lines of progress."""
    with lines(console.file) as show:
        show("start", 0, 0)

        def show_standing(standing: Any) -> None:
            epoch = f"epoch {standing.epoch} of {standing.epochs}"
            rate = f"{standing.images_per_second:.0f} images/s"
            show(f"{epoch}, {rate}, {_figures(standing)}, steps", standing.step, standing.steps)

        yield show_standing


def _figures(standing: Any) -> str:
    titles = {name: title for task in TASKS.values() for name, title in task.titles.items()}
    return ", ".join(
        f"loss {value:.3f}" if name == "loss" else f"{titles[name]} {value:.1f} %"
        for name, value in standing.figures.items()
        if name == "loss" or name in titles
    )


def _print(result: Any) -> None:
    if result.best is None:
        return
    written = f"{result.run / 'model.keras'}: epoch {result.best_epoch}, validation {result.score} {result.best}"
    print(printable(written))
    model, recipe = str(result.run / "model.keras"), result.recipe
    print("next:")
    for command, *arguments in (
        ("evaluate", model, recipe.data, *arguments_of(recipe), "--out", str(result.run / "evaluation")),
        ("export", "--model", model, "--formats", "tflite,onnx", "--out", str(result.run / "export")),
    ):
        of_task = TASKS[recipe.task].arguments(command, recipe)
        print(printable(shlex.join(["keras-resnet", command, *arguments, *of_task])))


train.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        *(p for p in inspect.signature(train).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD),
        *parameters_of(SETTINGS),
    ]
)
train.__annotations__ = {name: p.annotation for name, p in inspect.signature(train).parameters.items()}
