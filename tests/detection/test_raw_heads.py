"""Files of `--raw-heads`: the network before its proposals, by the names and anchors that the description states."""

import numpy as np
import pytest
from command_line import in_process
from small_detector import small_detector

import keras_resnet
from keras_resnet.detection import pyramid_of
from keras_resnet.errors import ArgumentError
from keras_resnet.export import CalibrationImages, Options, export
from keras_resnet.export.description import read_description
from keras_resnet.export.formats import FORMATS, all_formats
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.pipeline import examine_artifact
from keras_resnet.export.runtimes import open_runtime
from keras_resnet.facts import facts_of
from keras_resnet.model_files import save_model
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.detect.outputs import RAW_HEADS
from keras_resnet.variants import WholeImage

DETECT = TASKS["detect"]
NAMES = ["cat", "dog", "crane"]
RAW = Options(raw_heads=True)
PICTURES = synthetic_images((64, 64, 3), count=5, seed=2)
FLOAT, ROUNDED = FORMATS["onnx"].tolerance, FORMATS["onnx-int8"].tolerance


@pytest.fixture(scope="module")
def network():
    return small_detector(3, size=64)


@pytest.fixture(scope="module")
def made(network, tmp_path_factory):
    return export(network, tmp_path_factory.mktemp("out"), ["onnx"], options=RAW, class_names=NAMES)


@pytest.fixture(scope="module")
def answer(made):
    return open_runtime(made.paths["onnx"], FORMATS["onnx"]).run(PICTURES)


def test_the_outputs_are_the_pyramid_and_the_answers_about_anchors(network, answer):
    expected = pyramid_of(network)(PICTURES)
    assert list(answer) == [output.name for output in RAW_HEADS]
    for place, level in enumerate(("P2", "P3", "P4", "P5", "P6")):
        for name, values in (
            (f"rpn_logits_{level}", expected["logits"][place]),
            (f"rpn_deltas_{level}", expected["deltas"][place]),
            *([(level, expected["maps"][place])] if level != "P6" else []),
        ):
            wanted = np.asarray(values)
            assert answer[name].shape == wanted.shape
            np.testing.assert_allclose(answer[name], wanted, atol=1e-5 * np.abs(wanted).max())


