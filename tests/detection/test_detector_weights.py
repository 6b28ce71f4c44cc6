"""Weights of detectors: the name map in both spellings, the epsilon of a file, heads of other classes, refusals."""

import json
import re
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from detectors import build, earlier_names, file_of, reference, state_of
from oracle.seeded_detectors import CASES
from safetensors.numpy import save_file

from keras_resnet import variants, weights
from keras_resnet.detection import FasterRCNN, MaskRCNN, network_of
from keras_resnet.errors import WeightsError
from keras_resnet.facts import facts_of
from keras_resnet.models import ResNet18
from keras_resnet.variants import DETECTION_TAG, TorchvisionFile
from keras_resnet.weights import torchvision_names
from keras_resnet.weights_from import WeightsFrom
from keras_resnet.whole_files import file_sha256

COUNTER = ".num_batches_tracked"
NARROW = [name for name in CASES if not name.endswith("_full")]
PARAMETERS = {  # of torchvision's weights; BatchNorm of the body of v1 is frozen there, so that its 53,120 do not count
    ("FasterRCNN", "v1"): 41_755_286 + 53_120,
    ("FasterRCNN", "v2"): 43_712_278,
    ("MaskRCNN", "v1"): 44_401_393 + 53_120,
    ("MaskRCNN", "v2"): 46_359_409,
}
TENSORS = {  # of torchvision's state dicts of ResNet-50 without counters
    "fasterrcnn_v1_full": 295,
    "fasterrcnn_v2_full": 404 - 65,
    "maskrcnn_v1_full": 307,
    "maskrcnn_v2_full": 432 - 69,
}


def refusal(name, path, **arguments) -> str:
    with pytest.raises(WeightsError) as refused:
        build(name, path, **arguments)
    return str(refused.value)


# --- the name map -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_name_of_torchvisions_is_mapped_and_none_is_left(name):
    case = CASES[name]
    names = {key for key in json.loads(str(reference(name)["state"])) if not key.endswith(COUNTER)}
    assert set(torchvision_names(network_of(case.function, case.version, case.backbone))) == names
    assert len(names) == TENSORS.get(name, len(names))


@pytest.mark.parametrize(("function", "version"), PARAMETERS)
@pytest.mark.usefixtures("shapes_alone")
def test_parameters_are_torchvisions(function, version):
    model = {"FasterRCNN": FasterRCNN, "MaskRCNN": MaskRCNN}[function](version=version)
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert parameters == PARAMETERS[function, version]
    variables = {(layer.name, variable.name) for layer in model.layers for variable in layer.weights}
    targets = list(torchvision_names(network_of(function, version, "resnet50")).values())
    assert len(set(targets)) == len(targets)
    assert set(targets) == variables


