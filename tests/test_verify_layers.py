"""The verifier against faults in what a file states, in its further ways in, and in one channel of one layer."""

import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
from small_classifier import small_classifier

from keras_resnet.errors import VerificationError
from keras_resnet.export import export, pipeline, to_savedmodel
from keras_resnet.export.formats import FORMATS, all_formats
from keras_resnet.export.graph_format import format_in_graph
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.inner_tensors import OUTPUT, open_inner
from keras_resnet.export.layer_checks import _Channels, layer_checks, points_of
from keras_resnet.export.prepare import prepare
from keras_resnet.export.simulated_tflite import proven
from keras_resnet.export.stated_checks import stated_checks
from keras_resnet.export.verify import ask, examine

INTEGERS = ["tflite-int8", "onnx-int8", "openvino-int8"]


def with_weights(model, change):
    changed = keras.models.clone_model(model)
    changed.set_weights(model.get_weights())
    change(changed)
    return changed


@pytest.mark.parametrize("name", all_formats())
def test_the_format_is_read_from_the_graph(name, small_exports):
    assert format_in_graph(small_exports.paths[name]) == name


def test_a_favoured_class_is_seen_at_the_logits(small_exports):
    """A shift of 0.04 standard deviations would pass the bound of other layers in int8, and favours a class."""

    def favour(model):
        logits = model.get_layer("logits")
        values = keras.Model(model.input, logits.output).predict(small_exports.calibration, verbose=0)
        kernel, bias = logits.get_weights()
        bias[3] += 0.04 * values[:, 3].std()
        logits.set_weights([kernel, bias])

    points = list(points_of(prepare(with_weights(small_exports.model, favour))))
    run = open_inner(small_exports.paths["onnx-int8"], FORMATS["onnx-int8"].runtime)
    checks = layer_checks(run, points, small_exports.calibration, FORMATS["onnx-int8"].tolerance.layers, 1 / 256)
    assert [check.name for check in checks if not check.passed] == ["logits mean"]


# --- layers -------------------------------------------------------------------------------------------------------

CHANNEL = 5  # of the first convolution of the block


def kernel_times(factor):
    def change(model):
        layer = model.get_layer("stage2_block1_1_conv")
        [kernel] = layer.get_weights()
        kernel[..., CHANNEL] *= factor
        layer.set_weights([kernel])

    return change


def neighbours_swapped(model):
    layer = model.get_layer("stage2_block1_1_conv")
    [kernel] = layer.get_weights()
    kernel[..., [CHANNEL, CHANNEL + 1]] = kernel[..., [CHANNEL + 1, CHANNEL]]
    layer.set_weights([kernel])


def offset(by):
    def change(model):
        layer = model.get_layer("stage2_block1_1_bn")
        gamma, beta, mean, variance = layer.get_weights()
        beta[CHANNEL] += by
        layer.set_weights([gamma, beta, mean, variance])

    return change


FAULTS = {
    "zero": (kernel_times(0), "channel noise"),
    "negated": (kernel_times(-1), "channel noise"),
    "scaled": (kernel_times(1.3), "channel scale"),
    "swapped": (neighbours_swapped, "channel noise"),
    "offset": (offset(0.3), "channel noise"),
    "larger offset": (offset(1), "channel mean"),
}


@pytest.mark.parametrize("name", [*INTEGERS, "tflite-float16", "onnx-float16", "tflite-dynamic", "tflite-int16x8"])
def test_layers_of_a_good_file_differ_by_its_rounding_only(name, small_exports):
    run = open_inner(small_exports.paths[name], FORMATS[name].runtime)
    points = list(points_of(prepare(small_exports.model)))
    checks = layer_checks(run, points, small_exports.calibration, FORMATS[name].tolerance.layers, 1 / 256)
    kinds = ["layer noise", "channel noise", "channel scale", "channel mean", "logits mean", "softmax"]
    assert [check.name for check in checks] == (kinds if name not in INTEGERS else [*kinds, "range use"])
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_wrong_channel_is_named(fault, name, small_exports):
    """The file is good here, and the model has the fault: they differ as a wrong file and a good model do."""
    change, expected = FAULTS[fault]
    run = open_inner(small_exports.paths[name], FORMATS[name].runtime)
    points = list(points_of(prepare(with_weights(small_exports.model, change))))
    checks = layer_checks(run, points, small_exports.calibration, FORMATS[name].tolerance.layers, 1 / 256)
    failed = {check.name: check.measured for check in checks if not check.passed}
    assert f"channel {CHANNEL}" in failed[expected] or f"channel {CHANNEL + 1}" in failed[expected]
    assert "stage2_block1_1_relu" in failed[expected]


