"""`keras-resnet train`: recipe -> run directory."""

import inspect
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.setting_options import arguments_of, parameters_of, values_of
from keras_resnet.errors import ArgumentError
from keras_resnet.quiet import import_keras, terminal_stderr
from keras_resnet.tasks import TASKS
from keras_resnet.training.recipe import SETTINGS, read_recipe

TERMINATED = 143  # exit status of a program that was ended by SIGTERM


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="TOML file, such as recipes/smoke.toml. Each key is also an option.")
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

    Options override the recipe's keys; docs/train.md explains them. SIGTERM ends the run after a checkpoint, with exit
    status 143.
    """
    given = values_of(SETTINGS, keys)
    if resume is not None and (recipe is not None or out is not None or given):
        raise ArgumentError("--resume continues a run by its own recipe; leave out all other options")
    chosen = read_recipe(recipe, given)
    run = out or resume
    if run is None:
        raise ArgumentError("give --out, the folder of a new run, or --resume with the folder of an interrupted run")

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=terminal_stderr(), soft_wrap=True, highlight=False, markup=False)
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=6),  # all columns fit into 80 characters
        TextColumn("{task.percentage:.0f} %, {task.fields[rate]} images/s, {task.fields[figures]}, left"),
        TimeRemainingColumn(),
    )
    titles = {name: title for task in TASKS.values() for name, title in task.titles.items()}
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None, epoch="-", rate="-", figures="starting", visible=False)

        def show(standing: Any) -> None:
            figures = ", ".join(
                f"loss {value:.3f}" if name == "loss" else f"{titles[name]} {value:.1f} %"
                for name, value in standing.figures.items()
            )
            bar.update(
                task,
                total=standing.steps,
                completed=standing.step,
                epoch=f"{standing.epoch}/{standing.epochs}",
                rate=f"{standing.images_per_second:.0f}",
                figures=figures,
                visible=True,
            )

        import_keras()
        from keras_resnet.training import fit
        from keras_resnet.training.processes import PeerLostError

        listener = fit.Listener(say=console.print, show=show)
        try:
            result = fit.resume(run, listener) if resume else fit.train(chosen, run, listener)
        except PeerLostError as error:
            bar.stop()
            print(f"error: {error}", file=sys.stderr, flush=True)
            os._exit(1)  # at an ordinary exit, JAX would wait for the process that is gone
    if not result.complete:
        print(f"terminated after a checkpoint. To continue: keras-resnet train --resume {result.run}")
        raise typer.Exit(TERMINATED)
    _print(result)


def _print(result: Any) -> None:
    if result.best is None:
        return
    print(f"{result.run / 'model.keras'}: epoch {result.best_epoch}, validation {result.score} {result.best}")
    model, recipe = str(result.run / "model.keras"), result.recipe
    print("next:")
    for command, *arguments in (
        ("evaluate", model, recipe.data, *arguments_of(recipe), "--out", str(result.run / "evaluation")),
        ("export", "--model", model, "--formats", "tflite,onnx", "--out", str(result.run / "export")),
    ):
        of_task = TASKS[recipe.task].arguments(command, recipe)
        print(shlex.join(["keras-resnet", command, *arguments, *of_task]))


train.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        *(p for p in inspect.signature(train).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD),
        *parameters_of(SETTINGS),
    ]
)
train.__annotations__ = {name: p.annotation for name, p in inspect.signature(train).parameters.items()}
