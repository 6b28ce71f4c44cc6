"""Detectors as files: what they hold, that they answer as their model, and that wrong files are refused."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import in_process
from PIL import Image
from small_detector import small_detector

import keras_resnet
from keras_resnet import detection, inference
from keras_resnet.errors import ExportError, VerificationError
from keras_resnet.explain import d_rise
from keras_resnet.export import Options, export
from keras_resnet.export.box_checks import constants_check, constants_of, numbers_check
from keras_resnet.export.description import read_description
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.pipeline import examine_artifact
from keras_resnet.export.prepare import prepare
from keras_resnet.export.verify import _size_check
from keras_resnet.graph import unshared
from keras_resnet.model_files import save_model
from keras_resnet.tasks.detect.comparison import compare
from keras_resnet.variants import WholeImage

NAMES = ["cat", "dog", "crane"]
OUTPUTS = ["boxes", "scores", "labels", "num_detections", "masks"]
FLOAT = FORMATS["tflite"].tolerance.boxes


@pytest.fixture(scope="module")
def network():
    return small_detector(3, masks=True)


@pytest.fixture(scope="module")
def made(network, tmp_path_factory):
    return export(
        network, tmp_path_factory.mktemp("out"), ["saved_model", "tflite", "onnx", "openvino"], class_names=NAMES
    )


@pytest.fixture(scope="module")
def rounded(network, tmp_path_factory):
    formats, images = (
        ["tflite-float16", "tflite-dynamic", "tflite-int8", "openvino-int8"],
        synthetic_images((96, 96, 3), count=32, seed=1),
    )
    return export(network, tmp_path_factory.mktemp("rounded"), formats, calibration=images, class_names=NAMES)


@pytest.fixture(scope="module")
def answers(network):
    return inference.answer(prepare(network), synthetic_images((96, 96, 3), count=4))


def test_files_of_several_outputs_are_written_and_verified(made):
    assert set(made.paths) == {"saved_model", "tflite", "onnx", "openvino"}
    for report in made.reports.values():
        assert report.passed
        assert report.max_difference < 1e-5
        assert report.top1_agreement_percent == 100
        assert {"model's detections", "file's detections", "box error", "mask error"} <= {c.name for c in report.checks}


@pytest.mark.slow
def test_files_of_rounded_weights_are_verified(rounded, made):
    sizes = {name: path.stat().st_size for name, path in {**made.paths, **rounded.paths}.items() if path.is_file()}
    assert sizes["tflite-float16"] < 0.55 * sizes["tflite"]
    assert max(sizes["tflite-dynamic"], sizes["tflite-int8"]) < 0.3 * sizes["tflite"]
    for name, least_percent, largest_difference in (
        ("tflite-float16", 99, 2e-3), ("tflite-dynamic", 90, 0.1), ("tflite-int8", 90, 0.2),
        ("openvino-int8", 90, 0.2),
    ):  # fmt: skip
        report = rounded.reports[name]
        assert report.passed
        assert report.top1_agreement_percent >= least_percent
        assert 0 < report.max_difference < largest_difference


def test_a_layer_that_is_called_again_gets_a_copy(network, answers):
    apart = unshared(prepare(network))
    assert all(len(layer._inbound_nodes) == 1 for layer in apart.layers)
    assert {"rpn_logits", "rpn_logits_2", "rpn_logits_5"} <= {layer.name for layer in apart.layers}
    found = inference.answer(apart, synthetic_images((96, 96, 3), count=4))
    assert all(check.passed for check in compare(found, answers, FLOAT).checks)


def test_a_file_in_integers_computes_its_boxes_in_float(tmp_path):
    """In another size than its frame, so that it resizes the image as well."""
    keras.utils.set_random_seed(3)
    network = detection.FasterRCNN(
        "resnet18", 2, input_shape=(40, 60, 3), min_size=64, max_size=96, channels=16, units=32, proposals=20,
        max_detections=10, score_threshold=0.0, anchor_sizes=(8, 16, 24, 32, 64),
    )  # fmt: skip
    for name, spread in (("box_logits", 2.0), ("box_deltas", 0.3)):
        layer = network.get_layer(name)
        layer.set_weights([np.random.default_rng(3).normal(0, spread, weight.shape) for weight in layer.get_weights()])
    images = synthetic_images((40, 60, 3), count=32)
    made = export(network, tmp_path, ["tflite-int8"], calibration=images)
    report = made.reports["tflite-int8"]
    checks = {check.name: check.measured for check in report.checks}
    assert checks["box numbers"] == "boxes and scores in float32, convolutions and dense layers in int8"
    assert checks["box constants"] == "all there"
    assert report.top1_agreement_percent > 90
    assert read_description(made.paths["tflite-int8"])["input"]["dtype"] == "uint8"


def test_integers_among_the_boxes_of_a_file_are_seen(tmp_path):
    """The converter carries the steps of rounded values on to what only chooses among them."""

    @tf.function(input_signature=[tf.TensorSpec((1, 8), tf.float32)])
    def best(values):
        return tf.math.top_k(tf.quantization.fake_quant_with_min_max_args(values, -1, 1), 3).values

    converter = tf.lite.TFLiteConverter.from_concrete_functions([best.get_concrete_function()])
    for optimizations, measured in (([], "in float32"), ([tf.lite.Optimize.DEFAULT], "1 TOPK_V2 in INT8")):
        converter.optimizations = optimizations
        (tmp_path / "best.tflite").write_bytes(converter.convert())
        check = numbers_check(tmp_path / "best.tflite", FORMATS["tflite-int8"])
        assert measured in check.measured
        assert check.passed == (not optimizations)


def test_a_file_with_other_anchors_or_thresholds_is_seen_without_an_image(made, network):
    for name, path in made.paths.items():
        right = prepare(network)
        assert constants_check(path, constants_of(right)).passed, name
        wrong = wrong_network(network, anchor_sizes=(8, 16, 24, 32, 65), score_threshold=0.03, iou_threshold=0.55)
        check = constants_check(path, constants_of(prepare(wrong)))
        assert check.measured == "without anchors of 65 pixels, score threshold, IoU threshold", name


def test_a_file_states_its_outputs(made):
    for path in made.paths.values():
        description = read_description(path)
        output = description["output"]
        stated = [output, *output["further"]]
        assert [each["name"] for each in stated] == OUTPUTS
        assert [each["dtype"] for each in stated] == ["float32", "float32", "int32", "int32", "float32"]
        assert (description["task"], output["classes"], description["labels"]) == ("detect", 3, NAMES)


def test_the_files_hold_only_built_in_operations(made):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(made.paths["tflite"]))
    operations = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert "NON_MAX_SUPPRESSION_V4" in operations or "WHILE" in operations
    assert not [name for name in operations if "Flex" in name or name.startswith("CUSTOM")]
    assert [tuple(t["shape"]) for t in interpreter.get_output_details()] == [
        (1, 20, 4), (1, 20), (1, 20), (1,), (1, 20, 28, 28),
    ]  # fmt: skip
    import onnx

    graph = onnx.load(str(made.paths["onnx"])).graph
    assert {node.domain for node in graph.node} == {""}
    operators = {node.op_type for node in graph.node}
    assert "NonMaxSuppression" in operators
    assert not operators & {"Loop", "If", "Scan"}  # OpenVINO reads no file with a loop over images
    assert [output.name for output in graph.output] == OUTPUTS


def test_openvino_finds_what_the_network_finds(made, network):
    """In several images at once, and in one by a file of fixed shape."""
    openvino = pytest.importorskip("openvino")
    images = synthetic_images((96, 96, 3), count=3, seed=5).astype("float32")
    expected = network.predict_on_batch(images)
    assert expected["num_detections"].min() > 3
    model = openvino.Core().read_model(str(made.paths["onnx"]))
    for count in (3, 1):
        model.reshape([count if count == 1 else -1, 96, 96, 3])
        found = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images[:count])
        for name, tolerance in (
            ("labels", 0),
            ("num_detections", 0),
            ("boxes", 1e-3),
            ("scores", 1e-5),
            ("masks", 1e-4),
        ):
            np.testing.assert_allclose(found[name], expected[name][:count], atol=tolerance, err_msg=name)


def test_a_file_predicts_as_its_network(made, network, tmp_path):
    """Through the command, on an image of another size than the network's."""
    Image.fromarray(synthetic_images((70, 130, 3), count=1, seed=9)[0]).save(tmp_path / "picture.png")
    found = []
    save_model(network, tmp_path / "model.keras", NAMES, WholeImage(96, 96))
    for file in (tmp_path / "model.keras", *made.paths.values()):
        [answer] = keras_resnet.load(file).predict([tmp_path / "picture.png"])
        found.append(answer)
    expected, *others = found
    assert len(expected["scores"]) > 3
    for answer in others:
        np.testing.assert_array_equal(answer["labels"], expected["labels"])
        np.testing.assert_allclose(answer["boxes"], expected["boxes"], atol=1e-3)
        np.testing.assert_allclose(answer["masks"], expected["masks"], atol=1e-4)
    status, _, errors = in_process(
        "predict", tmp_path / "picture.png", "--model", made.paths["tflite"], "--json", tmp_path / "found.json"
    )
    assert status == 0, errors
    assert len(json.loads((tmp_path / "found.json").read_text())) == len(expected["scores"])


