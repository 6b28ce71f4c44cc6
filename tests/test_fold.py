"""Folding: the same function in fewer operations."""

import keras
import numpy as np
import pytest
from small_classifier import small_classifier

import keras_resnet
from keras_resnet.export.fold import ConstantPadding2D, Shift, fold
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.prepare import prepare
from keras_resnet.graph import copy, rebuild
from keras_resnet.preprocessing import normalisation_layer


def relative_error(model, folded, images):
    expected = np.asarray(model(images, training=False))
    return np.abs(np.asarray(folded(images, training=False)) - expected).max() / np.abs(expected).max()


def kinds(model):
    return {type(layer) for layer in model.layers}


@pytest.mark.parametrize("build", [small_classifier, lambda: keras_resnet.ResNet18(input_shape=(64, 96, 3), classes=7)])
def test_batch_norm_and_normalisation_vanish_and_the_answers_stay(build, randomise):
    prepared = prepare(randomise(build()))
    folded = fold(prepared)
    assert not kinds(folded) & {keras.layers.BatchNormalization, keras.layers.Rescaling}
    assert ConstantPadding2D in kinds(folded)
    # Measured: 1e-6.
    assert relative_error(prepared, folded, synthetic_images(prepared.inputs[0].shape[1:], 5)) < 5e-6


def test_where_the_size_is_free_the_mean_is_subtracted(randomise):
    prepared = prepare(randomise(small_classifier()), any_size=True)
    folded = fold(prepared)
    assert Shift in kinds(folded)
    assert relative_error(prepared, folded, synthetic_images((48, 40, 3), 3)) < 5e-6


@pytest.mark.parametrize(
    ("padding", "strides", "size"), [("same", 1, 3), ("valid", 2, 3), ("same", 2, 3), ("same", 1, 4)]
)
def test_stems_of_other_kinds(padding, strides, size, randomise):
    """A stem that pads symmetrically is folded; one that does not keeps its normalisation."""
    image = keras.Input((32, 40, 3), name="image")
    x = keras.layers.Conv2D(5, size, strides=strides, padding=padding)(normalisation_layer(3)(image))
    x = keras.layers.BatchNormalization()(x)
    model = randomise(keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)))
    folded = fold(model)
    symmetric = padding == "valid" or (strides == 1 and size % 2)
    assert (keras.layers.Rescaling in kinds(folded)) == (not symmetric)
    assert relative_error(model, folded, synthetic_images((32, 40, 3), 3)) < 5e-6


def test_a_nonlinearity_before_batch_norm_is_not_folded(randomise):
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(5, 3, activation="relu")(normalisation_layer(3)(image))
    model = randomise(keras.Model(image, keras.layers.BatchNormalization()(x)))
    folded = fold(model)
    assert keras.layers.BatchNormalization in kinds(folded)
    assert relative_error(model, folded, synthetic_images((32, 32, 3), 3)) < 5e-6


def test_a_rebuilt_network_draws_no_random_weights_but_keeps_its_initializers(randomise, monkeypatch):
    model = randomise(small_classifier())
    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", lambda *args, **kwargs: pytest.fail("drawn"))
    again = rebuild(model)
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    for before, after in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_layers_that_are_new_in_a_rebuilt_network_keep_their_random_weights():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="old")])
    model = keras.Model(model.inputs, model.outputs)

    def exchange(layer):
        return keras.layers.Dense(3, name="new") if layer.name == "old" else copy(layer)

    assert np.abs(rebuild(model, exchange).get_layer("new").kernel).min() > 0
