"""Ranges, rounding, and models of quantization-aware training."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from PIL import Image
from small_classifier import small_classifier

from keras_resnet.backbone import resnet_backbone
from keras_resnet.compress import quantize_aware
from keras_resnet.compress.fake_quant import rounded
from keras_resnet.errors import ExportError
from keras_resnet.export import export
from keras_resnet.export.fold import fold
from keras_resnet.export.images import CalibrationImages, calibration_images, synthetic_images
from keras_resnet.export.prepare import prepare
from keras_resnet.export.quantize import float_layers, quantize
from keras_resnet.export.ranges import BINS, Histogram, Sampled, activation_ranges, usual_ranges
from keras_resnet.export.rounding import _observe, _patches, rounded_in_turn, with_rounded_kernels
from keras_resnet.heads.classification import classification_head
from keras_resnet.preprocessing import normalisation_layer
from keras_resnet.variants import IMAGENET, VARIANTS

IMAGES = synthetic_images((32, 32, 3), count=40, seed=8)


@pytest.fixture(scope="module")
def folded(randomise):
    return fold(prepare(randomise(small_classifier(), seed=4)))


def test_minimum_and_maximum_are_those_of_the_outputs(folded):
    quantized = quantize(folded, IMAGES, ranges="minmax")
    ranges, model = quantized.ranges, quantized.model
    for name in ("stem_relu", "stage2_block1_2_conv", "pool"):
        values = np.asarray(keras.Model(model.input, model.get_layer(name).output)(IMAGES, training=False))
        np.testing.assert_allclose(ranges[name], (min(values.min(), 0), values.max()), rtol=1e-4)
    assert "stem_conv" not in ranges  # its ReLU is fused


def test_ranges_are_sampled_from_every_channel_row_and_column():
    shape = (16, 56, 14, 21)
    taken = np.unravel_index(np.asarray(Sampled()(np.arange(np.prod(shape)).reshape(shape))).astype(int), shape)
    for axis, size in enumerate(shape):
        counts = np.bincount(taken[axis], minlength=size)
        assert counts.min() > 0.8 * counts.max()


def test_least_squares_clips_and_stays_within(folded):
    whole, clipped = (quantize(folded, IMAGES, ranges=method).ranges for method in ("minmax", "mse"))
    widths = {name: (clipped[name][1] - clipped[name][0]) / (high - low) for name, (low, high) in whole.items()}
    assert max(widths.values()) <= 1 + 1e-6
    assert 0.3 < min(widths.values()) < 0.97


class Channels(keras.layers.Layer):
    """Pixels `[N, H, W, 3]` -> known values of the same shape, for calibration images with the numbers 0, 1, ..."""

    def __init__(self, values, **options):
        super().__init__(**options)
        self.values = keras.ops.convert_to_tensor(values.astype("float32"))

    def call(self, images):
        return keras.ops.take(self.values, keras.ops.cast(images[:, 0, 0, 0], "int32"), axis=0)


@pytest.mark.parametrize("zeros", [0.0, 0.6, 0.95])
def test_the_range_of_least_squares_has_the_least_error_of_rounding_and_clipping(zeros):
    """However many values are zero, which every range holds exactly."""
    random = np.random.default_rng(3)
    values = random.standard_t(3, (4, 40, 30, 3)) * (random.random((4, 40, 30, 3)) >= zeros)
    images = np.zeros((4, 40, 30, 3), "uint8") + np.arange(4, dtype="uint8")[:, None, None, None]
    image = keras.Input((40, 30, 3))
    first = Channels(values, name="first")(image)
    model = keras.Model(image, Channels(values[::-1], name="second")(first * 0 + image))
    low, high = activation_ranges(model, ["first", "second"], images, "mse")[0]["first"]

    def error(fraction):
        lowest, highest = fraction * values.min(), fraction * values.max()
        step = (highest - lowest) / 255
        rough = np.clip(np.rint(values / step), np.rint(lowest / step), np.rint(highest / step)) * step
        return np.square(rough - values).mean()

    found = (high - low) / (values.max() - values.min())
    assert low / values.min() == pytest.approx(found, rel=1e-3)
    assert error(found) <= 1.05 * min(map(error, np.linspace(0.05, 1, 400)))


@pytest.mark.parametrize(("images", "method"), [(40, "minmax"), (63, "minmax"), (64, "mse")])
def test_few_images_give_ranges_from_their_extremes(images, method):
    assert usual_ranges(images) == method


def test_a_histogram_counts_values_of_any_size_that_come_later():
    """Its bins are as wide as the largest value needs, and hold what narrower bins would."""
    random, histogram, seen = np.random.default_rng(5), Histogram(), []
    for size in (1e-3, 0.4, 2e-5, 37.0, 36.0):
        seen.append(np.r_[0.0, random.normal(size=1000) * size, -size].astype("float32"))
        histogram.add(seen[-1])
    values = np.concatenate(seen)
    edges = np.arange(-BINS, BINS + 1) * histogram.width
    np.testing.assert_array_equal(histogram.counts, np.histogram(values[values != 0], edges)[0])
    assert edges[-1] / 4 < np.abs(values).max() < edges[-1]
    assert histogram.counts.sum() == 5 * 1001


def test_values_that_are_not_finite_are_named():
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, Channels(np.full((1, 4, 4, 3), np.nan), name="broken")(image))
    with pytest.raises(ExportError, match="the layer 'broken', which gives infinite values or NaN"):
        activation_ranges(model, ["broken"], np.zeros((1, 4, 4, 3), "uint8"), "mse")


def test_kernels_lie_on_their_grid_and_the_mean_output_stays(folded):
    model = quantize(folded, IMAGES, ranges="minmax").model
    for name in ("stem_conv", "stage2_block1_2_conv"):
        kernel = folded.get_layer(name).get_weights()[0]
        after = model.get_layer(name).get_weights()[0]
        step = np.abs(kernel).max(axis=(0, 1, 2)) / 127
        np.testing.assert_allclose(after / step, np.round(after / step), atol=1e-3)
        np.testing.assert_allclose(np.abs(after).max(axis=(0, 1, 2)), 127 * step, rtol=1e-6)  # the grid shows
        assert np.abs(after - kernel).max() > 1e-5
        before, now = (
            np.asarray(keras.Model(m.input, m.get_layer(name).output)(IMAGES, training=False)) for m in (folded, model)
        )
        if name == "stem_conv":  # measured: 2e-6, and 8e-3 without the biases
            np.testing.assert_allclose(now.mean(axis=(0, 1, 2)), before.mean(axis=(0, 1, 2)), atol=1e-5)


def test_rounding_in_turn_makes_up_for_what_was_lost():
    """Inputs that go together: the error of the output falls, on inputs that the moments were not taken from too."""
    generator = np.random.default_rng(3)
    mixing = generator.normal(size=(6, 45)) + 0.1
    seen, others = (generator.normal(size=(4000, 6)) @ mixing + generator.normal(0, 0.1, (4000, 45)) for _ in range(2))
    kernel = generator.normal(size=(3, 3, 5, 7)).astype("float32")
    plain, in_turn = rounded(kernel), rounded_in_turn(kernel, seen.T @ seen / len(seen), 127)
    errors = [np.square(others @ (k - kernel).reshape(45, 7)).mean() for k in (plain, in_turn)]
    assert errors[1] < 0.1 * errors[0]  # measured: 0.075
    np.testing.assert_allclose(rounded(in_turn), in_turn, rtol=1e-6)  # on the same grid
    for independent in (np.eye(45), np.zeros((45, 45))):
        np.testing.assert_allclose(rounded_in_turn(kernel, independent, 127), plain, rtol=1e-6)


def by_the_inverse(kernel, moments, steps):
    """The algorithm as its authors state it: each error is passed on through the inverse of the moments."""
    step = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)), keepdims=True).astype("float64") / steps
    rest = (kernel / step).reshape(-1, kernel.shape[-1])
    ends = np.abs(rest) > steps * (1 - 1e-9)
    damped = moments + 0.01 * np.trace(moments) / len(moments) * np.eye(len(moments))
    factors = np.linalg.cholesky(np.linalg.inv(damped)).T
    integers = np.empty_like(rest)
    for row, share in enumerate(factors):
        integers[row] = np.where(ends[row], np.round(rest[row]), np.clip(np.round(rest[row]), -steps, steps))
        loss = (rest[row] - integers[row]) / share[row]
        rest[row:] -= np.outer(share[row:], loss)
    return integers.reshape(kernel.shape)


@pytest.mark.parametrize("steps", [127, 63])
def test_the_factors_of_the_moments_round_as_their_inverse_does(steps):
    """The kernel has more rows than are rounded together, and channels of different sizes."""
    generator = np.random.default_rng(7)
    seen = generator.normal(size=(900, 30)) @ generator.normal(size=(30, 300)) + generator.normal(0, 0.3, (900, 300))
    kernel = (generator.normal(size=(5, 5, 12, 9)) * generator.uniform(0.1, 3, 9)).astype("float32")
    moments = seen.T @ seen / len(seen)
    step = np.abs(kernel).max(axis=(0, 1, 2)).astype("float64") / steps
    integers = rounded_in_turn(kernel, moments, steps) / step
    np.testing.assert_allclose(integers, by_the_inverse(kernel, moments, steps), atol=1e-3)
    assert np.mean(np.abs(integers - np.round(kernel / step)) > 0.5) > 0.1  # corrections change many integers


def test_moments_are_the_mean_products_of_the_inputs():
    """More inputs than are multiplied together, and a last batch of fewer images."""
    keras.utils.set_random_seed(6)
    image = keras.Input((12, 12, 3))
    convolved = keras.layers.Conv2D(30, 3, activation="relu")(image)
    model = keras.Model(image, keras.layers.Conv2D(4, 3, strides=2)(convolved))
    images = np.random.default_rng(6).integers(0, 255, (261, 12, 12, 3), "uint8")
    seen = np.asarray(keras.Model(image, convolved)(images.astype("float32")), "float64")
    windows = np.lib.stride_tricks.sliding_window_view(seen, (3, 3), axis=(1, 2))[:, ::2, ::2]
    rows = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 270)
    [_, inputs] = _observe(model, model.layers[1:], images)
    np.testing.assert_allclose(inputs.mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(inputs.moments, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-3 * inputs.moments.max())


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("size", "strides", "dilation"), [((3, 2), 1, 1), ((3, 3), 2, 1), ((3, 2), 1, (4, 3)), (1, 2, 1)]
)
def test_patches_are_tensorflow_s(padding, size, strides, dilation):
    """At most 256 of an image's places, evenly chosen."""
    layer = keras.layers.Conv2D(2, size, strides, padding, dilation_rate=dilation)
    maps = np.random.default_rng(2).normal(size=(3, 37, 26, 5)).astype("float32")
    options = ((1, *each, 1) for each in (layer.kernel_size, layer.strides, layer.dilation_rate))
    expected = tf.reshape(
        tf.image.extract_patches(maps, *options, padding.upper()),
        (3, -1, layer.kernel_size[0] * layer.kernel_size[1] * 5),
    )
    few = np.asarray(expected)[:, :: -(-expected.shape[1] // 256)]
    np.testing.assert_array_equal(_patches(layer, maps, 3), few.reshape(-1, few.shape[-1]))


class Parts(keras.layers.Layer):
    """`[N, 8, 8, C]` -> the four quarters of each image, `[4 N, 4, 4, C]`, as a detector's heads read boxes."""

    def call(self, inputs):
        quarters = keras.ops.reshape(inputs, (-1, 2, 4, 2, 4, inputs.shape[-1]))
        return keras.ops.reshape(keras.ops.transpose(quarters, (0, 1, 3, 2, 4, 5)), (-1, 4, 4, inputs.shape[-1]))


def test_the_mean_output_stays_in_layers_that_read_several_parts_of_an_image():
    keras.utils.set_random_seed(5)
    image = keras.Input((8, 8, 3))
    parts = Parts()(image)
    convolved = keras.layers.Conv2D(6, 3)(parts)
    model = keras.Model(image, [convolved, keras.layers.Dense(5)(keras.layers.Flatten()(parts))])
    images = np.random.default_rng(5).integers(0, 255, (40, 8, 8, 3), "uint8")
    found = [m(images.astype("float32")) for m in (model, with_rounded_kernels(model, images, (), 127))]
    for before, after in zip(*(map(np.asarray, answers) for answers in found), strict=True):
        places = tuple(range(before.ndim - 1))
        assert np.abs(after - before).max() > 0.1
        np.testing.assert_allclose(after.mean(axis=places), before.mean(axis=places), atol=1e-3)


def test_logits_start_at_zero_and_probabilities_stay(folded):
    """The lowest logit moves to zero, through the bias, which no probability shows."""
    quantized = quantize(folded, IMAGES, ranges="mse")
    low, high = quantized.ranges["logits"]
    logits = np.asarray(
        keras.Model(quantized.model.input, quantized.model.get_layer("logits").output)(IMAGES, training=False)
    )
    assert low == 0
    assert 0.5 * np.ptp(logits) < high <= np.ptp(logits) * 1.0001
    expected = np.asarray(folded(IMAGES, training=False))
    assert np.abs(np.asarray(quantized.model(IMAGES, training=False)) - expected).max() < 0.01


def test_a_layer_that_stays_float_takes_its_relu_along(folded):
    both = ("stage2_block1_1_conv", "stage2_block1_1_relu")
    assert float_layers(folded, ["stage2_block1_1_conv"]) == float_layers(folded, ["stage2_block1_1_relu"]) == both
    with pytest.raises(ExportError, match=r"Received: 'stem_convs'. Did you mean stem_conv"):
        float_layers(folded, ["stem_convs"])


@pytest.mark.parametrize("fused", [True, False])
def test_an_addition_at_a_map_of_one_pixel_has_the_range_of_its_relu(fused, tmp_path, monkeypatch, randomise):
    """There, tf2onnx puts a Reshape between both. An addition that is not fused with its ReLU stays float."""
    if not fused:
        monkeypatch.setattr("keras_resnet.export.onnx_graph._relu_before_move", lambda graph: None)
    design = replace(IMAGENET, filters=4)
    image = keras.Input((32, 32, 3), name="image")
    maps = resnet_backbone(
        normalisation_layer(3)(image), replace(VARIANTS["resnet18"], design=design, blocks_per_stage=(1, 1, 2, 1)), 32
    )
    model = keras.Model(image, classification_head(maps["C5"], 6, "softmax"))
    randomise(model)
    images = synthetic_images((32, 32, 3), count=40, seed=3)
    path = export(model, tmp_path, ["onnx-int8"], calibration=images).paths["onnx-int8"]
    graph = onnx.load(str(path)).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    [addition] = [node for node in graph.node if node.op_type == "Add" and "stage5_block1" in node.output[0]]
    [reader] = [node for node in graph.node if addition.output[0] in node.input]
    assert reader.op_type == ("QuantizeLinear" if fused else "Reshape")
    if not fused:
        return
    last = model.get_layer("stage5_block1_out").output
    values = np.asarray(keras.Model(model.input, last)(images.astype("float32")))
    [rounding, *_] = [n for n in graph.node if n.op_type == "QuantizeLinear" and "stage5_block1_out" in n.input[0]]
    assert 255 * constants[rounding.input[1]] == pytest.approx(values.max(), rel=0.02)


def test_calibration_says_what_it_took_and_refuses_what_proves_nothing(tmp_path):
    drawn = calibration_images(CalibrationImages(IMAGES, count=33, seed=5), None, (32, 32, 3))
    assert (drawn.seed, len(drawn.images), len(drawn.sha256)) == (5, 33, 64)
    assert calibration_images(CalibrationImages(IMAGES, count=33, seed=6), None, (32, 32, 3)).sha256 != drawn.sha256
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), "uint8")
    for images, message in (
        (noise, "noise, whose neighbouring pixels"),
        (np.zeros_like(noise), "pixels that are all equal"),
        (IMAGES[:31], "at least 32 images. Received: 31"),
    ):
        with pytest.raises(ExportError, match=message):
            calibration_images(images, None, (32, 32, 3))
        assert len(calibration_images(CalibrationImages(images, force=True), None, (32, 32, 3)).images) == len(images)