def test_a_file_explains_its_detections_as_its_network(made, network, tmp_path):
    save_model(network, tmp_path / "model.keras", NAMES, WholeImage(96, 96))
    picture = synthetic_images((70, 130, 3), count=1, seed=9)[0]
    maps = []
    for file in (tmp_path / "model.keras", made.paths["tflite"], made.paths["onnx"]):
        label = int(keras_resnet.load(file).predict([picture])[0]["labels"][0])
        maps.append(d_rise(keras_resnet.load(file).asked, picture, class_index=label, top=2, masks=20).heat)
    assert len(maps[0]) >= 1
    assert maps[0].std() > 0.05
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], atol=1e-3)


def test_a_batch_gives_the_answers_of_its_images(made, network):
    images = synthetic_images((96, 96, 3), count=3, seed=5)
    expected = inference.answer(network, images)
    for name in ("saved_model", "onnx"):
        predictor = keras_resnet.load(made.paths[name])
        assert compare(predictor.run(images), expected, FLOAT).agreement_percent == 100
        assert all(
            check.passed
            for check in compare(predictor.run(images[1:]), {k: v[1:] for k, v in expected.items()}, FLOAT).checks
        )


def wrong_network(network, **arguments):
    """-> the network with other settings, and the weights of the right one."""
    settings = dict(
        input_shape=(96, 96, 3), min_size=96, max_size=96, channels=16, units=32, proposals=40, max_detections=20,
        score_threshold=0.0, anchor_sizes=(8, 16, 24, 32, 64),
    )  # fmt: skip
    wrong = detection.MaskRCNN("resnet18", 3, **{**settings, **arguments})
    wrong.set_weights(network.get_weights())
    return wrong


