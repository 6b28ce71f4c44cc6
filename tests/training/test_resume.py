"""A run that is killed, or terminated, and continued comes to the same weights to the bit; through the real command."""

import csv
import re
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
from forked import Forked
from shallow import keras_resnet
from tiny_run import tiny, write_arrays
from train_process import newest_step


def weights(run: Path) -> list[np.ndarray]:
    return keras.saving.load_model(run / "model-last.keras", compile=False).get_weights()


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as stream:
        return [
            {key: value for key, value in row.items() if key not in ("images_per_second", "seconds")}
            for row in csv.DictReader(stream)
        ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    data = write_arrays(tmp_path / "data.npz", count=8 * 9, held_out=12)
    keys = {"batch_size": 8, "epochs": 3, "checkpoint_steps": 3, "deterministic": True, "ema_momentum": 0.9}
    path = tmp_path / "recipe.toml"
    path.write_text(tiny(data, **keys).to_toml())
    return path


@pytest.mark.slow
def test_a_run_that_is_killed_and_then_terminated_comes_to_the_same_weights(recipe: Path, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    uninterrupted = Forked(keras_resnet, "train", recipe, "--out", whole)  # at the same time, which saves some
    process = Forked(keras_resnet, "train", recipe, "--out", run)
    process.wait_for(lambda: newest_step(run) >= 6)  # of 27, in the middle of the first epoch
    process.kill()
    assert process.finish()[0] == -signal.SIGKILL
    assert not (run / "model-last.keras").exists()

    killed_at = newest_step(run)
    process = Forked(keras_resnet, "train", "--resume", run)
    process.wait_for(lambda: newest_step(run) >= killed_at + 3)
    process.terminate()
    status, out, err = process.finish()
    told = f"terminated after a checkpoint. To continue: keras-resnet train --resume {run}\n"
    assert (status, out) == (143, told), err
    assert f"continuing after step {killed_at}, from step-{killed_at:09d}.safetensors" in err
    terminated_at = newest_step(run)
    assert killed_at + 3 <= terminated_at < 27
    assert not (run / "model-last.keras").exists()

    status, out, err = Forked(keras_resnet, "train", "--resume", run).finish()
    assert status == 0, err
    assert f"continuing after step {terminated_at}, " in err
    status, expected, err = uninterrupted.finish()
    assert (status, len(history(whole))) == (0, 3), err
    assert out.replace(str(run), str(whole)) == expected
    assert re.match(re.escape(f"{whole / 'model.keras'}: ") + "epoch [123], validation top-1 ", expected)
    assert history(run) == history(whole)
    for value, same in zip(weights(run), weights(whole), strict=True):
        np.testing.assert_array_equal(value, same)
    assert names(run) == names(whole)
    assert names(run / "checkpoints") == names(whole / "checkpoints")
