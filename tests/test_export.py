"""Export: what is written, under which name, and what each converter is known to do wrong in silence."""

import json
import sys
from collections import Counter

import keras
import numpy as np
import pytest
from shallow import shallow_builder
from small_classifier import small_classifier

import keras_resnet
from keras_resnet.errors import ExportError, MissingDependencyError, VerificationError
from keras_resnet.export import export, pipeline, runtimes
from keras_resnet.export.description import read_description
from keras_resnet.export.files import ANSWERS
from keras_resnet.export.formats import FORMATS, UNVERIFIED, all_formats, format_named
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.prepare import prepare
from keras_resnet.export.runtimes import Tensor, format_of, open_runtime
from keras_resnet.variants import InputContract

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

CALIBRATION = synthetic_images((64, 64, 3), count=40, seed=5)


def predict(runtime, images, batch_size=1):
    """Opened artifact, pixels -> probabilities."""
    return runtimes.predict(runtime, images, batch_size)["probabilities"]


@pytest.fixture(scope="module")
def resnet(randomise):
    """ResNet-18 with one block a stage, and random values with which two classes are hardly ever nearly equal."""
    return randomise(shallow_builder("resnet18")(input_shape=(64, 64, 3), classes=10), seed=2)


@pytest.fixture(scope="module")
def exported(resnet, tmp_path_factory):
    return export(resnet, tmp_path_factory.mktemp("export"), all_formats(), calibration=CALIBRATION)


@pytest.mark.parametrize("name", all_formats())
def test_artifact_gives_the_models_answers(name, exported, resnet):
    """Measured against the source model, on images that no part of the export has seen, at two batch sizes."""
    images = synthetic_images((64, 64, 3), count=7, seed=99)
    expected = np.asarray(resnet(images, training=False))
    runtime = open_runtime(exported.paths[name], FORMATS[name])
    answers = predict(runtime, images)
    if FORMATS[name].integer:
        assert np.abs(answers - expected).max() < 0.1
        assert (answers.argmax(1) == expected.argmax(1)).mean() >= 6 / 7
    else:
        bound = 2e-3 if "float16" in name else 1e-5
        assert np.abs(answers - expected).max() / expected.max() < bound
    if FORMATS[name].any_batch:
        np.testing.assert_allclose(predict(runtime, images, batch_size=3), answers, rtol=0, atol=1e-5)
    else:  # the file states batch size 1, and can be resized
        np.testing.assert_allclose(predict(runtime, images[:4], batch_size=4), answers[:4], rtol=0, atol=1e-5)
        np.testing.assert_allclose(predict(runtime, images[:2]), answers[:2], rtol=0, atol=1e-5)


def test_manifest_records_each_artifact(exported, resnet):
    manifest = json.loads(exported.manifest.read_text())
    assert set(manifest["artifacts"]) == set(all_formats())
    for name, entry in manifest["artifacts"].items():
        assert entry["file"] == FORMATS[name].file_name
        description = entry["description"]
        assert description == read_description(exported.paths[name])
        assert description["format"] == name
        assert description["parameters"] == resnet.count_params()
        assert description["input"]["size"] == [64, 64, 3]
        assert description["input"]["centre_crop"] == 64
        if FORMATS[name].calibrated:
            assert description["quantization"]["calibration"]["images"] == 40
        assert entry["verification"]["passed"]
        assert len(entry["sha256"]) == len(description["weights"]["sha256"]) == 64
    size_bytes = manifest["artifacts"]["tflite"]["size_bytes"]
    assert size_bytes == exported.paths["tflite"].stat().st_size


def test_nothing_but_the_final_names_is_left(exported):
    assert {path.name for path in exported.folder.iterdir()} == {
        "manifest.json",
        *(row.file_name for row in map(format_named, all_formats())),
        *(row.file_name + ANSWERS for row in map(format_named, all_formats())),
    }


