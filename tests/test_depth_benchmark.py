"""`benchmarks/depth.py`: its networks, its recipe, and a run that is killed and continued."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import typer

import keras_resnet
from keras_resnet.optional import require

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def depth() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])  # as for `python benchmarks/depth.py`
        return importlib.import_module("depth")


def shapes(model: keras.Model) -> dict[str, tuple[int, ...]]:
    return {variable.path: tuple(variable.shape) for variable in model.weights}


def test_the_residual_network_is_the_public_one_and_the_plain_one_lacks_its_shortcuts_alone(depth: ModuleType) -> None:
    public = keras_resnet.ResNet20(classifier_activation=None)
    residual, plain = (depth.network(20, kind) for kind in (True, False))
    # Keras sorts layers by depth, so that names are compared without their order.
    assert {layer.name for layer in residual.layers} == {layer.name for layer in public.layers}
    assert shapes(residual) == shapes(plain) == shapes(public)
    shortcuts = {layer.name for layer in residual.layers} - {layer.name for layer in plain.layers}
    assert len(shortcuts) == 9 + 2 * 2
    assert all("add" in name or "shortcut" in name for name in shortcuts)
    # The same function as the public network, once its scales are the same.
    public.set_weights(residual.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    answers = np.asarray(residual(images))
    np.testing.assert_allclose(answers, public(images), rtol=1e-5, atol=1e-5)
    assert np.abs(answers - np.asarray(plain(images))).max() > 0.01
    for layer in plain.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            np.testing.assert_array_equal(layer.gamma, 1)


def test_plain_and_residual_start_from_the_same_weights(depth: ModuleType) -> None:
    weights = []
    for residual in (True, False):
        keras.utils.set_random_seed(3)
        model = depth.network(8, residual)
        weights.append({variable.path: np.asarray(variable) for variable in model.weights})
    for path, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][path], err_msg=path)


def test_augmentation_shuffles_mirrors_and_shifts(depth: ModuleType) -> None:
    pixels = np.random.default_rng(1).integers(1, 256, (40, 32, 32, 3), dtype=np.uint8)
    given = (pixels, np.arange(40))
    images, classes = depth.augmented(given, seed=0, epoch=0)
    assert images.dtype == np.uint8
    assert sorted(classes) == list(range(40))
    seen = set()
    for image, index in zip(images, classes, strict=True):
        padded = np.pad(pixels[index], ((4, 4), (4, 4), (0, 0)))
        ways = [
            (top, left, mirrored)
            for mirrored in (False, True)
            for top in range(9)
            for left in range(9)
            if np.array_equal(image[:, ::-1] if mirrored else image, padded[top : top + 32, left : left + 32])
        ]
        assert len(ways) == 1
        seen.add(ways[0])
    assert {mirrored for *_, mirrored in seen} == {False, True}
    assert min(top for top, _, _ in seen) < 2 < 6 < max(top for top, _, _ in seen)
    np.testing.assert_array_equal(depth.augmented(given, seed=0, epoch=0)[0], images)
    assert not np.array_equal(depth.augmented(given, seed=0, epoch=1)[0], images)


def test_the_learning_rate_rises_and_falls(depth: ModuleType) -> None:
    model = depth.network(8, False)
    depth.compile_model(model, epochs=20, steps=4)
    schedule = model.optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 10, 20, 50, 80)]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.05, 0], atol=1e-6)


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """Of the command: 40 training and 20 test images."""
    generator = np.random.default_rng(2)
    for name, count in (("train", 40), ("test", 20)):
        x = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(count, dtype=np.uint8) % 10)
    return {"train": tmp_path / "train.npz", "test": tmp_path / "test.npz", "depths": "8", "epochs": 3, "seeds": 1}


@pytest.fixture
def eager() -> Iterator[None]:
    """Steps without compilation, which takes longer than these few."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def results(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())["results"]
    for runs in content.values():
        for rows in runs.values():
            for row in rows:
                del row["train_seconds"]
    return content


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_killed_run_goes_on_where_it_was(
    depth: ModuleType, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("matplotlib", "plots")
    depth.main(**arguments, out=tmp_path / "whole.json")
    whole = results(tmp_path / "whole.json")
    assert set(whole) == {"plain8", "residual8"}
    assert [row["epoch"] for row in whole["residual8"]["0"]] == [1, 2, 3]
    assert (tmp_path / "whole.png").read_bytes().startswith(b"\x89PNG")

    written = depth.write_record
    trained = []

    def killed(*record: Any) -> None:
        written(*record)
        if len(record[3]["residual8"]["0"]) == 2:  # recorded, and not yet checkpointed
            raise KeyboardInterrupt

    out = tmp_path / "parts.json"
    with monkeypatch.context() as patch:
        patch.setattr(
            depth, "write_record", lambda *record: killed(*record) if "residual8" in record[3] else written(*record)
        )
        with pytest.raises(KeyboardInterrupt):
            depth.main(**arguments, out=out)
    augmented = depth.augmented
    monkeypatch.setattr(depth, "augmented", lambda *given: trained.append(given[2]) or augmented(*given))
    depth.main(**arguments, out=out)
    assert trained == [1, 2]  # the plain network and the first epoch are not done again
    parts = results(out)
    for name, runs in whole.items():
        for expected, row in zip(runs["0"], parts[name]["0"], strict=True):
            assert row == pytest.approx(expected, rel=1e-4), name
    assert not list(tmp_path.glob(".*"))

    with pytest.raises(typer.BadParameter, match="a record of other settings"):
        depth.main(**{**arguments, "epochs": 4}, out=out)


@pytest.mark.parametrize("depths", ["21", "20,x", "", "2"])
def test_impossible_depths_are_refused(
    depth: ModuleType, arguments: dict[str, Any], tmp_path: Path, depths: str
) -> None:
    with pytest.raises(typer.BadParameter, match="numbers of layers 6n"):
        depth.main(**{**arguments, "depths": depths}, out=tmp_path / "out.json")
