"""Post-processing of exported detectors by option: what the files compute, state, and are compared with."""

import numpy as np
import pytest
from small_detector import small_detector

from keras_resnet import detection, inference
from keras_resnet.errors import ExportError
from keras_resnet.export import Options, export, pipeline
from keras_resnet.export.description import read_description
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.pipeline import examine_artifact
from keras_resnet.export.runtimes import open_runtime
from keras_resnet.facts import facts_of
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.detect.comparison import compare
from keras_resnet.variants import WholeImage

DETECT = TASKS["detect"]
SETTINGS = {"score_threshold": 0.5, "iou_threshold": 0.3, "max_detections": 9}
OWN = {"score_threshold": 0.0, "iou_threshold": 0.5, "max_detections": 20}
FLOAT = FORMATS["onnx"].tolerance.boxes
PICTURES = synthetic_images((64, 64, 3), count=5, seed=2)


@pytest.fixture(scope="module")
def network():
    return small_detector(3, size=64)


@pytest.fixture(scope="module")
def made(network, tmp_path_factory):
    return export(network, tmp_path_factory.mktemp("out"), ["onnx"], options=Options(**SETTINGS)).paths["onnx"]


@pytest.mark.parametrize("masks", [False, True])
def test_settings_are_those_of_a_network_that_is_built_with_them(masks):
    network = small_detector(3, masks, size=64)
    build = detection.MaskRCNN if masks else detection.FasterRCNN
    wanted = build(
        "resnet18", 3, input_shape=(64, 64, 3), min_size=64, max_size=64, channels=16, units=32, proposals=40,
        anchor_sizes=(8, 16, 24, 32, 64), **SETTINGS,
    )  # fmt: skip
    wanted.set_weights(network.get_weights())
    changed = DETECT.for_export(network, Options(**SETTINGS))
    for count in (5, 2):
        expected, received = (inference.answer(each, PICTURES[:count]) for each in (wanted, changed))
        assert expected["boxes"].shape == (count, 9, 4)
        for name, values in expected.items():
            np.testing.assert_array_equal(received[name], values)
    assert facts_of(changed).task_facts == SETTINGS
    assert facts_of(network).task_facts == {}
    assert facts_of(DETECT.for_export(network, Options())).task_facts == OWN


def test_a_file_computes_and_states_its_settings(network, made):
    description = read_description(made)
    assert description["task_facts"] == SETTINGS
    answer = open_runtime(made, FORMATS["onnx"]).run(PICTURES)
    expected = inference.answer(DETECT.for_export(network, Options(**SETTINGS)), PICTURES)
    assert answer["boxes"].shape == (5, 9, 4)
    assert all(check.passed for check in compare(answer, expected, FLOAT).checks)


def test_verify_compares_with_a_network_of_the_described_settings(network, made):
    report = examine_artifact(made, network, images=PICTURES, contract=WholeImage(64, 64))
    assert report.passed, report.failures


@pytest.mark.parametrize("wrong", [{"score_threshold": 0.6}, {"iou_threshold": 0.4}, {"max_detections": 8}])
def test_a_file_whose_graph_has_other_settings_than_it_states_is_refused(network, made, monkeypatch, wrong):
    """The description of another file: the same graph, and other words about it."""
    stated = read_description(made)
    monkeypatch.setattr(
        pipeline, "read_description", lambda path: {**stated, "task_facts": {**stated["task_facts"], **wrong}}
    )
    report = examine_artifact(made, network, images=PICTURES, contract=WholeImage(64, 64))
    failed = {check.name for check in report.failures}
    [name] = wrong
    expected = {
        "score_threshold": "lowest score",
        "iou_threshold": "largest overlap",
        "max_detections": "output tensor",
    }
    assert {"facts of the task", expected[name]} <= failed


def rows_of(scores, boxes):
    """Scores and boxes of one class, in one image -> an answer with a row more than it needs."""
    count = len(scores)
    return {
        "boxes": np.pad(np.array([boxes], "float32"), ((0, 0), (0, 1), (0, 0))),
        "scores": np.pad(np.array([scores], "float32"), ((0, 0), (0, 1))),
        "labels": np.array([[0] * count + [-1]], "int32"),
        "num_detections": np.array([count], "int32"),
    }


def test_one_detection_in_hundreds_shows_another_setting():
    """99 % of the detections agree, so that only their limits tell."""
    draw = np.random.default_rng(4)
    corners = 12.0 * np.stack(np.meshgrid(np.arange(20), np.arange(15)), axis=-1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + draw.uniform(8, 12, corners.shape)], axis=1)
    scores = np.sort(draw.uniform(0.2, 1, len(boxes)))[::-1]
    expected = rows_of(scores, boxes)
    assert all(check.passed for check in compare(expected, expected, FLOAT).checks)
    lower = rows_of([*scores, 0.15], [*boxes, [0, 300, 20, 320]])
    nearer = rows_of([*scores, scores[-1]], [*boxes, boxes[7] + [0, 0, 4, 0]])
    for answer, name in ((lower, "lowest score"), (nearer, "largest overlap")):
        width = answer["scores"].shape[1]
        wide = {
            key: np.pad(
                values, [(0, 0), (0, width - values.shape[1])] + [(0, 0)] * (values.ndim - 2),
                constant_values=-1 if key == "labels" else 0,
            ) if values.ndim > 1 else values
            for key, values in expected.items()
        }  # fmt: skip
        for pair in ((answer, wide), (wide, answer)):
            assert {check.name for check in compare(*pair, FLOAT).checks if not check.passed} == {name}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "`score_threshold` must be a number from 0 to 1. Received: score_threshold=1.5"),
        ({"iou_threshold": float("nan")}, "`iou_threshold` must be a number from 0 to 1. Received: iou_threshold=nan"),
        ({"max_detections": 0}, "`max_detections` must be a whole number from 1 to 10,000. Received: max_detections=0"),
        ({"max_detections": 2.5}, "`max_detections` must be a whole number"),
        ({"raw_heads": True, "iou_threshold": 0.4}, "`iou_threshold` must be left out with `raw_heads`"),
        ({"raw_heads": "yes"}, "`raw_heads` must be one of True, False. Received: raw_heads='yes'"),
    ],
)
def test_wrong_options_are_refused(network, tmp_path, options, message):
    with pytest.raises(ExportError) as error:
        export(network, tmp_path, ["onnx"], options=Options(**options))
    assert message in str(error.value)


@pytest.mark.parametrize("options", [{"score_threshold": 0.5}, {"raw_heads": True}])
def test_options_of_detectors_are_refused_for_other_networks(small_exports, tmp_path, options):
    [(name, value)] = options.items()
    with pytest.raises(ExportError, match=f"`{name}` is only for detection. Received: {name}={value}"):
        export(small_exports.model, tmp_path, ["onnx"], options=Options(**options))


@pytest.mark.parametrize(
    "facts",
    [
        {"score_threshold": "0.5"}, {"score_threshold": -0.1}, {"score_threshold": True}, {"max_detections": 10**9},
        {"max_detections": 7.0}, {"anchor_sizes": [8, 16]}, {"anchor_sizes": [8, 16, 24, 32, -1]},
        {"frame_sides": [64.5, 64]}, {"classes": 0},
    ],
)  # fmt: skip
def test_a_description_with_wrong_facts_is_refused(facts):
    with pytest.raises(ValueError, match=next(iter(facts))):
        DETECT.checked_facts(facts)