def test_a_second_export_adds_to_the_manifest_and_overwrites_only_when_asked(randomise, tmp_path):
    model = randomise(small_classifier())
    export(model, tmp_path, ["tflite"])
    export(model, tmp_path, ["saved_model"])
    assert set(json.loads((tmp_path / "manifest.json").read_text())["artifacts"]) == {"tflite", "saved_model"}
    with pytest.raises(ExportError, match=r"saved_model already exists"):
        export(model, tmp_path, ["saved_model"])
    other = randomise(small_classifier(), seed=3)
    export(other, tmp_path, ["saved_model"], overwrite=True)
    images = synthetic_images((32, 32, 3), count=3)
    answers = predict(open_runtime(tmp_path / "saved_model", FORMATS["saved_model"]), images)
    np.testing.assert_allclose(answers, np.asarray(other(images, training=False)), atol=1e-6)
    assert not (tmp_path / "saved_model.replaced").exists()


# What converters do wrong in silence.


def tflite_operators(path):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without XNNPACK, which would show the whole graph as one operator.
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    return Counter(operator["op_name"] for operator in interpreter._get_ops_details())


def test_tflite_folds_batch_norm_and_fuses_relu(exported):
    operators = tflite_operators(exported.paths["tflite"])
    # 12 convolutions; 4 joins, and the mean on the border of the image; five paddings, one of them in rows.
    assert operators == {
        "CONV_2D": 12,
        "ADD": 4 + 1,
        "PAD": 5,
        "RESHAPE": 2,
        "MAX_POOL_2D": 1,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
    }


def test_tflite_int8_is_integers_alone(exported):
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(exported.paths["tflite-int8"])).get_tensor_details()
    assert {str(np.dtype(tensor["dtype"])) for tensor in details if tensor["shape"].size} <= {"int8", "int32", "uint8"}
    quantize = tflite_operators(exported.paths["tflite-int8"])
    assert quantize.pop("QUANTIZE") == 2  # uint8 pixels to int8, int8 probabilities to uint8
    more = {"RESHAPE": 2, "SPACE_TO_DEPTH": 1}  # another padding in rows; the stem reads blocks of four pixels
    assert quantize == tflite_operators(exported.paths["tflite"]) + Counter(more)


def test_onnx_folds_batch_norm_and_names_its_tensors(exported):
    import onnx

    graph = onnx.load(str(exported.paths["onnx"])).graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["BatchNormalization"] == 0
    assert operators["Conv"] == 12
    assert operators["Transpose"] == 1  # pixels come in NHWC
    assert [tensor.name for tensor in graph.input] == ["image"]
    assert [tensor.name for tensor in graph.output] == ["probabilities"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_saved_model_holds_each_weight_once(exported, resnet):
    data = sum(file.stat().st_size for file in (exported.paths["saved_model"] / "variables").iterdir())
    assert resnet.count_params() * 4 * 0.99 <= data < resnet.count_params() * 4 * 1.02  # BatchNorm is folded


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_model_is_exported_in_float32(policy, randomise, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        mixed = randomise(small_classifier())
    finally:
        keras.config.set_dtype_policy("float32")
    same_in_float32 = randomise(small_classifier())
    report = export(mixed, tmp_path, ["saved_model", "tflite", "onnx"])
    images = synthetic_images((32, 32, 3), count=4, seed=2)
    expected = np.asarray(same_in_float32(images, training=False))
    for name, path in report.paths.items():
        answers = predict(open_runtime(path, FORMATS[name]), images)
        assert np.abs(answers - expected).max() / expected.max() < 1e-5, name


def test_a_tracked_keras_model_loses_its_weights_in_tflite_and_is_refused(resnet, exported, tmp_path, monkeypatch):
    """The converter's own advice, `trackable_obj=model`, writes a file without weights and says nothing."""
    import tensorflow as tf

    from keras_resnet.export import to_tflite
    from keras_resnet.export.to_savedmodel import serving_function

    def tracked(job, path):
        function = serving_function(job.model, "probabilities", 1).get_concrete_function()
        path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], job.model).convert())

    monkeypatch.setattr(to_tflite, "to_tflite", tracked)
    monkeypatch.setattr(pipeline, "embed", lambda path, description: None)
    with pytest.raises(VerificationError, match=r"size: .* bytes; required"):
        export(resnet, tmp_path, ["tflite"])
    assert (tmp_path / ("model.tflite" + UNVERIFIED)).stat().st_size < 1_000_000
    assert not (tmp_path / "model.tflite").exists()


