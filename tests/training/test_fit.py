"""A run from the recipe to its directory: what is in it, and what ends a run that must not go on."""

import csv
import json
import math
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from shallow import shallow_builder
from tiny_run import tiny, write_arrays

from keras_resnet import models
from keras_resnet.data.pipeline import training_batches
from keras_resnet.errors import ArgumentError, TrainingError, WeightsError
from keras_resnet.evaluation.uncertainty import wilson_interval_percent
from keras_resnet.model_files import read_model_description
from keras_resnet.training import fit, run_directory
from keras_resnet.training.checkpoint import TrainingProgress, checkpoints, read_progress
from keras_resnet.training.recipe import Recipe, read_recipe
from keras_resnet.training.run_files import CHECKPOINTS
from keras_resnet.training.selection import Validated
from keras_resnet.variants import InputContract

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")

COLUMNS = ["epoch", "step", "learning_rate", "loss", "top1_percent", "val_loss", "val_top1_percent"]
COLUMNS += ["val_top1_low_percent", "val_top1_high_percent"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arrays(tmp_path_factory.mktemp("data") / "data.npz")


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    """Steps without compilation, which takes longer than these few."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module", autouse=True)
def shallow_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.BUILDERS, "resnet20", shallow_builder("resnet20"))
        yield


class Heard(fit.Listener):
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.standings: list[fit.Standing] = []
        super().__init__(self.sentences.append, self.standings.append)


class Run:
    """One finished run, which most tests look at."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder, self.heard = recipe, folder, Heard()
        self.result = fit.train(recipe, folder, self.heard)

    def progress_fingerprint(self) -> str:
        return read_progress(self.folder / CHECKPOINTS)[1].fingerprint


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tiny(data, ema_momentum=0.5, checkpoint_steps=2, seed=3), tmp_path_factory.mktemp("runs") / "run")


