"""Checkpoints: one file that appears whole or not at all, and a model that continues from it to the bit."""

import errno
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file, save_file

from keras_resnet.errors import TrainingError
from keras_resnet.training import checkpoint
from keras_resnet.training.checkpoint import (
    TrainingProgress,
    checkpoints,
    load_checkpoint,
    read_progress,
    save_checkpoint,
)
from keras_resnet.training.optimizer import make_optimizer
from keras_resnet.training.recipe import Recipe

RECIPE = Recipe(learning_rate=0.05, ema_momentum=0.9, accumulation_steps=2)


@pytest.fixture
def policy() -> Iterator[None]:
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")  # of which the loss scale is a part of the state
    yield
    keras.config.set_dtype_policy(former)


def network(units: int = 5, seed: int = 0) -> keras.Model:
    """Compiled, and all of its variables are made."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((4,))
    x = keras.layers.BatchNormalization(name="stem_bn")(keras.layers.Dense(units, name="stem_conv")(image))
    x = keras.layers.Dropout(0.4)(x)
    model = keras.Model(image, keras.layers.Dense(3, name="logits", dtype="float32")(x))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    metrics = [keras.metrics.CategoricalAccuracy(name="top1")]
    model.compile(make_optimizer(RECIPE, model, 0.05), loss, metrics=metrics, run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(None, keras.ops.zeros((1, 3)), keras.ops.zeros((1, 3)))
    model.reset_metrics()
    return model


def train(model: keras.Model, steps: int, seed: int = 1) -> list[float]:
    """-> loss and accuracy so far, after each step."""
    generator = np.random.default_rng(seed)
    batches = [(generator.normal(size=(6, 4)), np.eye(3)[generator.integers(0, 3, 6)]) for _ in range(steps)]
    return [figure for x, y in batches for figure in model.train_on_batch(x, y)]


def state(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(v)) for v in (*model.variables, *model.optimizer.variables)]


def assert_same_bits(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("policy")
def test_a_model_goes_on_from_its_checkpoint_to_the_bit(tmp_path: Path) -> None:
    model = network()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    train(model, 5)  # the third update is half accumulated
    model.optimizer.dynamic_scale.assign(512.0)
    progress = TrainingProgress(5, 1, 2, 1, [{"epoch": 1, "loss": 0.1 + 0.2}], "abc")
    path = save_checkpoint(tmp_path, model, progress, keep=2)
    assert path == tmp_path / "step-000000005.safetensors"
    stored = {name.split("/")[-1] for name in load_file(path)}
    assert stored >= {
        *("kernel", "moving_variance", "iteration", "dynamic_scale", "step_counter", "total", "count"),
        *("logits_kernel_momentum", "logits_kernel_average", "logits_kernel_gradient_accumulator"),
    }
    before = state(model)
    later_figures = train(model, 4, seed=2)

    other = network(seed=9)
    found, standing, damaged = read_progress(tmp_path)
    assert (found, standing, damaged) == (path, progress, [])
    load_checkpoint(found, other, standing)
    assert float(other.optimizer.dynamic_scale) == 512.0
    assert_same_bits(state(other), before)
    assert train(other, 4, seed=2) == later_figures
    assert_same_bits(state(other), state(model))


def test_a_file_of_an_earlier_version_has_no_states_of_random_numbers(tmp_path: Path) -> None:
    model = network()
    train(model, 2)
    path = save_checkpoint(tmp_path, model, TrainingProgress(2, 1, 0), keep=1)
    tensors = load_file(path)
    [random] = [name for name in tensors if name.startswith("random/")]
    del tensors[random]
    save_file(tensors, path)
    other = network(seed=9)
    load_checkpoint(path, other, TrainingProgress(2, 1, 0))
    assert_same_bits([v.numpy() for v in other.weights], [v.numpy() for v in model.weights])


def test_metrics_belong_to_an_epoch_that_was_begun_alone(tmp_path: Path) -> None:
    model = network()
    train(model, 2)
    within = save_checkpoint(tmp_path, model, TrainingProgress(2, 0, 2), keep=2)
    between = save_checkpoint(tmp_path, model, TrainingProgress(3, 1, 0), keep=2)
    more = set(load_file(within)) - set(load_file(between))
    assert {name.split("/")[0] for name in more} == {"metrics"}
    assert len(more) == len(model.metrics_variables) > 0


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_are_kept(keep: int, tmp_path: Path) -> None:
    model, folder = network(), tmp_path / "new" / "folder"
    for step in (0, 3, 20, 100, 999_999_999):
        save_checkpoint(folder, model, TrainingProgress(step), keep)
    kept = [999_999_999, 100, 20][:keep]
    assert checkpoints(folder) == [folder / f"step-{step:09d}.safetensors" for step in kept]
    assert len(names(folder)) == keep


def test_other_files_are_neither_taken_nor_removed(tmp_path: Path) -> None:
    model = network()
    (tmp_path / "step-000000008.safetensors").mkdir()
    others = [".step-000000009.safetensors.partial", "step-9.safetensors", "step-000000009.safetensors.old", "notes"]
    for name in others:
        (tmp_path / name).write_bytes(b"half a file")
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, model, TrainingProgress(step), keep=1)
    assert names(tmp_path) == sorted([*others, "step-000000003.safetensors", "step-000000008.safetensors"])
    assert read_progress(tmp_path)[1].step == 3


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[:-7])
    elif how == "header":
        path.write_bytes(content[:40])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "zeros":
        path.write_bytes(bytes(len(content)))
    elif how == "metadata":
        save_file(load_file(path), path)
    elif how == "progress":
        save_file(load_file(path), path, metadata={"progress": '{"step": 3, "steps_of_tomorrow": 1}'})


@pytest.mark.parametrize("how", ["truncated", "header", "empty", "zeros", "metadata", "progress"])
def test_a_damaged_newest_file_is_named_and_the_one_before_it_is_taken(how: str, tmp_path: Path) -> None:
    model = network()
    train(model, 1)
    first = save_checkpoint(tmp_path, model, TrainingProgress(1, 0, 1), keep=3)
    before = state(model)
    train(model, 1)
    newest = save_checkpoint(tmp_path, model, TrainingProgress(2, 0, 2), keep=3)
    damage(newest, how)
    path, progress, [sentence] = read_progress(tmp_path)
    assert (path, progress.step) == (first, 1)
    assert sentence.startswith(f"{newest}: can't be read (")
    other = network(seed=9)
    load_checkpoint(path, other, progress)
    assert_same_bits(state(other), before)

    damage(first, "truncated")
    with pytest.raises(TrainingError) as raised:
        read_progress(tmp_path)
    lines = str(raised.value).splitlines()
    assert lines[0] == f"{tmp_path}: no readable checkpoint to continue from"
    assert [line.split(": can't be read (")[0] for line in lines[1:]] == [f"  {newest}", f"  {first}"]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_file_does_not_stand_in_the_way_of_later_ones(keep: int, tmp_path: Path) -> None:
    model = network()
    for step in (6, 9):
        newest = save_checkpoint(tmp_path, model, TrainingProgress(step), keep=2)
    damage(newest, "truncated")
    save_checkpoint(tmp_path, model, TrainingProgress(7), keep)  # of the run that went on from step 6
    assert read_progress(tmp_path)[1:] == (TrainingProgress(7), [])
    assert [path.stem for path in checkpoints(tmp_path)] == ["step-000000007", "step-000000006"][:keep]


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"absent: no readable checkpoint to continue from$"):
        read_progress(tmp_path / "absent")


@pytest.mark.parametrize("other", ["wider", "deeper"])
def test_a_file_of_another_model_is_refused_and_nothing_assigned(other: str, tmp_path: Path) -> None:
    model = network(units=6)
    if other == "deeper":
        whole = network()
        model = keras.Model(whole.input, keras.layers.Dense(3, name="more")(whole.output))
        model.compile(make_optimizer(RECIPE, model, 0.05), "mse")
        model.optimizer.build(model.trainable_variables)
    path = save_checkpoint(tmp_path, model, TrainingProgress(4), keep=1)
    target = network()
    before = state(target)
    message = "has shape|is of another network, which differs in .* tensors, first"
    with pytest.raises(TrainingError, match=message) as raised:
        load_checkpoint(path, target, TrainingProgress(4))
    assert str(raised.value).startswith(f"{path}: ")
    if other == "wider":
        assert str(raised.value).endswith("kernel has shape (4, 6), but the model needs (4, 5). Begin a new run")
    assert_same_bits(state(target), before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_and_the_older_file_stays(value: float, tmp_path: Path) -> None:
    model = network()
    path = save_checkpoint(tmp_path, model, TrainingProgress(1), keep=1)
    content = path.read_bytes()
    kernel, moving = model.layers[1].kernel, model.layers[2].moving_variance
    for variable in (kernel, moving):
        broken = np.array(variable)
        broken.flat[-1] = value
        variable.assign(broken)
    message = "step 2: 2 tensors are not finite, first model/0000/stem_conv/kernel; no checkpoint was written"
    with pytest.raises(TrainingError, match=message):
        save_checkpoint(tmp_path, model, TrainingProgress(2), keep=1)
    assert names(tmp_path) == [path.name]
    assert path.read_bytes() == content


@pytest.mark.parametrize("function", ["save_file", "fsync", "replace"])
def test_a_full_disk_is_named_and_the_older_files_stay(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    for step in (1, 2):
        save_checkpoint(tmp_path, model, TrainingProgress(step), keep=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*arguments: Any, **options: Any) -> None:
        if function == "save_file":
            arguments[1].write_bytes(b"as much as there was room for")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint if function == "save_file" else os, function, full)
        with pytest.raises(TrainingError) as raised:
            save_checkpoint(tmp_path, model, TrainingProgress(3), keep=2)
    assert str(raised.value) == (
        f"step 3: the checkpoint can't be written to {tmp_path} ([Errno 28] No space left on device: "
        f"'{tmp_path}/step-000000003.safetensors'). Earlier checkpoints stay; make room and continue with --resume"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_checkpoint(tmp_path, model, TrainingProgress(3), keep=2)  # once there is room
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-00000000{step}.safetensors" for step in (3, 2)]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        TrainingError,
        match=r"step 0: the checkpoint can't be written to .*file/checkpoints .*\. Make room and start again$",
    ):
        save_checkpoint(tmp_path / "file" / "checkpoints", network(), TrainingProgress(), keep=1)


class Malice:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_under_the_name_of_a_checkpoint_is_not_opened(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "step-000000001.safetensors"
    path.write_bytes(pickle.dumps(Malice(mark)))
    with pytest.raises(TrainingError, match="no readable checkpoint to continue from"):
        read_progress(tmp_path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # noqa: S301
    assert mark.exists()  # as it would have done


def test_a_checkpoint_is_an_ordinary_safetensors_file(tmp_path: Path) -> None:
    model = network()
    path = save_checkpoint(tmp_path, model, TrainingProgress(1, fingerprint="f"), keep=1)
    shutil.copy(path, tmp_path / "copy.safetensors")
    with safetensors.safe_open(tmp_path / "copy.safetensors", framework="numpy") as file:
        assert list(file.metadata()) == ["progress"]
        np.testing.assert_array_equal(file.get_tensor("model/0000/stem_conv/kernel"), np.array(model.layers[1].kernel))