def test_a_tracked_keras_model_is_written_twice_in_a_saved_model_and_is_refused(resnet, tmp_path, monkeypatch):
    from keras_resnet.export import to_savedmodel

    monkeypatch.setattr(to_savedmodel, "to_savedmodel", lambda job, path: job.model.export(str(path), verbose=False))
    with pytest.raises(VerificationError) as raised:
        export(resnet, tmp_path, ["saved_model"])
    assert "size: " in str(raised.value)
    assert "output name: output_0" in str(raised.value)


# Preparation.


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_logits_and_probabilities_both_export_as_probabilities(activation, randomise):
    model = randomise(small_classifier(activation))
    images = synthetic_images((32, 32, 3), count=3)
    prepared = np.asarray(prepare(model)(images, training=False))
    logits = model.get_layer("logits")
    values = np.asarray(keras.Model(model.input, logits.output)(images, training=False)).astype("float64")
    expected = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(prepared, expected, rtol=1e-5)


def test_a_model_of_free_size_is_exported_at_the_contracts(randomise, tmp_path):
    model = randomise(small_classifier(size=None))
    contract = InputContract(size=48, resize=50)
    report = export(model, tmp_path, ["tflite"], contract=contract)
    assert open_runtime(report.paths["tflite"], FORMATS["tflite"]).inputs == {
        "image": Tensor((1, 48, 48, 3), "float32")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(formats=["tflite_int8"]), r"Received: 'tflite_int8'. Did you mean 'tflite-int8'\?"),
        (dict(formats=[]), r"`formats` must be a non-empty list of names. Received: formats=\[\]"),
        (dict(formats="onnx"), r"Received: formats='onnx'"),
        (
            dict(formats=["tflite-int8"]),
            r"`calibration` \(--calibration\) must give typical images for tflite-int8. Received: calibration=None",
        ),
        (dict(calibration=np.zeros((40, 32, 32, 3))), r"must be uint8 pixels \[N, 32, 32, 3\]. Received: float64"),
        (dict(calibration=np.zeros((9, 32, 32, 3), "uint8")), r"at least 32 images. Received: 9"),
        (
            dict(class_names=["one"]),
            r"`class_names` \(--class-names\) must name the model's 10 classes. Received: 1 names",
        ),
        (dict(model=None), r"`model` must be a built functional Keras model. Received: None"),
    ],
)
def test_wrong_arguments_name_the_rule_and_the_value(change, message, tmp_path):
    arguments = {"model": small_classifier(), "folder": tmp_path / "out", "formats": ["saved_model"], **change}
    with pytest.raises(ExportError, match=message):
        export(**arguments)
    assert not (tmp_path / "out").exists()


def test_models_that_are_no_pixel_classifier_are_refused(tmp_path):
    with pytest.raises(ExportError, match="computes nothing on its input before the layer 'stem_conv'"):
        export(keras_resnet.ResNet18(input_shape=(32, 32, 3), include_preprocessing=False), tmp_path)
    with pytest.raises(ExportError, match='build with include_top=False, pooling="avg"'):
        export(keras_resnet.ResNet18(input_shape=(32, 32, 3), include_top=False), tmp_path)


def test_int8_takes_the_bytes_of_a_picture_whatever_the_calibration(randomise, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    dark = (CALIBRATION[:, :32, :32] * 0.6).astype("uint8")
    report = export(randomise(small_classifier(), seed=4), tmp_path, ["tflite-int8"], calibration=dark)
    [details] = Interpreter(str(report.paths["tflite-int8"])).get_input_details()
    assert details["quantization"] == (1.0, 0)


def test_format_is_told_by_content(exported, tmp_path):
    for name, path in exported.paths.items():
        assert format_of(path).name == name
    renamed = tmp_path / "digits.tflite.unverified"
    renamed.write_bytes(exported.paths["tflite-int8"].read_bytes())
    assert format_of(renamed).name == "tflite-int8"
    with pytest.raises(ExportError, match="an artifact must be a SavedModel, OpenVINO or web folder"):
        format_of(tmp_path)
    with pytest.raises(ExportError, match="no such file or folder"):
        format_of(tmp_path / "missing.onnx")


# Models of a user's own making.


def test_a_backbone_inside_a_model_is_exported_in_float32(tmp_path, randomise):
    def build():
        image = keras.Input((32, 32, 3), name="pixels")
        whole = small_classifier()
        backbone = keras.Model(whole.input, whole.get_layer("pool").output)
        x = keras.layers.Dropout(0.2)(backbone(image))
        return keras.Model(image, keras.layers.Dense(5, dtype="float32")(x), name="transfer")

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build()
    finally:
        keras.config.set_dtype_policy("float32")
    randomise(mixed.layers[1])
    float32 = build()
    float32.set_weights(mixed.get_weights())
    path = export(mixed, tmp_path, ["tflite"]).paths["tflite"]
    images = synthetic_images((32, 32, 3), count=3, seed=7)
    logits = np.asarray(float32(images, training=False)).astype("float64")
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict(open_runtime(path, FORMATS["tflite"]), images), expected, rtol=1e-4)


