"""Layers of detectors' files, compared one by one: good files pass, and one wrong channel is named."""

import functools
import math

import pytest
from small_detector import small_detector

from keras_resnet.export import export, pipeline
from keras_resnet.export.checks import Report
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.inner_tensors import open_inner
from keras_resnet.export.layer_checks import layer_checks, points_of
from keras_resnet.export.prepare import prepare

CHANNEL = 5
FORMATS_HERE = [
    "tflite",
    "onnx",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("openvino", "tflite-int8", "onnx-int8")),
]
BOXES = ["rpn_proposals boxes", "rpn_proposals scores", "box_detections boxes"]


@pytest.fixture(scope="module")
def network():
    return small_detector(3, masks=True)


@pytest.fixture(scope="module")
def path_of(network, tmp_path_factory):
    """-> function that writes the file of a format once, without its other checks, which take longer."""
    folder, images = tmp_path_factory.mktemp("out"), synthetic_images((96, 96, 3), count=32, seed=1)

    @functools.cache
    def made(name):
        with pytest.MonkeyPatch.context() as patch:
            passed = Report(name, (), 0, math.nan, math.nan, math.nan)
            patch.setattr(pipeline, "verify", lambda *_: passed)
            patch.setattr(pipeline, "ask", lambda *_: pipeline.Reference(network, None, {}, None))
            return export(network, folder, [name], calibration=images).paths[name]

    return made


def checked(path, name, network):
    """-> what each check measured, and the names of those that failed."""
    images = synthetic_images((96, 96, 3), count=4, seed=5)
    checks = layer_checks(
        open_inner(path, FORMATS[name].runtime),
        [*points_of(prepare(network))],
        images,
        FORMATS[name].tolerance.layers,
        0,
    )
    return {check.name: check.measured for check in checks}, {check.name for check in checks if not check.passed}


def with_channel_times(layer, factor):
    wrong = small_detector(3, masks=True)
    kernel, *others = wrong.get_layer(layer).get_weights()
    kernel[..., CHANNEL] *= factor
    wrong.get_layer(layer).set_weights([kernel, *others])
    return wrong


def test_each_call_of_a_shared_layer_is_a_point(network):
    points = {point.name: point for point in points_of(prepare(network))}
    assert sum(name.startswith("rpn_logits") for name in points) == 5
    assert sum(name.startswith("rpn_1_relu") for name in points) == 5
    assert points["box_align"].read[-1] == "rpn_proposals boxes"
    assert points["mask_align"].read[-1] == "box_detections boxes"
    assert {"stem_relu", "fpn_output3_conv", "box_logits", "mask_upsample_relu", "mask_logits"} <= set(points)


@pytest.mark.parametrize("name", FORMATS_HERE)
def test_layers_of_a_good_detector_differ_by_its_rounding_only(name, path_of, network):
    measured, failed = checked(path_of(name), name, network)
    assert not failed
    ranges = ["range use"] if name.endswith("int8") else []
    assert list(measured) == ["layer noise", "channel noise", "channel scale", "channel mean", *ranges, *BOXES]
    assert {measured[each] for each in BOXES} == {"100.00 %"}


@pytest.mark.parametrize("name", FORMATS_HERE)
@pytest.mark.parametrize(
    ("layer", "factor", "check", "place"),
    [
        ("stage4_block1_1_conv", 0, "channel noise", "stage4_block1_1_relu"),
        ("fpn_output3_conv", -1, "channel noise", "fpn_output3_conv"),
        ("rpn_1_conv", 0, "channel noise", "rpn_1_relu"),
        ("box_deltas", 0, "channel noise", "box_deltas"),
        ("mask_2_conv", 1.4, "channel scale", "mask_2_relu"),
    ],
)
def test_one_wrong_channel_of_a_detector_is_named(layer, factor, check, place, name, path_of):
    """The file is good here, and the model has the fault: they differ as a wrong file and a good model do."""
    measured, failed = checked(path_of(name), name, with_channel_times(layer, factor))
    assert check in failed
    assert f"channel {CHANNEL} of {place}" in measured[check]
