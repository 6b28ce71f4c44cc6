"""One seeded ResNet-18 as a state dict, as a file, loaded, and trained for a step."""

from pathlib import Path

import keras
import numpy as np
import pytest
from resnet18_files import SHAPE, resnet18_state
from safetensors.numpy import save_file

from keras_resnet.models import ResNet18


@pytest.fixture(scope="session")
def state() -> dict[str, np.ndarray]:
    return resnet18_state()


@pytest.fixture(scope="session")
def file(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "r18.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="session")
def loaded(file) -> keras.Model:
    return ResNet18(weights=file, input_shape=SHAPE, classifier_activation=None)


@pytest.fixture(scope="session")
def small() -> keras.Model:
    """A network to load into where the file is at fault; it must stay as it is."""
    return ResNet18(input_shape=SHAPE)


@pytest.fixture(scope="session")
def trained(loaded) -> keras.Model:
    """Compiled, with an optimizer's state to be left aside, and layers frozen, which must not change the order."""
    model = keras.models.clone_model(loaded)
    model.set_weights(loaded.get_weights())
    model.get_layer("stem_bn").trainable = False
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=True)  # a single step is not worth its compilation
    model.fit(np.random.default_rng(2).uniform(0, 255, (4, *SHAPE)), np.arange(4), verbose=0)
    return model


@pytest.fixture(scope="session")
def other(small) -> keras.Model:
    return keras.models.clone_model(small)


@pytest.fixture
def blank(other) -> keras.Model:
    """A network to load into, whose values are all zero at the start of each test."""
    other.set_weights([np.zeros_like(weight) for weight in other.get_weights()])
    return other