def changed(change):
    return lambda network, images: change(inference.answer(network, images))


def built(**arguments):
    return lambda network, images: inference.answer(wrong_network(network, **arguments), images)


def without_last(answer):
    """-> answer that lacks the worst detection of each image."""
    rows = np.arange(answer["scores"].shape[1]) < answer["num_detections"][:, None] - 1
    kept = {
        name: np.where(rows.reshape(rows.shape + (1,) * (values.ndim - 2)), values, -1 if name == "labels" else 0)
        for name, values in answer.items()
        if name != "num_detections"
    }
    return {**kept, "num_detections": rows.sum(axis=1).astype("int32")}


FAULTS = {
    "boxes scaled": changed(lambda a: {**a, "boxes": a["boxes"] * np.float32(1.001)}),
    "x and y swapped": changed(lambda a: {**a, "boxes": a["boxes"][..., [1, 0, 3, 2]]}),
    "boxes as centre and size": changed(
        lambda a: {**a, "boxes": np.concatenate([(a["boxes"][..., :2] + a["boxes"][..., 2:]) / 2,
                                                 a["boxes"][..., 2:] - a["boxes"][..., :2]], axis=-1)}
    ),
    "boxes from 0 to 1": changed(lambda a: {**a, "boxes": a["boxes"] / 96}),
    "labels shifted by one": changed(lambda a: {**a, "labels": np.where(a["labels"] < 0, -1, a["labels"] + 1)}),
    "labels in another order": changed(lambda a: {**a, "labels": np.where(a["labels"] < 0, -1, 2 - a["labels"])}),
    "scores of the next row": changed(lambda a: {**a, "scores": np.roll(a["scores"], 1, axis=1)}),
    "scores scaled": changed(lambda a: {**a, "scores": a["scores"] * np.float32(0.999)}),
    "masks transposed": changed(lambda a: {**a, "masks": a["masks"].swapaxes(2, 3)}),
    "masks mirrored": changed(lambda a: {**a, "masks": a["masks"][..., ::-1]}),
    "masks of the next row": changed(lambda a: {**a, "masks": np.roll(a["masks"], 1, axis=1)}),
    "number too high": changed(lambda a: {**a, "num_detections": a["num_detections"] + 1}),
    "images in another order": changed(lambda a: {name: values[::-1] for name, values in a.items()}),
    "BGR": lambda network, images: inference.answer(network, images[..., ::-1]),
    "another score threshold": built(score_threshold=0.9),
    "no suppression": built(iou_threshold=1.0),
    "another suppression": built(iou_threshold=0.3),
    "one anchor wrong": built(anchor_sizes=(10, 16, 24, 32, 64)),
    "fewer proposals": built(proposals=30),
    "another resize": built(min_size=90, max_size=90),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_answers_are_refused(network, answers, fault):
    wrong = FAULTS[fault](network, synthetic_images((96, 96, 3), count=4))
    assert not all(check.passed for check in compare(wrong, answers, FLOAT).checks)


def test_the_right_answers_are_accepted_in_any_order_of_nearly_equal_scores(answers):
    alike = {name: values.copy() for name, values in answers.items()}
    alike["scores"][:, 1] = alike["scores"][:, 0] - np.float32(1e-7)
    swapped = {name: values[:, [1, 0, *range(2, 20)]] if values.ndim > 1 else values for name, values in alike.items()}
    swapped["scores"] = np.sort(swapped["scores"], axis=1)[:, ::-1]
    assert all(check.passed for check in compare(swapped, alike, FLOAT).checks)


def test_a_missing_detection_is_seen_even_if_images_have_few():
    """Two in each image: without the worst one, the best one alone still agrees."""
    boxes = np.tile(np.array([[10, 10, 30, 40], [50, 5, 90, 60]], "float32"), (4, 1, 1))
    scores = np.array([[0.9, 0.8], [0.9, 0.7], [0.9, 0.6], [0.9, 0.5]], "float32")
    expected = {
        "boxes": np.pad(boxes, ((0, 0), (0, 3), (0, 0))),
        "scores": np.pad(scores, ((0, 0), (0, 3))),
        "labels": np.tile(np.array([0, 1, -1, -1, -1], "int32"), (4, 1)),
        "num_detections": np.full(4, 2, "int32"),
    }
    assert all(check.passed for check in compare(expected, expected, FLOAT).checks)
    failed = {check.name for check in compare(without_last(expected), expected, FLOAT).checks if not check.passed}
    assert failed == {"model's detections", "lowest score"}


def test_a_file_of_a_wrong_network_is_refused(network, tmp_path, monkeypatch):
    """The file of another network, under the description of the right one, through the whole export."""
    from keras_resnet.export import to_tflite

    wrong = prepare(wrong_network(network, anchor_sizes=(10, 16, 24, 32, 64)))
    write = to_tflite.write_savedmodel
    monkeypatch.setattr(to_tflite, "write_savedmodel", lambda model, *others: write(wrong, *others))
    with pytest.raises(VerificationError, match="detections"):
        export(network, tmp_path, ["tflite"], class_names=NAMES)


def test_formats_that_can_not_hold_a_detector_are_refused(network, tmp_path):
    with pytest.raises(ExportError, match=r"among saved_model, tflite, .*Received: tflite-int16x8: .* float32"):
        export(network, tmp_path, ["tflite-int16x8"], calibration=np.zeros((32, 96, 96, 3), "uint8"))
    with pytest.raises(ExportError, match="whose networks have one size"):
        export(network, tmp_path, ["onnx"], options=Options(any_size=True))
    sizes = detection.FasterRCNN(
        "resnet18", 3, input_shape=(96, 96, 3), image_sizes=True, min_size=96, max_size=96, channels=16, units=32
    )
    with pytest.raises(ExportError, match="whose inputs are image, image_size"):
        export(sizes, tmp_path, ["onnx"])
    assert not list(tmp_path.iterdir())


def test_images_without_detections_prove_nothing(answers):
    nothing = {name: np.full_like(values, -1 if name == "labels" else 0) for name, values in answers.items()}
    failed = {check.name for check in compare(nothing, nothing, FLOAT).checks if not check.passed}
    assert "detections" in failed


def test_constants_as_large_as_the_image_do_not_make_a_file_too_large(tmp_path):
    """A SavedModel of this network was measured at 93,679,823 bytes. Weights that are written twice are still seen."""
    network = detection.FasterRCNN("resnet18", 3, channels=64, units=256)
    assert network.inputs[0].shape == (None, 800, 800, 3)
    passed = []
    for extra in (0, 4 * network.count_params()):
        with (tmp_path / "weights").open("wb") as file:
            file.truncate(93_679_823 + extra)
        passed.append(_size_check(tmp_path, FORMATS["saved_model"], network).passed)
    assert passed == [True, False]


def test_a_detector_of_mixed_precision_is_exported_in_float32(network, answers, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = small_detector(3, masks=True)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(network.get_weights())
    assert mixed.get_layer("fpn_output3_conv").compute_dtype == "bfloat16"
    path = export(mixed, tmp_path, ["tflite"], class_names=NAMES).paths["tflite"]
    found = keras_resnet.load(path).run(synthetic_images((96, 96, 3), count=4))
    assert all(check.passed for check in compare(found, answers, FLOAT).checks)
    report = examine_artifact(
        path, mixed, images=synthetic_images((96, 96, 3), count=8, seed=2), contract=WholeImage(96, 96)
    )
    assert report.passed