def test_a_quantization_aware_model_trains_saves_and_exports_as_integers(randomise, tmp_path):
    pytest.importorskip("ai_edge_litert")
    model = quantize_aware(randomise(small_classifier(), seed=4))
    model.compile(keras.optimizers.SGD(1e-4), "sparse_categorical_crossentropy")
    model.fit(IMAGES, np.arange(40) % 10, epochs=8, batch_size=10, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(np.asarray(loaded(IMAGES, training=False)), np.asarray(model(IMAGES, training=False)))
    report = export(loaded, tmp_path / "out", ["tflite-int8"], calibration=IMAGES)
    # Measured: at most 0.006; uint8 probabilities have a step of 0.004.
    assert report.reports["tflite-int8"].max_difference < 0.02

    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(report.paths["tflite-int8"])).get_tensor_details()
    assert {np.dtype(tensor["dtype"]).name for tensor in details if tensor["shape"].size} <= {"int8", "int32", "uint8"}
    with pytest.raises(ExportError, match="can only be written as tflite-int8"):
        export(loaded, tmp_path / "float", ["tflite"])
    with pytest.raises(ValueError, match="must not be quantization-aware yet"):
        quantize_aware(loaded)

    # A process that has imported nothing of it yet.
    command = ["-m", "keras_resnet.cli", "predict", "--model", str(tmp_path / "model.keras"), str(tmp_path / "a.png")]
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("%") == 5
