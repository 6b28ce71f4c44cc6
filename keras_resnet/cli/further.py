"""A finished run -> the command that trains its network further."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnet.cli.setting_options import arguments_for
from keras_resnet.training.recipe import read_recipe
from keras_resnet.training.run_files import BEST, LAST, RECIPE

# What a run starts from. A run that starts from a finished run's network has its own values of these keys.
STARTS = ("weights", "backbone_weights", "weights_prefix", "revision", "head_epochs")


def is_finished(run: Path) -> bool:
    """Run directory -> whether all of its epochs are trained: its last network is written after them."""
    return (run / RECIPE).is_file() and (run / LAST).is_file()


def how_to_train_further(run: Path, given: Mapping[str, Any]) -> list[str]:
    """Finished run, keys that the user gives -> why it can't be extended, and the command that trains its network."""
    recipe = read_recipe(run / RECIPE)
    network = run / BEST if (run / BEST).is_file() else run / LAST
    values = {"weights": str(network)} | {name: value for name, value in given.items() if name not in STARTS}
    for name, nothing in (("backbone_weights", ""), ("weights_prefix", ""), ("revision", ""), ("head_epochs", 0)):
        if getattr(recipe, name) != nothing:
            values[name] = nothing
    command = ["keras-resnet", "train", str(run / RECIPE), *arguments_for(values), "--out", str(_free_folder(run))]
    return [
        f"{run} is finished after {_epochs(recipe.epochs)}, and its learning rate has fallen to its end. To train its "
        f"network for {_epochs(given.get('epochs', recipe.epochs))} more, with the learning rate from the start:",
        shlex.join(command),
    ]


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _free_folder(run: Path) -> Path:
    """runs/own -> runs/own-2, or with the first number that is free."""
    named, number = run if run.name.strip(".") else run.resolve(), 2  # `.` has no name
    while (folder := named.with_name(f"{named.name}-{number}")).exists():
        number += 1
    return folder
