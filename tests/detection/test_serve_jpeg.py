"""The signature `serve_jpeg` of detectors: image files -> boxes in pixels of each file, as prediction gives them."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_detector import small_detector

from keras_resnet import inference
from keras_resnet.errors import VerificationError
from keras_resnet.export import export, objects_in_files
from keras_resnet.export.encoded_images import area_of, fit
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.objects_in_files import in_rows
from keras_resnet.preprocessing import fit_whole
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.base import Asked
from keras_resnet.tasks.detect.comparison import compare
from keras_resnet.variants import WholeImage

DETECT = TASKS["detect"]
CONTRACT = WholeImage(64, 96)
IN_IMAGE = objects_in_files._in_image
SIZES = ((40, 130), (200, 90), (64, 96), (31, 33))


def files_of(sizes):
    files, images = [], []
    for number, size in enumerate(sizes):
        pixels = synthetic_images((*size, 3), count=1, seed=number)[0]
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG" if number % 2 else "JPEG", quality=95)
        files.append(stream.getvalue())
        images.append(np.asarray(Image.open(io.BytesIO(files[-1])).convert("RGB")))
    return files, images


def test_images_are_fitted_as_prediction_fits_them():
    """Measured: at most 2 grey levels apart, in 5 % of the places; a photograph at half its size is equal."""
    for file, image in zip(*files_of((*SIZES, (128, 192), (64, 48))), strict=True):
        pixels, size = (np.asarray(values) for values in fit(file, CONTRACT))
        expected = fit_whole(image, CONTRACT)
        assert size.tolist() == [*image.shape[:2]]
        height, width = CONTRACT.area_of(*image.shape[:2])
        np.testing.assert_array_equal(pixels[height:], expected[height:].astype("float32"))
        np.testing.assert_array_equal(pixels[:, width:], expected[:, width:].astype("float32"))
        difference = np.abs(pixels - expected)
        assert difference.max() <= 2
        assert difference.mean() < 0.1
        if image.shape[:2] == (128, 192):
            assert difference.max() == 0


def test_the_filled_area_is_that_of_the_contract():
    sizes = np.random.default_rng(0).integers(1, 5000, (500, 2))
    expected = [CONTRACT.area_of(*map(int, size)) for size in sizes]
    np.testing.assert_array_equal(np.asarray(area_of(tf.constant(sizes, tf.int32), CONTRACT)), expected)


def random_answer(count, masks):
    """-> answers of a network with boxes everywhere, also beside the image."""
    draw = np.random.default_rng(count)
    corners = np.sort(draw.uniform(0, 1, (count, 12, 2, 2)), axis=2).reshape(count, 12, 4)
    number = draw.integers(6, 13, count).astype("int32")
    there = np.arange(12) < number[:, None]
    answer = {
        "boxes": np.where(there[..., None], corners * [96, 64, 96, 64], 0).astype("float32"),
        "scores": np.where(there, np.sort(draw.uniform(0, 1, (count, 12)))[:, ::-1], 0).astype("float32"),
        "labels": np.where(there, draw.integers(0, 3, (count, 12)), -1).astype("int32"),
        "num_detections": number,
    }
    if masks:
        shown = there[..., None, None]
        answer["masks"] = np.where(shown, draw.uniform(0, 1, (count, 12, 28, 28)), 0).astype("float32")
    return answer


def predicted(answer, sizes):
    asked = Asked("", lambda _: answer, CONTRACT, None, 3)
    return in_rows(DETECT.answers(asked, [np.zeros((*size, 3), "uint8") for size in sizes]), answer)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("count", [4, 2])
def test_boxes_are_moved_as_prediction_moves_them(count, masks):
    """Cut off at the edges of the image, with their masks; left out where they lie beside it."""
    answer, sizes = random_answer(count, masks), SIZES[:count]
    expected = predicted(answer, sizes)
    assert (expected["num_detections"] < answer["num_detections"]).any()
    tensors = {name: tf.constant(values) for name, values in answer.items()}
    received = objects_in_files._in_image(tensors, tf.constant(sizes, tf.int32), CONTRACT)
    assert set(received) == set(expected)
    for name, values in expected.items():
        assert received[name].dtype.name == values.dtype.name
        np.testing.assert_allclose(received[name], values, atol=2e-5, rtol=1e-6)


@pytest.fixture(scope="module")
def network():
    return small_detector(3, masks=True, size=64)


@pytest.mark.slow
def test_a_file_answers_image_files_as_prediction_does(network, tmp_path):
    """Prediction resizes by Pillow. Through the file alone, without this package's code for images."""
    made = export(network, tmp_path, ["saved_model"])
    assert {"serve_jpeg"} <= {check.name for check in made.reports["saved_model"].checks}
    files, images = files_of(SIZES)
    loaded = tf.saved_model.load(str(made.paths["saved_model"]))
    contract = WholeImage(64, 64)
    for chosen in (slice(0, 4), slice(1, 3)):
        answer = loaded.signatures["serve_jpeg"](image_bytes=tf.constant(files[chosen]))
        received = {name: values.numpy() for name, values in answer.items()}
        asked = Asked("", lambda pixels: inference.answer(network, pixels), contract, None, 3)
        expected = in_rows(DETECT.answers(asked, images[chosen]), received)
        checks = compare(received, expected, FORMATS["tflite-float16"].tolerance.boxes).checks
        assert all(check.passed for check in checks), [check for check in checks if not check.passed]


def whole(answer, sizes, contract):
    """Boxes in pixels of the network's image."""
    return answer


def without_scale(answer, sizes, contract):
    return IN_IMAGE(answer, tf.ones_like(sizes) * [contract.height, contract.width], contract)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [whole, without_scale])
def test_a_file_whose_boxes_are_not_in_pixels_of_the_image_is_refused(network, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(objects_in_files, "_in_image", fault)
    with pytest.raises(VerificationError, match="serve_jpeg: other detections"):
        export(network, tmp_path, ["saved_model"])
