"""`keras-resnet train` and `train.py`: every key of a recipe is an option; the command hands it on and reports."""

import dataclasses
import errno
import io
import json
import re
import runpy
import shlex
import subprocess
import sys
import time
import typing
from pathlib import Path
from typing import Any

import pytest
from command_line import in_process

from keras_resnet import recipes
from keras_resnet.cli import progress, train
from keras_resnet.errors import TrainingError
from keras_resnet.tasks import TASKS
from keras_resnet.training import fit
from keras_resnet.training.recipe import SETTINGS, Recipe, read_recipe
from keras_resnet.training.selection import Validated

SCRIPT = Path(__file__).parents[2] / "train.py"


# Where some values are wrong beside the others.
CHOSEN = {"network": "resnet18", "architecture": "deeplabv3", "output_stride": 8, "head_epochs": 7}


def other_value(name: str, task: str) -> Any:
    """Key, task that has it -> a value that is allowed, and is not the default."""
    setting = SETTINGS[name]
    if name == "task":
        return task
    if name == "loss":
        return TASKS[task].losses[-1]
    if name in CHOSEN:
        return CHOSEN[name]
    if typing.get_origin(setting.kind) is typing.Literal:
        return next(choice for choice in reversed(setting.choices_for(task)) if choice != setting.default)
    if setting.kind is bool:
        return not setting.default
    return {float: 0.375, int: 77, str: "some text"}.get(setting.kind, (32, 96))


