"""Files that take blue, green, red: their runtimes' answers to such pixels, and this package's to image files."""

import numpy as np
import pytest
from small_classifier import small_classifier

from keras_resnet import inference, load
from keras_resnet.errors import ExportError
from keras_resnet.export import Options, export
from keras_resnet.export.description import embed, read_description
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.pipeline import examine_artifact
from keras_resnet.tasks import contract_of

onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")

IMAGES = synthetic_images((32, 32, 3), count=5, seed=3)
NAMES = ["onnx", "onnx-int8", "openvino", "openvino-int8"]


@pytest.fixture(scope="module")
def model(randomise):
    return randomise(small_classifier(), seed=4)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    calibration = synthetic_images((32, 32, 3), count=40, seed=8)
    folder = tmp_path_factory.mktemp("bgr")
    return export(model, folder, NAMES, calibration=calibration, options=Options(colour_order="BGR"))


@pytest.mark.parametrize("name", NAMES)
def test_a_runtime_answers_to_blue_green_red(name, exported, model):
    """The verification passed, and both runtimes, called without this package, agree."""
    path, pixels = exported.paths[name], IMAGES[..., ::-1].astype("float32")
    if name.startswith("onnx"):
        [answers] = onnxruntime.InferenceSession(str(path)).run(["probabilities"], {"image": pixels})
    else:
        answers = openvino.Core().compile_model(path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(pixels)[
            0
        ]
    expected = inference.predict(model, IMAGES)
    bound = 0.05 if "int8" in name else 1e-5
    assert np.abs(answers - expected).max() < bound
    assert np.abs(inference.predict(model, IMAGES[..., ::-1]) - expected).max() > 2 * bound  # the order matters
    assert read_description(path)["input"]["colour_order"] == "BGR"
    np.testing.assert_array_equal(load(path).run(IMAGES)["probabilities"], answers)


def test_it_goes_with_other_options(model, tmp_path):
    options = Options(colour_order="BGR", layout="NCHW")
    path = export(model, tmp_path, ["onnx-float16"], options=options).paths["onnx-float16"]
    given = np.ascontiguousarray(IMAGES[..., ::-1].transpose(0, 3, 1, 2)).astype("float32")
    [answers] = onnxruntime.InferenceSession(str(path)).run(["probabilities"], {"image": given})
    assert np.abs(answers - inference.predict(model, IMAGES)).max() < 2e-3
    np.testing.assert_array_equal(load(path).run(IMAGES)["probabilities"], answers)


def test_a_file_that_states_the_other_order_is_refused(exported, model, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.paths["onnx"].read_bytes())
    description = read_description(path)
    description["input"]["colour_order"] = "RGB"
    embed(path, description)
    report = examine_artifact(path, model, images=IMAGES, contract=contract_of(model))
    failed = {check.name for check in report.checks if not check.passed}
    assert {"relative error", "layer noise"} <= failed
    assert examine_artifact(exported.paths["onnx"], model, images=IMAGES, contract=contract_of(model)).passed


def test_only_some_formats_and_networks_have_an_order(model, tmp_path):
    with pytest.raises(ExportError, match="`colour_order` belongs to onnx, onnx-float16, onnx-int8, openvino"):
        export(model, tmp_path, ["saved_model"], options=Options(colour_order="BGR"))
    with pytest.raises(ExportError, match=r"must be one of RGB, BGR\. Received: colour_order='GBR'"):
        export(model, tmp_path, ["onnx"], options=Options(colour_order="GBR"))
    with pytest.raises(ExportError, match=r"images have other than 3 channels\. Received: 1 channels"):
        export(small_classifier(channels=1), tmp_path, ["onnx"], options=Options(colour_order="BGR"))
