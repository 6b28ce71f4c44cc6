"""Ranges, rounding, and models of quantization-aware training."""

import keras
import numpy as np
import pytest
from small_classifier import small_classifier

from keras_resnet.compress import quantize_aware
from keras_resnet.compress.fake_quant import rounded
from keras_resnet.errors import ExportError
from keras_resnet.export import export
from keras_resnet.export.fold import fold
from keras_resnet.export.images import calibration_images, synthetic_images
from keras_resnet.export.prepare import prepare
from keras_resnet.export.quantize import activation_ranges, float_layers, quantize

IMAGES = synthetic_images((32, 32, 3), count=40, seed=8)


@pytest.fixture(scope="module")
def folded(randomise):
    return fold(prepare(randomise(small_classifier(), seed=4)))


def test_minimum_and_maximum_are_those_of_the_outputs(folded):
    ranges = activation_ranges(folded, IMAGES, "minmax")
    for name in ("stem_relu", "stage2_block1_2_conv", "pool"):
        values = keras.Model(folded.input, folded.get_layer(name).output).predict(IMAGES, verbose=0)
        np.testing.assert_allclose(ranges[name], (min(values.min(), 0), values.max()), rtol=1e-4)
    assert "stem_conv" not in ranges  # its ReLU is fused


def test_least_squares_clips_and_stays_within(folded):
    whole, clipped = (activation_ranges(folded, IMAGES, method) for method in ("minmax", "mse"))
    widths = {name: (clipped[name][1] - clipped[name][0]) / (high - low) for name, (low, high) in whole.items()}
    assert max(widths.values()) <= 1 + 1e-6
    assert 0.3 < min(widths.values()) < 0.95


def test_kernels_lie_on_their_grid_and_the_mean_output_stays(folded):
    quantized = quantize(folded, IMAGES)
    kernel, bias = folded.get_layer("stage2_block1_2_conv").get_weights()
    after, corrected = quantized.model.get_layer("stage2_block1_2_conv").get_weights()
    step = np.abs(kernel).max(axis=(0, 1, 2)) / 127
    np.testing.assert_allclose(after / step, np.round(after / step), atol=1e-3)
    np.testing.assert_array_equal(after, rounded(kernel))
    before = keras.Model(folded.input, folded.get_layer("stage2_block1_2_conv").input).predict(IMAGES, verbose=0)
    shift = np.einsum("hwio,i->o", after.astype("float64") - kernel, before.mean(axis=(0, 1, 2), dtype="float64"))
    assert np.abs(shift).max() > 1e-5
    np.testing.assert_allclose(bias - corrected, shift, atol=1e-5)


def test_a_layer_that_stays_float_takes_its_relu_along(folded):
    both = ("stage2_block1_1_conv", "stage2_block1_1_relu")
    assert float_layers(folded, ["stage2_block1_1_conv"]) == float_layers(folded, ["stage2_block1_1_relu"]) == both
    with pytest.raises(ExportError, match=r"Received: 'stem_convs'. Did you mean stem_conv"):
        float_layers(folded, ["stem_convs"])


def test_calibration_says_what_it_took_and_refuses_what_proves_nothing(tmp_path):
    drawn = calibration_images(IMAGES, None, (32, 32, 3), count=33, seed=5)
    assert (drawn.seed, len(drawn.images), len(drawn.sha256)) == (5, 33, 64)
    assert calibration_images(IMAGES, None, (32, 32, 3), count=33, seed=6).sha256 != drawn.sha256
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), "uint8")
    for images, message in (
        (noise, "noise, whose neighbouring pixels"),
        (np.zeros_like(noise), "pixels that are all equal"),
        (IMAGES[:31], "at least 32 images. Received: 31"),
    ):
        with pytest.raises(ExportError, match=message):
            calibration_images(images, None, (32, 32, 3))
        assert len(calibration_images(images, None, (32, 32, 3), force=True).images) == len(images)


def test_a_quantization_aware_model_trains_saves_and_exports_as_integers(randomise, tmp_path):
    pytest.importorskip("ai_edge_litert")
    model = quantize_aware(randomise(small_classifier(), seed=4))
    model.compile(keras.optimizers.SGD(1e-4), "sparse_categorical_crossentropy")
    model.fit(IMAGES, np.arange(40) % 10, epochs=2, batch_size=10, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))
    report = export(loaded, tmp_path / "out", ["tflite-int8"], calibration=IMAGES)
    # Measured: at most 0.006; uint8 probabilities have a step of 0.004.
    assert report.reports["tflite-int8"].max_difference < 0.02

    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(report.paths["tflite-int8"])).get_tensor_details()
    assert {np.dtype(tensor["dtype"]).name for tensor in details if tensor["shape"].size} <= {"int8", "int32", "uint8"}
    with pytest.raises(ExportError, match="is written as tflite-int8"):
        export(loaded, tmp_path / "float", ["tflite"])
    with pytest.raises(ValueError, match="must have no fake quantization yet"):
        quantize_aware(loaded)
