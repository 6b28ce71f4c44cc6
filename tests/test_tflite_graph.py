"""Models as the TFLite converter gets them: the same function, in operators that run faster."""

import keras
import numpy as np
import pytest
from small_classifier import small_classifier

import keras_resnet
from keras_resnet.compress.fake_quant import FakeQuantizedConv2D
from keras_resnet.export.fold import fold
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.prepare import prepare
from keras_resnet.export.quantize import quantize
from keras_resnet.export.tflite_graph import for_xnnpack


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("build", [small_classifier, lambda: keras_resnet.ResNet18(input_shape=(64, 96, 3), classes=7)])
def test_the_answers_stay(build, integers, randomise):
    model = fold(prepare(randomise(build())))
    images = synthetic_images(model.inputs[0].shape[1:], 5)
    if integers:
        model = quantize(model, images, ranges="minmax").simulate()
    changed = for_xnnpack(model)
    assert ("stem_conv_blocks" in [layer.name for layer in changed.layers]) == integers
    expected, answers = np.asarray(model(images, training=False)), np.asarray(changed(images, training=False))
    # A value on the edge of two steps may take the other one: of 256, from 0 to 1.
    np.testing.assert_allclose(answers, expected, atol=2 / 256 if integers else 2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "channels", "reads_blocks"),
    [
        ((32, 40), 7, 2, 3, True),
        ((32, 40), 3, 2, 1, True),
        ((33, 40), 7, 2, 3, False),  # half of a block would be left
        ((32, 40), 4, 2, 3, False),
        ((32, 40), 7, 1, 3, False),
        ((32, 40), 3, 2, 16, False),
    ],
)
def test_which_convolutions_read_blocks(size, kernel, strides, channels, reads_blocks, randomise):
    image = keras.Input((*size, channels))
    model = randomise(keras.Model(image, FakeQuantizedConv2D(5, kernel, strides=strides, name="stem")(image)))
    changed = for_xnnpack(model)
    assert ("stem_blocks" in [layer.name for layer in changed.layers]) == reads_blocks
    pixels = np.random.default_rng(1).normal(size=(2, *size, channels)).astype("f")
    expected = np.asarray(model(pixels, training=False))
    np.testing.assert_allclose(
        np.asarray(changed(pixels, training=False)), expected, atol=1e-5 * np.abs(expected).max()
    )