def without_branch(model):
    """A fresh network has a scale of zero here, so that its branch adds zeros."""
    layer = model.get_layer("stage2_block1_2_bn")
    gamma, beta, *statistics = layer.get_weights()
    layer.set_weights([0 * gamma, 0 * beta, *statistics])


def test_a_branch_that_is_still_zero_is_no_fault(small_exports, tmp_path):
    """OpenVINO leaves the addition out, so that no tensor of the file is the branch."""
    fresh = with_weights(small_exports.model, without_branch)
    formats = ["openvino", "onnx", "tflite", "openvino-int8"]
    assert not export(fresh, tmp_path, formats, calibration=small_exports.calibration).failures
    run = open_inner(small_exports.paths["openvino"], FORMATS["openvino"].runtime)
    tolerance = FORMATS["openvino"].tolerance.layers
    checks = layer_checks(run, list(points_of(prepare(fresh))), small_exports.calibration, tolerance, 0.0)
    failed = {check.name: check.measured for check in checks if not check.passed}
    assert failed["layer noise"].endswith("in stage2_block1_out")


def softened(answers):
    powers = answers**0.8
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("name", [*INTEGERS, "onnx-float16", "tflite-float16"])
@pytest.mark.parametrize("change", [softened, lambda answers: np.round(answers * 40) / 40])
def test_answers_must_be_the_softmax_of_the_files_own_logits(change, name, small_exports):
    """A temperature and coarse answers keep the order of the classes."""
    run = open_inner(small_exports.paths[name], FORMATS[name].runtime)
    points = list(points_of(prepare(small_exports.model)))

    def changed(pixels):
        own = run(pixels)
        return {**own, OUTPUT: np.float32(change(own[OUTPUT]))}

    tolerance = FORMATS[name].tolerance.layers
    checks = layer_checks(changed, points, small_exports.calibration, tolerance, FORMATS[name].output_step)
    assert "softmax" in [check.name for check in checks if not check.passed]


def test_the_softmax_of_many_classes_in_16_bits_is_no_fault(randomise, tmp_path):
    """LiteRT counts 2^-14 for each class whose exponential is lower, and so does the simulation of the file."""
    model = randomise(small_classifier(classes=500), seed=4)
    images = synthetic_images((32, 32, 3), count=40, seed=8)
    logits = model.get_layer("logits")
    values = np.asarray(keras.Model(model.input, logits.output)(images.astype("float32")))
    kernel, bias = logits.get_weights()
    logits.set_weights([kernel * 5 / values.std(), bias * 0])
    path = export(model, tmp_path, ["tflite-int16x8"], calibration=images).paths["tflite-int16x8"]
    points = list(points_of(prepare(model)))
    layers = FORMATS["tflite-int16x8"].tolerance.layers
    checks = layer_checks(open_inner(path, "LiteRT"), points, images, layers, FORMATS["tflite-int16x8"].output_step)
    [check] = [check for check in checks if check.name == "softmax"]
    assert check.passed
    assert 0.01 < float(check.measured.split()[0]) < 0.001 + 500 * 2**-14
    _, check = proven(path, "LiteRT", images[:4])
    assert check.passed


@pytest.mark.parametrize(("width", "passes"), [(1, True), (2, True), (4, False)])
def test_ranges_that_are_too_wide_are_seen(width, passes, small_exports):
    """Each layer is rounded to 255 steps of so many times the range of its values."""
    exact = open_inner(small_exports.paths["onnx"], FORMATS["onnx"].runtime)
    steps = {name: width * float(np.ptp(values)) / 255 for name, values in exact(small_exports.calibration).items()}

    def run(pixels):
        return {name: np.float32(steps[name]) * np.rint(values / steps[name]) for name, values in exact(pixels).items()}

    points = list(points_of(prepare(small_exports.model)))
    tolerance = FORMATS["onnx-int8"].tolerance.layers
    check = layer_checks(run, points, small_exports.calibration, tolerance, 1 / 256)[-1]
    assert (check.name, check.passed) == ("range use", passes)
    assert float(check.measured.split("%")[0]) == pytest.approx(100 / width, abs=12 / width)


def errors_of(expected, received, images, step=None):
    channels = _Channels(steps=None if step is None else np.zeros(0))
    channels.add(expected, received, images)
    return channels.errors()