def flags(values: dict[str, Any]) -> list[str]:
    arguments = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments.append(flag if value else f"--no-{flag[2:]}")
        else:
            arguments += [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return arguments


@pytest.fixture
def handed_on(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command hands to `fit`, which trains nothing here."""
    calls: list[Any] = []
    row = {"epoch": 1, "val_top1_percent": 12.5, "val_loss": 2.5}

    def train(recipe: Recipe, run: Path, listener: fit.Listener) -> fit.TrainingResult:
        calls.append((recipe, run))
        listener.say("a sentence")
        listener.show(fit.Standing(3, 10, 1, 2, 123.4, {"loss": 1.5}))
        return fit.TrainingResult(run, True, [row], "top-1", 1, Validated(12.5, 10.25, 15.0, 2.5), recipe)

    def resume(run: Path, listener: fit.Listener) -> fit.TrainingResult:
        calls.append(run)
        return fit.TrainingResult(run, False, [], "top-1", 0, None, Recipe())

    monkeypatch.setattr(fit, "train", train)
    monkeypatch.setattr(fit, "resume", resume)
    return calls


def test_help_names_every_key_and_loads_no_keras() -> None:
    code = (
        "import atexit, json, sys; sys.argv = ['keras-resnet', 'train', '--help'];"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules))));"
        "from keras_resnet.cli.main import main; main()"
    )
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": "250", "TERMINAL_WIDTH": "250"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    *lines, modules = run.stdout.splitlines()
    loaded = {name.split(".")[0] for name in json.loads(modules)}
    assert not loaded & {"keras", "tensorflow", "jax", "torch", "numpy", "PIL", "matplotlib"}
    words = " ".join(lines).split()
    for name in (*SETTINGS, "out", "resume"):
        assert f"--{name.replace('_', '-')}" in words, name
    assert "--no-flip" in words


def test_a_run_is_lines_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.01)

    def train(recipe: Recipe, run: Path, listener: fit.Listener) -> fit.TrainingResult:
        time.sleep(0.1)
        for step in (3, 4):
            listener.show(fit.Standing(step, 10, 1, 2, 123.4, {"loss": 1.5, "top1_percent": 12.5}))
        time.sleep(0.1)
        return fit.TrainingResult(run, True, [], "top-1", 0, None, recipe)

    monkeypatch.setattr(fit, "train", train)
    assert in_process("train", "--out", tmp_path / "run")[0] == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "0:00:00  start, time left unknown"
    assert re.fullmatch(
        r"0:00:0\d  epoch 1 of 2, 123 images/s, loss 1\.500, top-1 12\.5 %, steps \(4 of 10\), 0:00:0\d left", lines[-1]
    )


@pytest.mark.parametrize(("task", "without"), [("classify", "task"), ("segment", "weights")])
def test_every_key_reaches_the_recipe_in_its_own_type(
    task: str, without: str, handed_on: list[Any], tmp_path: Path
) -> None:
    """The first task is the default, and the second takes the weights of the backbone alone."""
    names = [
        name for name, setting in SETTINGS.items() if setting.suits(task) and name not in (without, *TASKS[task].lacks)
    ]
    values = {name: other_value(name, task) for name in names}
    status, out, err = in_process("train", "--out", tmp_path / "run", *flags(values))
    assert status == 0, err
    [(recipe, run)] = handed_on
    assert run == tmp_path / "run"
    for name, value in values.items():
        assert getattr(recipe, name) == value != getattr(Recipe(), name), name
        assert type(getattr(recipe, name)) is type(value), name
    model = run / "model.keras"
    assert out[0] == f"{model}: epoch 1, validation top-1 12.50 % (10.25 to 15.00), loss 2.5000"
    masks, size = (
        ("", "")
        if task == "classify"
        else (" --mask-suffix 'some text' --mask-values 32,96 --void-labels 32,96", " --image-size 77x77")
    )
    read = (
        "--folders splits --validation-split test --image-column 'some text' --label-column 'some text' "
        f"--split-column 'some text' --encoding 'some text' --strict{masks}"
    )
    assert out[2:] == [
        f"keras-resnet evaluate {model} 'some text' {read} --out {run / 'evaluation'}",
        f"keras-resnet export --model {model} --formats tflite,onnx --out {run / 'export'}{size}",
    ]


def test_an_option_overrides_the_recipe_file_and_absent_ones_do_not(handed_on: list[Any], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("epochs = 7\nflip = false\nseed = 5\n")
    in_process("train", tmp_path / "r.toml", "--seed", 6, "--out", tmp_path / "run")
    [(recipe, _)] = handed_on
    assert recipe == Recipe(epochs=7, flip=False, seed=6)


def test_train_py_is_the_same_command(handed_on: list[Any], tmp_path: Path) -> None:
    def script() -> None:
        sys.argv = ["train.py", *sys.argv[1:]]
        runpy.run_path(str(SCRIPT), run_name="__main__")

    status, _, _ = in_process("--epochs", 3, "--warmup-epochs", 1, "--out", tmp_path / "run", run=script)
    assert (status, handed_on[0][0]) == (0, Recipe(epochs=3, warmup_epochs=1.0))


def test_a_terminated_run_has_the_exit_status_of_a_terminated_program(handed_on: list[Any], tmp_path: Path) -> None:
    status, out, _ = in_process("train", "--resume", tmp_path)
    assert (status, handed_on) == (143, [tmp_path])
    assert out == [f"terminated after a checkpoint. To continue: keras-resnet train --resume {tmp_path}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--epochs", "3", "--head-epochs", "3"],
            "the recipe's `head_epochs` must be fewer than the epochs. Received: head_epochs = 3",
        ),
        (["--seed", "1"], "give --out, the folder of a new run, or --resume with the folder of an interrupted run"),
        *(
            (["--resume", "r", *more], "--resume continues a run by its own recipe; leave out all other options")
            for more in (["--seed", "1"], ["--out", "o"], ["recipe.toml"], ["--no-flip"])
        ),
        (
            ["--progressive-sizes", "64,9.5"],
            "--progressive-sizes takes whole numbers, for example 128,160. Received: 64,9.5",
        ),
        (["--optimizer", "x"], "the recipe: `optimizer` must be one of sgd, lamb, adamw. Received: optimizer = 'x'"),
        (
            ["--task", "segment", "--loss", "binary"],
            "the recipe's `loss` must be one of cross_entropy, focal, dice for task = segment. "
            "Received: loss = 'binary'",
        ),
        (
            ["absent.toml"],
            "absent.toml: there is no such recipe or file. keras-resnet recipes lists the recipes of the package",
        ),
        (
            ["recipes/fine-tune.toml"],
            "recipes/fine-tune.toml: there is no such recipe or file. Did you mean fine-tune? "
            "keras-resnet recipes lists the recipes of the package",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    assert in_process("train", *arguments) == (1, [], [f"error: {message}"])


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run directory with a space in its name, as training leaves it at its end."""
    run = tmp_path / "my run"
    run.mkdir()
    keys = {"weights": "moco.pth", "weights_prefix": "encoder", "head_epochs": 2, "epochs": 10, "learning_rate": 0.02}
    (run / "recipe.toml").write_text(read_recipe(None, keys | {"data": "/images"}).to_toml())
    for name in ("model.keras", "model-last.keras"):
        (run / name).touch()
    return run


def further(run: Path, epochs: int, more: str, number: int = 2) -> list[str]:
    """-> the lines that tell how a finished run's network is trained further."""
    return [
        f"{run} is finished after 10 epochs, and its learning rate has fallen to its end. To train its "
        f"network for {epochs} epochs more, with the learning rate from the start:",
        f"keras-resnet train '{run}/recipe.toml' --weights '{run}/model.keras' {more}--weights-prefix '' "
        f"--head-epochs 0 --out '{run}-{number}'",
    ]


@pytest.mark.parametrize(
    ("arguments", "epochs", "more"),
    [
        (["--resume", "{run}", "--epochs", "20", "--no-flip"], 20, "--no-flip --epochs 20 "),
        (["fine-tune", "--weights", "imagenet", "--out", "{run}"], 10, ""),
        (["smoke", "--resume", "{run}"], 10, ""),
    ],
)
def test_a_finished_run_is_not_extended_and_the_error_has_the_command(
    arguments: list[str], epochs: int, more: str, finished: Path, handed_on: list[Any]
) -> None:
    finished.with_name("my run-2").mkdir()
    status, out, err = in_process("train", *(argument.format(run=finished) for argument in arguments))
    reason, command = further(finished, epochs, more, number=3)
    assert (status, out, err) == (1, [], [f"error: {reason}", command])
    status, _, errors = in_process(*shlex.split(command)[1:])
    assert status == 0, errors
    [(recipe, run)] = handed_on
    assert run == finished.with_name("my run-3")
    assert (recipe.weights, recipe.weights_prefix, recipe.head_epochs) == (f"{finished}/model.keras", "", 0)
    assert (recipe.data, recipe.epochs, recipe.learning_rate) == ("/images", epochs, 0.02)
    assert recipe.flip is ("--no-flip" not in arguments)


def test_a_network_that_began_with_the_weights_of_its_backbone_does_not_take_them_again(
    finished: Path, handed_on: list[Any]
) -> None:
    recipe = read_recipe("segment", {"backbone_weights": "imagenet"})
    (finished / "recipe.toml").write_text(recipe.to_toml())
    command = in_process("train", "--out", finished)[2][1]
    assert in_process(*shlex.split(command)[1:])[0] == 0
    [(further, _)] = handed_on
    assert further == dataclasses.replace(recipe, weights=f"{finished}/model.keras", backbone_weights="")


def test_a_finished_run_is_named_from_within_its_folder(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    command = in_process("train", "--resume", ".", "--epochs", 3)[2][1]
    assert command.startswith("keras-resnet train recipe.toml --weights model.keras --epochs 3 ")
    assert command.endswith(f" --out '{finished}-2'")


def test_a_finished_run_that_is_resumed_says_so_after_its_result(
    finished: Path, handed_on: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "resume", lambda run, listener: fit.train(Recipe(), run, listener))
    status, out, _ = in_process("train", "--resume", finished)
    assert (status, out[-2:]) == (0, further(finished, 10, ""))
    assert out[0].startswith(f"{finished / 'model.keras'}: epoch 1, validation top-1 12.50 %")


def test_an_error_of_the_run_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise TrainingError("step 7: the disk is full")

    monkeypatch.setattr(fit, "train", fail)
    status, out, err = in_process("train", "--out", tmp_path / "run")
    assert (status, out, err[-1]) == (1, [], "error: step 7: the disk is full")


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_of_the_package_is_one(name: str) -> None:
    assert read_recipe(name).data == ""  # which is named on the command line


def test_a_name_is_a_recipe_of_the_package_and_a_path_is_a_file(
    handed_on: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("smoke").write_text("epochs = 77")
    for given in ("smoke", "./smoke", str(tmp_path / "smoke")):
        assert in_process("train", given, "--out", tmp_path / "run")[0] == 0
    assert [recipe.epochs for recipe, _ in handed_on] == [2, 77, 77]


def test_the_recipes_are_listed_printed_and_copied(
    handed_on: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, listed, errors = in_process("recipes")
    assert (status, errors) == (0, [])
    assert [line.split()[0] for line in listed] == recipes.names()
    assert "smoke               Whether training works at all: few steps of a small network on any images." in listed
    assert max(map(len, listed)) <= 100
    text = (recipes.FOLDER / "smoke.toml").read_text(encoding="utf-8")
    assert in_process("recipes", "smoke") == (0, text.splitlines(), [])
    copied = "new/my.toml: a copy of the recipe smoke; give `keras-resnet train` this file instead of the name"
    assert in_process("recipes", "smoke", "--copy", "new/my.toml") == (0, [copied], [])
    assert Path("new/my.toml").read_text(encoding="utf-8") == text
    assert in_process("train", "new/my.toml", "--out", "run")[0] == 0
    assert handed_on[0][0] == read_recipe("smoke")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["finetune"],
            "there is no recipe of this name: finetune. Did you mean fine-tune? keras-resnet recipes "
            "lists the recipes of the package",
        ),
        (["--copy", "my.toml"], "--copy needs the name of a recipe before it. Received: --copy my.toml"),
        (["smoke", "--copy", "smoke"], "--copy must be a file that ends with .toml. Received: smoke"),
        (["smoke", "--copy", "old.toml"], "--copy must be a new file. Received: old.toml, which exists"),
    ],
)
def test_a_mistake_about_recipes_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.toml").write_text("epochs = 3")
    assert in_process("recipes", *arguments) == (1, [], [f"error: {message}"])
    assert Path("old.toml").read_text() == "epochs = 3"


def test_a_full_disk_under_the_log_does_not_end_a_run(
    handed_on: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(train, "terminal_stderr", FullDisk)
    status, lines, errors = in_process("train", "--data", "images", "--out", tmp_path)
    assert (status, errors, len(handed_on)) == (0, [], 1)
    assert lines[0].startswith(f"{tmp_path / 'model.keras'}: epoch 1")
