"""Images between two classes, and the check of an artifact's answers on them."""

import keras
import numpy as np
import pytest

from keras_resnet import inference
from keras_resnet.export.boundary import COUNT, boundary_check, boundary_of


@pytest.fixture(scope="module")
def model():
    """A classifier that is sure of most images: each class weighs other places of the image."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(image))
    model = keras.Model(image, x)
    kernel = np.random.default_rng(3).normal(0, 0.02, (192, 3))
    model.set_weights([kernel, -127.5 * kernel.sum(0)])
    return model


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 8, 8, 3)).astype("uint8")


def test_the_images_lie_between_two_classes(model):
    images = pixels(1)
    answers = inference.predict(model, images)
    found = boundary_of(model, images, answers)
    np.testing.assert_allclose(inference.predict(model, found.images), found.probabilities, rtol=1e-5, atol=1e-6)
    assert found.images.dtype == np.uint8
    assert len(np.unique(answers.argmax(axis=1))) > 1

    def margin(values):
        ranked = np.sort(values, axis=1)
        return float(np.median(ranked[:, -1] - ranked[:, -2]))

    assert len(found.images) <= COUNT
    assert margin(found.probabilities) < 0.25 * margin(answers)
    again = boundary_of(model, images, answers)
    np.testing.assert_array_equal(again.images, found.images)


def test_images_of_one_class_have_no_boundary(model):
    images = pixels(2)[:4]
    assert boundary_of(model, images, np.tile([0.1, 0.2, 0.7], (4, 1))) is None


def test_the_check_measures_the_two_best_classes():
    expected = np.array([[0.5, 0.1, 0.4], [0.2, 0.45, 0.35]])
    answers = expected + np.array([[0.1, 9, -0.3], [9, 0.2, 0]])
    check = boundary_check(answers, expected, 0.2)
    assert check.measured == f"{np.sqrt((0.1**2 + 0.3**2 + 0.2**2) / 4):.3g} on 2 images between two classes"
    assert (check.passed, boundary_check(answers, expected, 0.18).passed) == (True, False)