def test_the_rounding_of_a_channel_that_hardly_varies_is_no_fault():
    """Its values all lie between two steps, and all become the lower or the upper one."""
    random = np.random.default_rng(3)
    values = random.normal(0.3, [1.0, 1e-3, 1e-3], (4, 50, 50, 3))
    values[..., 1] += 4.4 / 64
    values[..., 2] += 0.5 / 64
    rounded = np.rint(values * 64) / 64
    found = errors_of(values, rounded, 4, step=1 / 64)
    assert found["channel_mean"].tolist() == [0, 0, 0]
    assert found["channel_noise"].max() < 1e-6
    shifted = rounded + np.array([0, 0, 2 / 64])
    assert errors_of(values, shifted, 4, step=1 / 64)["channel_mean"][2] > 0.3


def test_a_shift_counts_as_far_as_it_is_the_same_in_each_image():
    random = np.random.default_rng(4)
    values = random.normal(0, 1, (16, 20, 20, 2))
    of_images = random.normal(0, 0.3, (16, 1, 1, 1)) * [1, 0]
    found = errors_of(values, values + of_images + [0, 0.1], 16)
    assert found["channel_mean"] == pytest.approx([0, 0.1], abs=2e-3)
    expected = np.square(of_images - of_images.mean(axis=0))[..., 0].mean()
    assert found["channel_noise"] == pytest.approx([expected, 0], abs=2e-3)


def test_a_fault_in_one_layer_is_not_blamed_on_later_ones(small_exports):
    """Later layers are given the values that the file itself computed."""
    points = list(points_of(prepare(with_weights(small_exports.model, kernel_times(0)))))
    wrong = []
    run = open_inner(small_exports.paths["onnx"], FORMATS["onnx"].runtime)
    for point in points:
        checks = layer_checks(
            run, points[: points.index(point) + 1], small_exports.calibration, FORMATS["onnx"].tolerance.layers, 0
        )
        wrong.append(not all(check.passed for check in checks))
    first = next(index for index, point in enumerate(points) if point.name == "stage2_block1_1_relu")
    assert wrong == [index >= first for index in range(len(points))]


# --- what a file states -------------------------------------------------------------------------------------------


@pytest.fixture
def export_stating(monkeypatch, tmp_path, small_exports):
    """Returns export_stating(name, change): exports with a description that `change` has changed."""

    def run(name, change):
        def describe(*args, **kwargs):
            description = describe_artifact(*args, **kwargs)
            change(description)
            return description

        describe_artifact = pipeline.describe_artifact
        monkeypatch.setattr(pipeline, "describe_artifact", describe)
        return export(
            small_exports.model,
            tmp_path,
            [name],
            calibration=small_exports.calibration,
            class_names=small_exports.class_names,
        )

    return run


def rotated(description):
    description["labels"] = description["labels"][1:] + description["labels"][:1]


def other_resize(description):
    description["input"]["resize_short_side"] += 9


def other_range(description):
    description["input"]["range"] = [0, 1]


def other_parameters(description):
    description["parameters"] += 1


@pytest.mark.parametrize("name", ["saved_model", "tflite", "onnx"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rotated, "class names: description: class 0 is 'thing 1 <&> ö', not 'thing 0 <&> ö'"),
        (other_resize, "contract: 46 -> 32 bilinear: largest difference 0."),
        (other_range, r"stated network: range: \[0, 1\], not \[0, 255\]"),
        (other_parameters, "stated network: parameters: "),
    ],
)
def test_a_false_description_is_refused(change, message, name, export_stating):
    with pytest.raises(VerificationError, match=message):
        export_stating(name, change)


def test_a_float_file_that_calls_itself_int8_is_refused(small_exports):
    row = FORMATS["onnx-int8"]
    reference = ask(prepare(small_exports.model), small_exports.calibration)
    report = examine(small_exports.paths["onnx"], row, reference)
    [check] = [check for check in report.checks if check.name == "format"]
    assert (check.measured, check.required, check.passed) == ("the numbers of onnx", "onnx-int8", False)


def test_a_network_without_a_large_kernel_is_written_in_float(tmp_path):
    """LiteRT's converter rounds no kernel of fewer than 1,024 values; such a file of a larger network is refused."""
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(8, 3, 2, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    answer = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    images = synthetic_images((32, 32, 3), count=32, seed=1)
    path = export(keras.Model(image, answer), tmp_path, ["tflite-dynamic"], calibration=images).paths["tflite-dynamic"]
    assert format_in_graph(path) == "tflite"
    large = keras.Model(image, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x)))
    checks = stated_checks(path, FORMATS["tflite-dynamic"], None, large, None, None)
    assert [(check.name, check.passed) for check in checks] == [("format", False)]