def test_both_spellings_of_a_file_are_one_network(tmp_path):
    """The tests against torchvision read the earlier spelling of v1, and this one the present spelling."""
    state = state_of("maskrcnn_v1")
    assert set(earlier_names(state)) != set(state)
    save_file(state, tmp_path / "present.safetensors")
    present = build("maskrcnn_v1", tmp_path / "present.safetensors")
    earlier = build("maskrcnn_v1", file_of("maskrcnn_v1", tmp_path))
    for one, other in zip(present.weights, earlier.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_kernel_behind_a_flattened_map_and_a_transposed_kernel(tmp_path):
    state = state_of("maskrcnn_v1")
    model = build("maskrcnn_v1", file_of("maskrcnn_v1", tmp_path))
    dense = np.array(model.get_layer("box_1_dense").kernel)
    row, column, channel = 2, 5, 11
    theirs = state["roi_heads.box_head.fc6.weight"][:, channel * 49 + row * 7 + column]
    np.testing.assert_array_equal(dense[(row * 7 + column) * 16 + channel], theirs)
    upsample = np.array(model.get_layer("mask_upsample").kernel)  # [row, column, out, in]
    np.testing.assert_array_equal(upsample[1, 0, 3, 7], state["roi_heads.mask_predictor.conv5_mask.weight"][7, 3, 1, 0])


# --- epsilon ------------------------------------------------------------------------------------------------------


@pytest.fixture
def file_with_small_variances(tmp_path):
    state = state_of("fasterrcnn_v1")
    state["backbone.body.bn1.running_var"] = np.geomspace(1e-12, 1, 64).astype(np.float32)
    path = tmp_path / "small.safetensors"
    save_file(state, path)
    return state, path


def answers_of_stem(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.array(model.get_layer("stem_bn")(x, training=False))


def test_a_file_with_another_epsilon(file_with_small_variances):
    state, path = file_with_small_variances
    x = np.random.default_rng(0).normal(0, 1, (1, 4, 4, 64)).astype(np.float32)
    kinds = ("weight", "bias", "running_mean", "running_var")
    scale, bias, mean, variance = (state[f"backbone.body.bn1.{kind}"].astype("float64") for kind in kinds)
    for epsilon, source in ((1e-5, path), (0.0, WeightsFrom(path, batch_norm_epsilon=0.0))):
        model = build("fasterrcnn_v1", source)
        expected = (x - mean) / np.sqrt(variance + epsilon) * scale + bias
        np.testing.assert_allclose(answers_of_stem(model, x), expected, rtol=2e-5, atol=1e-5)


def test_a_published_file_of_version_1_has_epsilon_0(file_with_small_variances, monkeypatch):
    """The file is known by its hash, also under another name; the tag names it."""
    _, path = file_with_small_variances
    expected = build("fasterrcnn_v1", WeightsFrom(path, batch_norm_epsilon=0.0)).get_weights()
    published = TorchvisionFile(f"detector-{file_sha256(path)[:8]}.pth", {}, "BSD-3-Clause")
    row = replace(variants.DETECTORS["fasterrcnn_v1"], files={"resnet18": published})
    monkeypatch.setitem(variants.DETECTORS, "fasterrcnn_v1", row)
    monkeypatch.setattr(weights, "_download_torchvision", lambda file: path)
    for source in (path, DETECTION_TAG):
        model = build("fasterrcnn_v1", source)
        for one, other in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert facts_of(model).weights_origin.source == DETECTION_TAG


def test_a_variance_of_zero_is_refused_at_epsilon_0(tmp_path):
    state = state_of("fasterrcnn_v1")
    state["backbone.body.bn1.running_var"][3] = 0
    save_file(state, tmp_path / "dead.safetensors")
    message = refusal("fasterrcnn_v1", WeightsFrom(tmp_path / "dead.safetensors", batch_norm_epsilon=0.0))
    assert "zero variance at epsilon 0 (1):\n  backbone.body.bn1.running_var -> stem_bn/moving_variance" in message


@pytest.mark.parametrize("name", variants.DETECTORS)
def test_the_files_of_version_1_compute_with_epsilon_0(name):
    row = variants.DETECTORS[name]
    assert row.file_epsilon == (0.0 if row.version == "v1" else 1e-5)
    assert list(row.files) == ["resnet50"]
    assert re.fullmatch(r"(faster|mask)rcnn_resnet50_fpn(_v2)?_coco-[0-9a-f]{8}\.pth", row.files["resnet50"].name)


# --- heads, backbones, refusals -----------------------------------------------------------------------------------


def test_other_classes_leave_the_last_layers_random(tmp_path):
    path, case = file_of("maskrcnn_v1", tmp_path), CASES["maskrcnn_v1"]
    arguments = {"channels": case.channels, "units": case.units, "anchor_sizes": case.anchor_sizes}
    with pytest.warns(UserWarning, match="the head stays fresh") as warned:
        model = MaskRCNN("resnet18", 3, weights=path, input_shape=(64, 64, 3), **arguments)
    assert [str(warning.message) for warning in warned] == [
        f"the head stays fresh (random): the model has 3 classes, {path} has 7, and the background"
    ]
    assert warned[0].filename == __file__
    for layer in ("box_logits", "box_deltas", "mask_logits"):
        assert np.array(model.get_layer(layer).kernel).any(), layer


def test_backbone_weights_are_a_classifiers(tmp_path):
    state = {
        name.removeprefix("backbone.body."): value
        for name, value in state_of("fasterrcnn_v1").items()
        if name.startswith("backbone.body.")
    }
    classifier = {**state, "fc.weight": np.zeros((10, 512), np.float32), "fc.bias": np.zeros(10, np.float32)}
    save_file(classifier, tmp_path / "classifier.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build("fasterrcnn_v1", None, backbone_weights=tmp_path / "classifier.safetensors")
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, state["conv1.weight"].transpose(2, 3, 1, 0))
    assert facts_of(model).weights_origin.source == "classifier.safetensors"


def test_missing_unknown_and_misshaped_tensors_are_named(tmp_path):
    state = state_of("fasterrcnn_v1")
    del state["rpn.head.cls_logits.bias"]
    state["rpn.head.extra.weight"] = np.zeros(3, np.float32)
    state["roi_heads.box_head.fc7.weight"] = np.zeros((32, 31), np.float32)
    save_file(state, tmp_path / "wrong.safetensors")
    message = refusal("fasterrcnn_v1", tmp_path / "wrong.safetensors")
    assert "wrong.safetensors does not fit fasterrcnn_resnet18_fpn; nothing was loaded" in message
    assert "missing (1):\n  rpn.head.cls_logits.bias -> rpn_logits/bias" in message
    assert "unknown (1):\n  rpn.head.extra.weight" in message
    assert (
        "misshaped (1):\n  roi_heads.box_head.fc7.weight -> box_2_dense/kernel: (32, 31), must be (32, 32)" in message
    )


def test_the_file_of_another_detector_is_named(tmp_path):
    with pytest.warns(UserWarning, match="the head stays fresh"):
        message = refusal("fasterrcnn_v1", file_of("maskrcnn_v1", tmp_path))
    assert "these are the weights of a maskrcnn_resnet18_fpn, but the model is a fasterrcnn_resnet18_fpn" in message
    with pytest.warns(UserWarning, match="the head stays fresh"):
        message = refusal("maskrcnn_v1", file_of("fasterrcnn_v2", tmp_path))
    assert "these are the weights of a fasterrcnn_resnet18_fpn_v2, but the model is a maskrcnn_resnet18_fpn" in message
    with pytest.raises(WeightsError) as refused:
        ResNet18(weights=file_of("maskrcnn_v1", tmp_path))
    assert "these are the weights of a maskrcnn_resnet18_fpn, but the model is a resnet18" in str(refused.value)