def validation(data: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(data) as archive:
        return archive["x_val"], archive["y_val"]


def weights(path: Path) -> dict[str, np.ndarray]:
    return {variable.path: np.array(variable) for variable in keras.saving.load_model(path, compile=False).weights}


# What a run leaves.


def test_the_files_of_a_run(run: Run) -> None:
    assert sorted(path.name for path in run.folder.iterdir()) == sorted(
        [
            *("checkpoints", "curves.png", "data.json", "environment.json", "history.csv", "model-last.keras"),
            *("model.keras", "recipe.toml", "tensorboard"),
        ]
    )
    assert run.result.complete
    assert read_recipe(run.folder / "recipe.toml") == run.recipe
    assert [path.name for path in checkpoints(run.folder / CHECKPOINTS)] == [
        f"step-00000000{step}.safetensors" for step in (6, 4)
    ]
    with Image.open(run.folder / "curves.png") as picture:
        picture.load()
        assert min(picture.size) > 300
        assert len(set(picture.convert("L").get_flattened_data())) > 10  # something is drawn


def test_what_a_run_notes_of_its_environment_and_data(run: Run, data: Path) -> None:
    noted = json.loads((run.folder / "environment.json").read_text())
    assert noted["devices"] == "1 CPU, float32, Keras on tensorflow"
    assert noted["backend"] == "tensorflow"
    summary = json.loads((run.folder / "data.json").read_text())
    for split, count in (("train", 48), ("val", 12)):
        assert (summary[split]["kind"], summary[split]["path"]) == ("arrays", str(data))
        assert (summary[split]["count"], summary[split]["class_counts"]) == (count, [count // 3] * 3)
        assert (summary[split]["classes"], summary[split]["validation"]) == (["0", "1", "2"], "its own")
    assert summary["train"]["fingerprint"] == run.progress_fingerprint()


def test_the_history_has_a_row_an_epoch(run: Run) -> None:
    with (run.folder / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [*COLUMNS, "images_per_second", "seconds"]
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6")]
    for row, told in zip(rows, run.result.history, strict=True):
        assert {key: float(value) for key, value in row.items()} == {key: float(told[key]) for key in row}
    # The rate that the next update would have: a warm-up of 2 updates, then a cosine over 4.
    rates = [0.05 * 0.5 * (1 + math.cos(math.pi * (step - 2) / 4)) for step in (3, 6)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(rates, abs=1e-8)
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


def test_the_events_of_tensorboard_are_those_of_the_history(run: Run) -> None:
    import tensorflow as tf

    files = sorted((run.folder / "tensorboard").iterdir())
    found = {
        (event.step, value.tag): float(tf.make_ndarray(value.tensor))
        for path in files
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    expected = {
        (row["step"], key): value
        for row in run.result.history
        for key, value in row.items()
        if key not in ("epoch", "step")
    }
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_listener_hears_of_every_step_and_epoch(run: Run) -> None:
    heard = run.heard
    assert [(s.step, s.steps, s.epoch, s.epochs) for s in heard.standings] == [
        (step, 6, 1 + (step > 3), 2) for step in range(1, 7)
    ]
    assert all(s.images_per_second > 0 and set(s.figures) == {"loss", "top1_percent"} for s in heard.standings)
    assert heard.standings[-1].figures["loss"] == pytest.approx(run.result.history[-1]["loss"])
    assert [sentence.partition(":")[0] for sentence in heard.sentences[:3]] == ["data", "train", "val"]
    assert heard.sentences[1].startswith("train: 48 images of 3 classes: ")
    assert heard.sentences[2].startswith("val: 12 images of 3 classes: ")
    assert heard.sentences[3] == "training on 1 CPU, float32, Keras on tensorflow"
    row = run.result.history[0]
    low, high = wilson_interval_percent(row["val_top1_percent"], 12)
    assert heard.sentences[4] == (
        f"epoch 1 of 2: loss {row['loss']:.4f}, top-1 {row['top1_percent']:.2f} %; "
        f"validation top-1 {row['val_top1_percent']:.2f} % ({low:.2f} to {high:.2f}), loss {row['val_loss']:.4f}"
    )


@pytest.mark.parametrize("name", ["model.keras", "model-last.keras"])
def test_a_model_file_predicts_what_the_history_says(name: str, run: Run, data: Path) -> None:
    description = read_model_description(run.folder / name)
    assert description is not None
    assert description.class_names == ("0", "1", "2")
    assert description.contract == InputContract(32, 32, "bilinear")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = keras.saving.load_model(run.folder / name)
    images, classes = validation(data)
    probabilities = np.asarray(model(images, training=False))
    loss = -np.log(probabilities[np.arange(12), classes]).mean()
    top1_percent = 100 * (probabilities.argmax(1) == classes).mean()
    row = run.result.history[-1 if name == "model-last.keras" else run.result.best_epoch - 1]
    assert (loss, top1_percent) == pytest.approx((row["val_loss"], row["val_top1_percent"]), rel=1e-5)
    best = run.result.history[run.result.best_epoch - 1]
    assert run.result.best == Validated.of_row(best, "top1_percent")
    assert run.result.best.high_percent >= max(row["val_top1_percent"] for row in run.result.history)


def test_what_is_saved_is_the_moving_average(run: Run) -> None:
    stored = load_file(checkpoints(run.folder / CHECKPOINTS)[0])
    model = keras.saving.load_model(run.folder / "model-last.keras", compile=False)
    raw = [value for name, value in sorted(stored.items()) if name.startswith("model/")]
    means = [value for name, value in sorted(stored.items()) if name.startswith("optimizer/") and "_average" in name]
    trainable = {variable.path for variable in model.trainable_variables}
    assert len(means) == len(trainable)
    for variable, value in zip(model.weights, raw, strict=True):
        expected = means.pop(0) if variable.path in trainable else value
        np.testing.assert_array_equal(np.array(variable), expected, err_msg=variable.path)
        if variable.path.endswith("/kernel"):
            assert np.abs(expected - value).max() > 0


# Going on.


def test_a_finished_run_that_is_resumed_is_the_same_run(run: Run, tmp_path: Path) -> None:
    """As a run is that was killed after its last checkpoint, and before its last files."""
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    for name in ("model-last.keras", "curves.png"):
        (folder / name).unlink()
    result = fit.resume(folder)
    assert result.complete
    assert result.history == run.result.history
    last, expected = weights(folder / "model-last.keras"), weights(run.folder / "model-last.keras")
    for path, value in expected.items():
        np.testing.assert_array_equal(last[path], value, err_msg=path)
    assert (folder / "curves.png").exists()
    for name in ("history.csv", "model.keras"):
        assert (folder / name).read_bytes() == (run.folder / name).read_bytes()


def test_other_data_are_refused(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    other = write_arrays(tmp_path / "data.npz", count=51)
    toml = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(toml.replace(run.recipe.data, str(other)))
    with pytest.raises(TrainingError, match=r"data\.npz: the training images have changed since the run began"):
        fit.resume(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"--resume must be a run's folder, which holds recipe\.toml"):
        fit.resume(tmp_path)


def test_an_occupied_folder_is_refused_and_left_as_it_is(data: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for folder in (tmp_path, tmp_path / "notes"):
        with pytest.raises(
            ArgumentError, match=r"--out must be a new or empty folder; --resume .* continues an interrupted run"
        ):
            fit.train(run.recipe, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


# What the recipe asks for.


def test_the_head_is_trained_alone_first(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, begun = fit._Run._epoch, []

    def epoch(self: Any) -> None:
        trained = {variable.path for variable in self.model.trainable_variables}
        begun.append((trained, {v.path: np.array(v) for v in self.model.weights}, float(self.schedule(0))))
        genuine(self)

    monkeypatch.setattr(fit._Run, "_epoch", epoch)
    heard = Heard()
    recipe = tiny(data, epochs=3, head_epochs=2, batch_size=48, warmup_epochs=0.0)
    result = fit.train(recipe, tmp_path / "run", heard)
    head = {"logits/kernel", "logits/bias"}
    assert [trained == head for trained, _, _ in begun] == [True, True, False]
    first, _, third = (values for _, values, _ in begun)
    changed = {path for path in first if not np.array_equal(first[path], third[path])}
    assert changed == head
    last = weights(tmp_path / "run" / "model-last.keras")
    assert all(not np.array_equal(last[path], third[path]) for path in last if path.endswith(("_conv/kernel", "mean")))
    assert [rate for _, _, rate in begun] == pytest.approx([0.05] * 3)  # each phase has a schedule of its own
    assert [row["learning_rate"] for row in result.history] == pytest.approx([0.025, 0, 0], abs=1e-8)
    frozen = [sentence for sentence in heard.sentences if "are frozen" in sentence]
    assert len(frozen) == 1
    assert frozen[0].startswith("epochs 1 to 2: ")


def test_sizes_that_grow_and_classes_that_count_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    y_train, y_val = np.array([0] * 12 + [1] * 3 + [2] * 1), np.arange(6) % 3
    arrays = {
        f"x_{s}": generator.integers(0, 256, (len(y), 48, 40, 3), dtype=np.uint8)
        for s, y in (("train", y_train), ("val", y_val))
    }
    np.savez(tmp_path / "data.npz", **arrays, y_train=y_train, y_val=y_val)
    seen = []

    def batches(*arguments: Any, **options: Any) -> Any:
        dataset = training_batches(*arguments, **options)
        seen.extend(dataset)
        return dataset

    monkeypatch.setattr(fit, "training_batches", batches)
    recipe = tiny(tmp_path / "data.npz", epochs=3, progressive_sizes=(32, 40), size=48, class_weights="balanced")
    fit.train(recipe, tmp_path / "run")
    assert [tuple(images.shape) for images, _, _ in seen] == [(16, side, side, 3) for side in (32, 40, 48)]
    for _, labels, factors in seen:
        of_class = np.array([16 / (3 * 12), 16 / (3 * 3), 16 / (3 * 1)])
        np.testing.assert_allclose(factors, of_class[np.argmax(labels, 1)], rtol=1e-6)
        assert np.mean(factors) == pytest.approx(1)
    assert read_model_description(tmp_path / "run" / "model.keras").contract.size == 48  # type: ignore[union-attr]
    assert keras.saving.load_model(tmp_path / "run" / "model.keras").input_shape == (None, 48, 48, 3)


def test_low_precision_trains_a_model_of_float32(data: Path, run: Run, tmp_path: Path) -> None:
    recipe = tiny(data, precision="mixed_bfloat16", epochs=1, seed=3, ema_momentum=0.5)
    heard = Heard()
    result = fit.train(recipe, tmp_path / "run", heard)
    assert "training on 1 CPU, mixed_bfloat16, Keras on tensorflow" in heard.sentences
    exact = run.heard.standings[0].figures["loss"]
    assert heard.standings[0].figures["loss"] == pytest.approx(exact, rel=0.02)
    assert heard.standings[0].figures["loss"] != exact
    assert math.isfinite(result.history[0]["val_loss"])
    model = keras.saving.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert {str(variable.dtype) for variable in model.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"  # as it was before


# What ends a run.


def test_a_loss_that_is_not_finite_ends_the_run_at_its_step(data: Path, tmp_path: Path) -> None:
    recipe = tiny(data, learning_rate=1e30, epochs=3, checkpoint_steps=1, warmup_epochs=0.0)
    with pytest.raises(TrainingError, match=r"^step 2 \(epoch 1\): the loss is (nan|inf)\. The last checkpoint is "):
        fit.train(recipe, tmp_path / "run")
    path, progress, damaged = read_progress(tmp_path / "run" / CHECKPOINTS)
    assert (path.name, progress.step, damaged) == ("step-000000001.safetensors", 1, [])
    assert all(np.isfinite(value).all() for value in load_file(path).values())
    assert not (tmp_path / "run" / "model.keras").exists()


def test_more_unreadable_files_than_allowed_end_the_run(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    for split, count in (("train", 8), ("val", 2)):
        for name in "ab":
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                picture = Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8))
                picture.save(folder / f"{index}.jpg")
    broken = [tmp_path / "data" / "train" / name for name in ("a/3.jpg", "b/1.jpg", "b/2.jpg")]
    for path in broken:
        path.write_bytes(b"\xff\xd8 this is no picture")
    keys = {"epochs": 1, "batch_size": 8, "warmup_epochs": 0.0}
    heard = Heard()
    with pytest.raises(TrainingError) as raised:
        fit.train(tiny(tmp_path / "data", problem_limit=2, **keys), tmp_path / "run", heard)
    assert len(heard.standings) < 2  # at the step, not at the end of the epoch
    message = str(raised.value)
    assert message.startswith("3 files can't be read, more than problem_limit = 2 allows; first ")
    assert message.endswith("problem_images.csv in the run directory lists them")
    with (tmp_path / "run" / "problem_images.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["used"] for row in rows} == {"False"}
    names = [row["name"] for row in rows]
    assert len(names) == 3
    assert all(any(str(path).endswith(name) for name in names) for path in broken)
    assert names[0] in message
    assert rows[0]["reason"] in message
    # One more is allowed: the run continues without them.
    result = fit.train(tiny(tmp_path / "data", problem_limit=3, **keys), tmp_path / "other")
    assert result.complete
    listed = tmp_path / "other" / "problem_images.csv"
    told = listed.read_text()
    assert told.count("\n") == 1 + 3
    # The checkpoint knows them as well.
    listed.unlink()
    fit.resume(tmp_path / "other")
    assert listed.read_text() == told


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"batch_size": 49}, "batch_size must be at most the 48 training images. Received: 49"),
        ({"classes": 4}, "has 3 classes. Received: classes = 4"),
        ({"data": ""}, "the recipe names no images; give --data, or the key `data`"),
        ({"data": "absent"}, "Received: absent, which is no such file or folder"),
        ({"devices": 5}, "devices = 5, but this machine has 1 CPU: /device:CPU:0"),
    ],
)
def test_a_setting_that_does_not_fit_is_named_before_anything_is_made(
    keys: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError) as raised:
        fit.train(tiny(**{"data": data} | keys), tmp_path / "run")
    assert message in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_set_that_is_smaller_than_the_default_batch_gets_a_smaller_one(data: Path, tmp_path: Path) -> None:
    keys = {"network": "resnet20", "size": 32, "crop": "padded", "epochs": 1, "warmup_epochs": 0.5, "data": str(data)}
    run = Run(read_recipe(None, keys | {"xla": "off"}), tmp_path / "run")
    taken = "batch_size = 8 and learning_rate = 0.003125 instead of 256 and 0.1"
    assert f"{taken}, for 48 training images (--batch-size sets another)" in run.heard.sentences
    assert run.heard.standings[-1].steps == 6
    kept = read_recipe(tmp_path / "run" / "recipe.toml")
    assert (kept.batch_size, kept.learning_rate, kept.unstated) == (8, 0.003125, frozenset())
    assert run.result.recipe == kept


def test_a_disk_that_is_full_for_the_model_leaves_the_checkpoints(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fit, "save_model", full)
    message = r"^step 1: model\.keras can't be written \(\[Errno 28\] No space left on device\)\. The checkpoints stay"
    recipe = tiny(data, batch_size=48, epochs=1, warmup_epochs=0.0)
    with pytest.raises(TrainingError, match=message):
        fit.train(recipe, tmp_path / "run")
    assert read_progress(tmp_path / "run" / CHECKPOINTS)[1].step == 0
    monkeypatch.undo()
    result = fit.resume(tmp_path / "run")
    assert result.complete
    assert (tmp_path / "run" / "model.keras").exists()


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(data: Path, tmp_path: Path) -> None:
    recipe = tiny(data, epochs=1, warmup_epochs=0.0)
    run = tmp_path / "run"
    run.mkdir()
    (run / ".recipe.toml.0123456789abcdef.partial").touch()  # left by one that was killed while it noted its recipe
    with pytest.raises(KeyboardInterrupt), run_directory.claimed(run, recipe, TrainingProgress()):
        raise KeyboardInterrupt
    heard = Heard()
    assert fit.resume(run, heard).complete
    assert any("starts again" in sentence for sentence in heard.sentences)
    assert [row["step"] for row in read_progress(run / CHECKPOINTS)[1].history] == [3]


def test_a_start_that_failed_lets_the_corrected_command_have_the_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the network is there, and in the first step."""

    def too_large(*_: Any, **__: Any) -> None:
        assert [path.name for path in checkpoints(run / CHECKPOINTS)] == ["step-000000000.safetensors"]
        raise MemoryError("the batch is too large")

    recipe, run = tiny(data, epochs=1, warmup_epochs=0.0), tmp_path / "run"
    with pytest.raises(WeightsError, match="names a file that does not exist"):
        fit.train(replace(recipe, weights="absent.safetensors"), run)
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(fit, "training_batches", too_large)
        with pytest.raises(MemoryError):
            fit.train(recipe, run)
    assert list(tmp_path.iterdir()) == []
    assert fit.train(recipe, run).complete


def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    shutil.rmtree(folder / CHECKPOINTS)
    with pytest.raises(TrainingError, match="no readable checkpoint to continue from"):
        fit.resume(folder)
    assert (folder / "model.keras").read_bytes() == (run.folder / "model.keras").read_bytes()