def test_names_are_compared_in_each_place(small_exports, tmp_path):
    """A TFLite file has them in its description, and in labels.txt, which other programs read."""
    from keras_resnet.export.integrity import seal

    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(small_exports.paths["tflite"]) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
        start = min(entry.header_offset for entry in archive.infolist())
    names = held["labels.txt"].decode().splitlines()
    held["labels.txt"] = "\n".join(reversed(names)).encode()
    path.write_bytes(small_exports.paths["tflite"].read_bytes()[:start])
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    seal(path)
    reference = ask(prepare(small_exports.model), small_exports.calibration, small_exports.class_names)
    [check] = [check for check in examine(path, FORMATS["tflite"], reference).checks if check.name == "class names"]
    assert not check.passed
    assert check.measured.startswith("labels.txt: class 0 is 'thing 9 <&> ö', not 'thing 0 <&> ö'")
    assert json.loads(held["description.json"])["labels"] == names


def test_a_manifest_that_states_something_else_is_refused(small_exports, tmp_path):
    shutil.copy(small_exports.paths["onnx"], tmp_path)
    manifest = json.loads((small_exports.folder / "manifest.json").read_text())
    labels = manifest["artifacts"]["onnx"]["description"]["labels"]
    reference = ask(prepare(small_exports.model), small_exports.calibration, small_exports.class_names)
    for names, measured in ((labels, "it records this file"), (labels[::-1], "it records another description")):
        manifest["artifacts"]["onnx"]["description"]["labels"] = names
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        checks = examine(tmp_path / "model.onnx", FORMATS["onnx"], reference).checks
        assert [check.measured for check in checks if check.name == "manifest"] == [measured]


# --- ways into a file ---------------------------------------------------------------------------------------------


def reversed_names(monkeypatch):
    original = to_savedmodel._encoded_function
    monkeypatch.setattr(
        to_savedmodel, "_encoded_function", lambda model, contract, names: original(model, contract, names[::-1])
    )


def other_way(monkeypatch):
    original = to_savedmodel._encoded_function
    monkeypatch.setattr(
        to_savedmodel,
        "_encoded_function",
        lambda model, contract, names: original(model, type(contract)(contract.size, contract.resize + 8), names),
    )


def other_features(monkeypatch):
    import tensorflow as tf

    original = to_savedmodel._features_function

    def larger(model):
        features = original(model)
        return tf.function(
            lambda image: {level: 1.1 * values for level, values in features(image).items()},
            input_signature=features.input_signature,
        )

    monkeypatch.setattr(to_savedmodel, "_features_function", larger)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (reversed_names, "serve_jpeg: labels that are not the names of the indices"),
        (other_way, "serve_jpeg: other probabilities"),
        (other_features, "features: other values in "),
    ],
)
def test_every_signature_of_a_savedmodel_is_compared(fault, message, monkeypatch, small_exports, tmp_path):
    fault(monkeypatch)
    with pytest.raises(VerificationError, match=message):
        export(small_exports.model, tmp_path, ["saved_model"], class_names=small_exports.class_names)


def test_a_signature_that_points_at_another_tensor_is_refused(small_exports, tmp_path):
    from tensorflow.lite.tools import flatbuffer_utils

    from keras_resnet.export.description import embed, read_description

    source, path = small_exports.paths["tflite"], tmp_path / "model.tflite"
    model = flatbuffer_utils.read_model(str(source))
    graph, [signature] = model.subgraphs[0], model.signatureDefs
    logits = graph.operators[-1].inputs[0]
    assert list(graph.tensors[logits].shape) == [1, 10]
    signature.outputs[0].tensorIndex = logits
    model.metadata = []
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    embed(path, read_description(source))
    reference = ask(prepare(small_exports.model), small_exports.calibration, small_exports.class_names)
    failed = {check.name: check.measured for check in examine(path, FORMATS["tflite"], reference).failures}
    assert failed["runs"].startswith("batch size 1: ValueError: Tensor data is null")  # the runtime keeps only answers


def test_points_hold_the_answer_last(small_exports):
    points = list(points_of(prepare(small_exports.model)))
    assert points[-1].read == ("logits",)
    assert [point.is_logits for point in points] == [False] * (len(points) - 2) + [True, False]
    pixels = small_exports.calibration[:3].astype("float32")
    assert np.asarray(points[0].part([pixels])).shape == (3, 16, 16, 8)