def test_outputs_that_are_no_probabilities_are_refused(randomise, tmp_path):
    base = randomise(small_classifier(None))
    for output in (keras.layers.Rescaling(0.5)(base.output), base.output * 2.0, keras.ops.log_softmax(base.output)):
        with pytest.raises(ExportError, match="the kind of its output is unknown"):
            export(keras.Model(base.input, output), tmp_path, ["saved_model"])
        with pytest.raises(ExportError, match="must give probabilities, as was stated about it"):
            export(keras.Model(base.input, output), tmp_path, ["saved_model"], output_kind="probabilities")
    probabilities = keras.Model(base.input, keras.ops.softmax(base.output))
    export(probabilities, tmp_path, ["saved_model"])
    answers = predict(open_runtime(tmp_path / "saved_model", FORMATS["saved_model"]), CALIBRATION[:2, :32, :32])
    np.testing.assert_allclose(answers, np.asarray(probabilities(CALIBRATION[:2, :32, :32], training=False)), rtol=1e-5)


@pytest.mark.parametrize(("channels", "classes", "activation"), [(1, 2, "softmax"), (4, 1, "sigmoid")])
def test_other_channels_and_few_classes(channels, classes, activation, randomise, tmp_path):
    model = randomise(small_classifier(activation, 32, 64, channels, classes))
    report = export(model, tmp_path, ["tflite"])
    entry = json.loads(report.manifest.read_text())["artifacts"]["tflite"]["description"]["input"]
    assert (entry["size"], entry["centre_crop"]) == ([32, 64, channels], None)


def test_an_untrained_model_can_be_exported(tmp_path):
    """All its answers are nearly the same; float artifacts are held to the little by which they differ."""
    report = export(small_classifier(classes=1000), tmp_path, ["saved_model", "tflite"])
    assert all(verification.passed for verification in report.reports.values())


def test_a_contract_of_another_size_is_refused(tmp_path):
    with pytest.raises(ExportError, match="`contract` must give the model's input size, 32x32"):
        export(small_classifier(), tmp_path / "out", ["saved_model"], contract=InputContract())


def test_an_absent_converter_is_named_before_the_work_starts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(MissingDependencyError, match=r"'tf2onnx'.*keras-resnet-kit\[onnx\]"):
        export(small_classifier(), tmp_path / "out", ["saved_model", "onnx"])
    assert not (tmp_path / "out").exists()


def test_what_a_killed_run_left_is_cleaned_up(randomise, tmp_path):
    model = randomise(small_classifier())
    (tmp_path / "saved_model").mkdir()
    for leftover in ("saved_model.unverified", "saved_model.replaced", ".saved_model.scratch"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "part").touch()
    export(model, tmp_path, ["saved_model"], overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"saved_model", "saved_model.answers.npz", "manifest.json"}


def test_a_folder_that_was_moved_aside_comes_back(randomise, tmp_path):
    """Killed between the two renames, a run leaves the older artifact under another name."""
    model = randomise(small_classifier())
    export(model, tmp_path, ["saved_model"])
    (tmp_path / "saved_model").rename(tmp_path / "saved_model.replaced")
    with pytest.raises(ExportError, match="saved_model already exists"):
        export(model, tmp_path, ["saved_model"])
    assert format_of(tmp_path / "saved_model").name == "saved_model"


def test_a_format_that_fails_does_not_stop_the_others(randomise, tmp_path, monkeypatch):
    from keras_resnet.export import to_tflite

    def broken(job, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(to_tflite, "to_tflite", broken)
    with pytest.raises(ExportError, match=r"No space left on device"):
        export(randomise(small_classifier()), tmp_path, ["tflite", "saved_model"])
    assert set(json.loads((tmp_path / "manifest.json").read_text())["artifacts"]) == {"saved_model"}
