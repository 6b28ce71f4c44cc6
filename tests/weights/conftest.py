"""One seeded ResNet-18 as a state dict, as a file, loaded, and trained for a step."""

from pathlib import Path

import keras
import numpy as np
import pytest
from resnet18_files import SHAPE, resnet18_state
from safetensors.numpy import save_file

from keras_resnet.models import ResNet18


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return resnet18_state()


@pytest.fixture(scope="module")
def file(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "r18.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def loaded(file) -> keras.Model:
    return ResNet18(weights=file, input_shape=SHAPE, classifier_activation=None)


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """A network to load into where the file is at fault; it must stay as it is."""
    return ResNet18(input_shape=SHAPE)


@pytest.fixture(scope="module")
def trained(loaded) -> keras.Model:
    """Compiled, with an optimizer's state to be left aside, and layers frozen, which must not change the order."""
    model = keras.models.clone_model(loaded)
    model.set_weights(loaded.get_weights())
    model.get_layer("stem_bn").trainable = False
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.default_rng(2).uniform(0, 255, (4, *SHAPE)), np.arange(4), verbose=0)
    return model