def best_box(answer, image, level, facts, anchor_size):
    """-> logit and box of the best anchor on a map, in pixels of the frame; only NumPy and the description."""
    logits = answer[f"rpn_logits_{level}"][image]
    rows, columns, ratios = logits.shape
    row, column, ratio = np.unravel_index(np.argmax(logits), logits.shape)
    deltas = answer[f"rpn_deltas_{level}"][image].reshape(rows, columns, ratios, 4)[row, column, ratio]
    root = np.sqrt(facts["aspect_ratios"][ratio])
    width, height = (2 * np.round(side / 2) for side in (anchor_size / root, anchor_size * root))
    centre = np.array(
        [column * (facts["frame_sides"][1] // columns), row * (facts["frame_sides"][0] // rows)], "float64"
    )
    centre += deltas[:2] * [width, height]
    half = np.exp(deltas[2:]) * [width, height] / 2
    box = np.concatenate([centre - half, centre + half])
    return logits.max(), np.clip(box, 0, np.tile(facts["image_sides_in_frame"][::-1], 2))


def test_the_description_tells_what_the_best_proposal_is(network, made, answer):
    """The network's own first proposal is computed anew, from the file's outputs and description alone."""
    facts = read_description(made.paths["onnx"])["task_facts"]
    assert facts == {
        "classes": 3, "anchor_sizes": [8, 16, 24, 32, 64], "aspect_ratios": [0.5, 1.0, 2.0],
        "frame_sides": [64, 64], "image_sides_in_frame": [64, 64],
    }  # fmt: skip
    proposals = pyramid_of(network)(PICTURES)
    for image in range(len(PICTURES)):
        found = [
            best_box(answer, image, level, facts, size)
            for level, size in zip(("P2", "P3", "P4", "P5", "P6"), facts["anchor_sizes"], strict=True)
        ]
        logit, box = max(found, key=lambda pair: pair[0])
        np.testing.assert_allclose(proposals["scores"][image, 0], 1 / (1 + np.exp(-logit)), atol=1e-5)
        np.testing.assert_allclose(proposals["boxes"][image, 0], box, atol=1e-3)


def test_a_frame_that_is_not_filled_is_stated():
    network = keras_resnet.detection.FasterRCNN(
        "resnet18", 2, input_shape=(50, 80, 3), min_size=60, max_size=90, channels=16, units=32
    )
    facts = facts_of(DETECT.for_export(network, RAW)).task_facts
    assert facts["image_sides_in_frame"] == [56, 90]
    assert facts["frame_sides"] == [64, 96]


def test_a_file_states_its_outputs_and_is_verified(network, made):
    description = read_description(made.paths["onnx"])
    stated = [description["output"], *description["output"]["further"]]
    assert [each["name"] for each in stated] == [output.name for output in RAW_HEADS]
    assert all(each["kind"] == output.kind for each, output in zip(stated, RAW_HEADS, strict=True))
    assert (description["task"], description["output"]["classes"], description["labels"]) == ("detect", 3, NAMES)
    names = {check.name for check in made.reports["onnx"].checks}
    assert {"P2", "P5", "rpn_logits_P6", "rpn_deltas_P6", "second batch size"} <= names
    report = examine_artifact(
        made.paths["onnx"], network, images=None, contract=WholeImage(64, 64), class_names=NAMES
    )  # fmt: skip
    assert report.passed, report.failures


FAULTS = {
    "maps exchanged": lambda a: {**a, "P3": a["P3"][:, ::-1]},
    "x and y exchanged": lambda a: {**a, "rpn_deltas_P2": a["rpn_deltas_P2"][..., [1, 0, *range(2, 12)]]},
    "ratios in another order": lambda a: {**a, "rpn_logits_P4": a["rpn_logits_P4"][..., ::-1]},
    "probabilities": lambda a: {**a, "rpn_logits_P5": 1 / (1 + np.exp(-a["rpn_logits_P5"]))},
    "images in another order": lambda a: {name: values[::-1] for name, values in a.items()},
}


@pytest.mark.parametrize("tolerance", [FLOAT, ROUNDED])
@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_values_are_refused(answer, fault, tolerance):
    assert all(check.passed for check in DETECT.compare(answer, answer, tolerance).checks)
    assert not all(check.passed for check in DETECT.compare(FAULTS[fault](answer), answer, tolerance).checks)


def test_a_file_gives_no_boxes(made, tmp_path):
    predictor = keras_resnet.load(made.paths["onnx"])
    assert predictor.run(PICTURES[:2])["P2"].shape == (2, 16, 16, 16)
    with pytest.raises(ArgumentError, match=r"must give boxes. Received: a file of --raw-heads, which gives P2, P3"):
        predictor.predict([PICTURES[0]])


@pytest.mark.slow
def test_all_formats_hold_it(network, tmp_path):
    """The relative errors were measured at up to 1.4e-6 in float32, and 1.6e-3 in float16. The unexplained variance was
    measured at up to 3.8e-3 in integers of 8 bits, and 3.2e-4 with 16 bits."""
    calibration = CalibrationImages(synthetic_images((64, 64, 3), count=40, seed=7), force=True)
    made = export(network, tmp_path, ["all"], calibration=calibration, options=RAW)
    assert set(made.reports) == set(all_formats())
    assert all(report.passed for report in made.reports.values())


@pytest.mark.slow
def test_the_command_writes_it(network, tmp_path):
    save_model(network, tmp_path / "model.keras", NAMES, WholeImage(64, 64))
    out = tmp_path / "out"
    status, printed, errors = in_process(
        "export", "--model", tmp_path / "model.keras", "--formats", "tflite", "--raw-heads", "--out", out
    )
    assert status == 0, errors
    assert printed[-1] == f"keras-resnet info {out / 'model.tflite'}"
    status, printed, errors = in_process("info", out / "model.tflite")
    assert status == 0, errors
    assert any("anchor_sizes" in line for line in printed)
