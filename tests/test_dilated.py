"""Convolutions that read padding: kernels cut and computed in parts, with equal answers."""

import keras
import numpy as np
import pytest

from keras_resnet.export.dilated import in_one_operation, in_parts, share_on_map
from keras_resnet.export.fold import fold
from keras_resnet.export.quantize import float_layers, quantize
from keras_resnet.facts import state
from keras_resnet.preprocessing import normalisation_layer

CASES = [  # height and width of the map, kernel, rates, kernel that reaches the map
    ((6, 9), 3, 7, (1, 3)),
    ((9, 6), 3, 7, (3, 1)),
    ((5, 5), 3, 5, (1, 1)),
    ((5, 8), 3, 4, (3, 3)),
    ((7, 10), 5, 3, (5, 5)),
    ((7, 6), 5, (3, 6), (5, 1)),
    ((1, 2), 3, 1, (1, 3)),
    ((7, 4), (3, 5), (6, 2), (3, 3)),
]


def network(size, kernel, rate, **kwargs):
    image = keras.Input((*size, 4), name="image")
    x = keras.layers.Conv2D(5, kernel, padding="same", dilation_rate=rate, name="far", **kwargs)(image)
    x = keras.layers.BatchNormalization(name="far_bn")(x)
    return keras.Model(image, keras.layers.ReLU(name="far_relu")(x))


def answers(model, count):
    pixels = np.random.default_rng(count).normal(0.3, 1, (count, *model.inputs[0].shape[1:])).astype("float32")
    return np.asarray(model(pixels, training=False))


def assert_equal_answers(changed, model):
    for count in (1, 3):
        expected = answers(model, count)
        assert expected.std() > 0.1
        np.testing.assert_allclose(answers(changed, count), expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("size", "kernel", "rate", "reaching"), CASES)
def test_a_kernel_keeps_what_reaches_the_map(size, kernel, rate, reaching, randomise):
    model = randomise(network(size, kernel, rate))
    folded = fold(model)
    assert folded.get_layer("far").kernel.shape == (*reaching, 4, 5)
    assert_equal_answers(folded, model)


def test_a_convolution_with_an_activation_is_not_summed_in_parts(randomise):
    model = fold(randomise(network((5, 8), 3, 4, activation="relu")))
    assert_equal_answers(in_parts(model, largest_share=1), model)


@pytest.mark.parametrize(("size", "kernel", "rate", "reaching"), CASES)
def test_parts_sum_to_the_convolution(size, kernel, rate, reaching, randomise):
    model = fold(randomise(network(size, kernel, rate)))
    parts = in_parts(model, largest_share=1)
    dilated = max(model.get_layer("far").dilation_rate) > 1
    count = sum(isinstance(layer, keras.layers.Conv2D) for layer in parts.layers)
    assert count == (np.prod(reaching) if dilated else 1)
    assert parts.count_params() == model.count_params()
    assert_equal_answers(parts, model)


def test_only_convolutions_that_read_much_padding_are_split(randomise):
    model = fold(randomise(network((28, 28), 3, 12)))
    share = share_on_map(model.get_layer("far"))
    assert share == pytest.approx((28 + 16 + 16) ** 2 / (3 * 28) ** 2)
    assert in_parts(model, share - 0.01) is model
    assert in_parts(model, share) is not model


@pytest.mark.parametrize(
    "changes",
    [{"padding": "valid", "rate": 2}, {"rate": 1, "strides": 2}, {"kernel": 4, "rate": 6}],
    ids=["valid", "strides", "even"],
)
def test_other_convolutions_stay(changes, randomise):
    settings = {"size": (6, 6), "kernel": 3, "rate": 7, **changes}
    image = keras.Input((*settings.pop("size"), 4), name="image")
    kernel, rate = settings.pop("kernel"), settings.pop("rate")
    convolution = keras.layers.Conv2D(5, kernel, dilation_rate=rate, name="far", **{"padding": "same", **settings})
    model = randomise(keras.Model(image, convolution(image)))
    folded = fold(model)
    assert folded.get_layer("far").kernel_size == convolution.kernel_size
    assert in_parts(folded, largest_share=1) is folded
    assert_equal_answers(folded, model)


def test_where_the_size_is_free_nothing_is_cut(randomise):
    model = randomise(network((None, 6), 3, 7))
    folded = fold(model)
    assert folded.get_layer("far").kernel_size == (3, 3)
    assert in_parts(folded, largest_share=1) is folded


@pytest.mark.parametrize("size", [(9, 7), (None, None)])
def test_a_dilated_convolution_is_one_operation(size, randomise):
    import tensorflow as tf

    model = fold(randomise(network(size, 3, 2)))
    one = in_one_operation(model)
    pixels = np.random.default_rng(0).normal(size=(2, 9, 7, 4)).astype("float32")
    np.testing.assert_allclose(np.asarray(one(pixels)), np.asarray(model(pixels)), atol=1e-5)
    graph = tf.function(one).get_concrete_function(tf.TensorSpec((None, *size, 4))).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "Conv2D" in kinds
    assert "SpaceToBatchND" not in kinds


def test_integers_are_those_of_the_cut_kernel(randomise):
    """Ranges and names of float layers belong to the layers of the network."""
    image = keras.Input((6, 6, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="valid", name="stem")(normalisation_layer(3)(image))
    x = keras.layers.Conv2D(5, 3, padding="same", dilation_rate=4, name="far")(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="far_relu")(x))
    x = keras.layers.Dense(3, name="logits")(x)
    model = randomise(keras.Model(image, keras.layers.Activation("softmax", name="probabilities")(x)))
    state(model, output_kind="probabilities")
    folded = fold(model)
    images = np.random.default_rng(0).integers(0, 256, (64, 6, 6, 3), "uint8")
    quantized = quantize(folded, images, ranges="minmax", keep_float=float_layers(folded, ["relu"]))
    assert quantized.model.get_layer("far").kernel_size == (1, 1)
    assert {"far_relu", "relu"} <= set(quantized.ranges)
    assert quantized.keep_float == ("stem", "relu")
    whole, rounded = (np.asarray(m(images.astype("float32"))) for m in (model, quantized.simulate()))
    assert np.abs(whole - rounded).max() < 0.05
    assert whole.std() > 0.05
