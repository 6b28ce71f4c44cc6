"""Frozen layers: how many, and that training leaves them as they were, BatchNorm statistics included."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.freezing import FREEZABLE_LEVELS, Frozen, freeze, freeze_batch_norm

CLASSES = 7


def counts(through: str) -> tuple[int, int, int, int]:
    """ResNet-18 from its paper: layers, BatchNorm layers, parameters up to a level, and trained ones above it."""
    convolutions = {"stem": [(7, 3, 64)]}
    for level, width in zip(FREEZABLE_LEVELS[1:], (64, 128, 256, 512), strict=True):
        first = width if level == "C2" else width // 2
        convolutions[level] = [(3, first, width), *[(3, width, width)] * 3, *([(1, first, width)] * (level != "C2"))]
    kernels = {level: [k * k * i * o for k, i, o in shapes] for level, shapes in convolutions.items()}
    channels = {level: [o for _, _, o in shapes] for level, shapes in convolutions.items()}
    below = FREEZABLE_LEVELS[: FREEZABLE_LEVELS.index(through) + 1]
    number = sum(len(kernels[level]) for level in below)
    frozen = sum(sum(kernels[level]) + 4 * sum(channels[level]) for level in below)
    trained = sum(sum(kernels[level]) + 2 * sum(channels[level]) for level in FREEZABLE_LEVELS if level not in below)
    return 2 * number, number, frozen, trained + 512 * CLASSES + CLASSES


def network(**keys: Any) -> keras.Model:
    return keras_resnet.ResNet18(input_shape=(32, 32, 3), classes=CLASSES, **keys)


@pytest.fixture(scope="module")
def untouched(randomise: Any) -> keras.Model:
    """Of which the tests take clones."""
    return randomise(network(), seed=3)


@pytest.fixture
def eager() -> Iterator[None]:
    """Steps without compilation, which takes longer than one of them."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def clone(model: keras.Model) -> keras.Model:
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


def changed_by_a_step(model: keras.Model) -> set[str]:
    """-> paths of the weights that one step of `fit` changes."""
    generator = np.random.default_rng(5)
    images = generator.integers(0, 256, (4, 32, 32, 3)).astype("float32")
    before = {variable.path: np.array(variable) for variable in model.weights}
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    model.fit(images, np.arange(4), batch_size=4, verbose=0)
    return {
        variable.path for variable in model.weights if not np.array_equal(np.array(variable), before[variable.path])
    }


@pytest.mark.parametrize("through", FREEZABLE_LEVELS)
def test_what_each_level_freezes(through: str, untouched: keras.Model) -> None:
    model = clone(untouched)
    frozen = freeze(model, through=through)
    assert (frozen.layers, frozen.batch_norm_layers, frozen.parameters, frozen.trainable_parameters) == counts(through)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == counts(through)[3]
    assert str(frozen).startswith(f"{frozen.layers} layers with {frozen.parameters:,} parameters are frozen, among ")
    assert f"{frozen.batch_norm_layers} BatchNorm layers, which run in inference mode" in str(frozen)


@pytest.mark.usefixtures("eager")
def test_training_leaves_frozen_weights_and_statistics_as_they_were_to_the_bit(untouched: keras.Model) -> None:
    model = clone(untouched)
    freeze(model, through="C4")
    changed = changed_by_a_step(model)
    above = {variable.path for variable in model.weights if variable.path.startswith(("stage5_", "logits/"))}
    assert changed == above
    assert any(path.endswith("moving_mean") for path in changed)


@pytest.mark.usefixtures("eager")
def test_frozen_batch_norm_leaves_convolutions_to_train(untouched: keras.Model) -> None:
    model = clone(untouched)
    frozen = freeze_batch_norm(model)
    norms = {variable.path for variable in model.weights if "_bn/" in variable.path}
    assert (frozen.layers, frozen.batch_norm_layers) == (20, 20)
    assert len(norms) == 4 * 20
    assert changed_by_a_step(model) == {variable.path for variable in model.weights} - norms


def test_a_frozen_batch_norm_normalises_with_its_stored_statistics(untouched: keras.Model) -> None:
    model = clone(untouched)
    images = np.random.default_rng(6).integers(0, 256, (3, 32, 32, 3)).astype("float32")
    inference = np.array(model(images, training=False))
    assert np.abs(np.array(clone(model)(images, training=True)) - inference).max() > 1e-3
    freeze(model, through="C5")
    for batch in (3, 2):
        np.testing.assert_allclose(model(images[:batch], training=True), inference[:batch], rtol=1e-5, atol=1e-6)


def test_freezing_is_public_and_adds_to_what_is_frozen(untouched: keras.Model) -> None:
    assert keras_resnet.freeze is freeze
    model = clone(untouched)
    stem = keras_resnet.freeze(model, through="stem")
    both = freeze(model, through="C3")
    assert both == Frozen(*counts("C3"))
    assert freeze(model, through="stem") == both  # leaves what is above as it is
    assert stem == Frozen(*counts("stem"))
    assert freeze(clone(untouched)) == Frozen(*counts("C5"))


def test_a_network_without_a_head_can_be_frozen() -> None:
    frozen = freeze(network(include_top=False), through="C5")
    assert frozen.parameters == counts("C5")[2]
    assert frozen.trainable_parameters == 0


def test_an_unknown_level_and_another_network_are_named() -> None:
    with pytest.raises(ValueError, match=r"`through` must be one of \('stem', 'C2', .*\)\. Received: through='C6'"):
        freeze(network(), through="C6")
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense_a")], name="other")
    with pytest.raises(ValueError, match=r"must be a ResNet of this package.*model='other' with layers \['dense_a'\]"):
        freeze(other)
