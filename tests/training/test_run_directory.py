"""Whose the directory of a run is: from its start to the first step, and after a start that failed."""

from pathlib import Path

import pytest

from keras_resnet.errors import ArgumentError
from keras_resnet.training.checkpoint import TrainingProgress
from keras_resnet.training.processes import PeerLostError
from keras_resnet.training.recipe import Recipe, read_recipe
from keras_resnet.training.run_directory import claimed, describe_run

RECIPE = Recipe(epochs=7)
WRITTEN = ["checkpoints", "checkpoints/step-000000000.safetensors", "data.json", "environment.json"]
WRITTEN += ["problem_images.csv", "recipe.toml"]


def begin(run: Path, error: BaseException, step: int = 0) -> None:
    """A run that writes what there is before its first step is done, and fails."""
    progress = TrainingProgress()
    with claimed(run, RECIPE, progress):
        describe_run(run, "1 CPU", {}, {})
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "step-000000000.safetensors").touch()
        (run / "problem_images.csv").touch()
        progress.step = step
        raise error


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_directory_of_a_run_that_goes_well_holds_its_recipe(tmp_path: Path) -> None:
    with claimed(tmp_path / "runs" / "run", RECIPE, TrainingProgress()):
        pass
    assert files(tmp_path) == ["runs", "runs/run", "runs/run/recipe.toml"]
    assert read_recipe(tmp_path / "runs" / "run" / "recipe.toml") == RECIPE


@pytest.mark.parametrize("error", [ValueError("a wrong setting"), OSError(28, "No space left on device")])
def test_a_start_that_failed_leaves_nothing(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        begin(tmp_path / "run", error)
    assert files(tmp_path) == []


def test_an_empty_folder_that_was_there_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a wrong setting"):
        begin(tmp_path, ValueError("a wrong setting"))
    assert tmp_path.is_dir()
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["notes.txt", "checkpoints/notes.txt"])
def test_what_others_have_put_there_stays(name: str, tmp_path: Path) -> None:
    def begin_beside_others() -> None:
        with claimed(tmp_path / "run", RECIPE, TrainingProgress()):
            (tmp_path / "run" / "checkpoints").mkdir()
            (tmp_path / "run" / name).write_text("mine")
            raise ValueError("a wrong setting")

    with pytest.raises(ValueError, match="a wrong setting"):
        begin_beside_others()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "run" / name]


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (KeyboardInterrupt(), 0),
        (PeerLostError(0, "its heart stopped"), 0),
        (ValueError("something of the second step"), 1),
    ],
)
def test_a_run_that_can_be_resumed_stays(error: BaseException, step: int, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        begin(tmp_path / "run", error, step)
    assert files(tmp_path / "run") == WRITTEN


def test_a_folder_that_is_refused_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("epochs = 3")
    for run in (tmp_path, tmp_path / "recipe.toml"):
        with (
            pytest.raises(ArgumentError, match="--out must be a new or empty folder"),
            claimed(run, RECIPE, TrainingProgress()),
        ):
            pytest.fail("it was claimed")
    assert (tmp_path / "recipe.toml").read_text() == "epochs = 3"
    assert files(tmp_path) == ["recipe.toml"]
