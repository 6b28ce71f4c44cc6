"""SavedModels whose default signature takes image files, as some services need it."""

import shutil

import numpy as np
import pytest
from small_classifier import small_classifier
from small_detector import small_detector

from keras_resnet import load
from keras_resnet.errors import ExportError
from keras_resnet.export import Options, export
from keras_resnet.export.description import read_description
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.integrity import seal
from keras_resnet.export.pipeline import examine_artifact
from keras_resnet.tasks import contract_of

IMAGES = synthetic_images((32, 32, 3), count=5, seed=3)
JPEG = Options(default_signature="jpeg")
NAMES = [f"thing {index} ö" for index in range(10)]


@pytest.fixture(scope="module")
def model(randomise):
    return randomise(small_classifier(), seed=4)


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("jpeg"), ["saved_model"], class_names=NAMES, options=JPEG)


def test_it_takes_image_files_and_another_one_takes_pixels(made, model):
    import tensorflow as tf

    path = made.paths["saved_model"]
    signatures = tf.saved_model.load(str(path)).signatures
    assert set(signatures) == {"serving_default", "serve_jpeg", "serve_pixels", "features"}
    checked = [check.name for check in made.reports["saved_model"].checks if check.name.startswith("serv")]
    assert checked == ["serve_jpeg", "serving_default", "serve"]
    file = tf.io.encode_png(np.pad(IMAGES[0], ((2, 3), (2, 3), (0, 0)))).numpy()
    answer, same = (signatures[name](image_bytes=tf.constant([file])) for name in ("serving_default", "serve_jpeg"))
    expected = np.asarray(model(IMAGES[:1], training=False))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    np.testing.assert_array_equal(answer["labels"], same["labels"])
    assert answer["labels"].numpy()[0, 0].decode() == NAMES[expected.argmax()]
    pixels = signatures["serve_pixels"](image=tf.constant(IMAGES[:1], tf.float32))
    np.testing.assert_allclose(pixels["probabilities"], expected, atol=1e-5)
    np.testing.assert_array_equal(load(path).run(IMAGES[:1])["probabilities"], pixels["probabilities"])


def test_verify_knows_which_one_is_stated(made, model, tmp_path):
    path = tmp_path / "saved_model"
    shutil.copytree(made.paths["saved_model"], path)
    assert examine_artifact(path, model, images=IMAGES, contract=contract_of(model), class_names=NAMES).passed
    file = path / "assets" / "description.json"
    assert read_description(path)["default_signature"] == "jpeg"
    file.write_text(file.read_text().replace('"default_signature": "jpeg"', '"default_signature": "pixels"'))
    seal(path)
    report = examine_artifact(path, model, images=IMAGES, contract=contract_of(model), class_names=NAMES)
    assert [check.name for check in report.failures] == ["signatures"]


def test_it_needs_a_signature_for_files(tmp_path, randomise):
    tagger = randomise(small_classifier("sigmoid"), seed=4)
    with pytest.raises(ExportError, match=r"`default_signature` .* must be pixels for this network"):
        export(tagger, tmp_path, ["saved_model"], task="tag", options=JPEG)
    with pytest.raises(ExportError, match="`default_signature` belongs to saved_model"):
        export(tagger, tmp_path, ["tflite"], task="tag", options=JPEG)


@pytest.mark.slow
def test_a_detector_has_it_too(tmp_path):
    made = export(small_detector(2), tmp_path, ["saved_model"], options=JPEG)
    checked = [check.name for check in made.reports["saved_model"].checks if check.name.startswith("serv")]
    assert checked == ["serve_jpeg", "serving_default", "serve"]
