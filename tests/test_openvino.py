"""OpenVINO's two formats, and OpenVINO as a runtime of ONNX files: numbers, what is refused, what nobody may run."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from command_line import in_process
from small_classifier import small_classifier
from small_segmenter import small_segmenter

from keras_resnet import inference, load
from keras_resnet.benchmark import compare
from keras_resnet.compress import quantize_aware
from keras_resnet.errors import ArgumentError, ExportError, MissingDependencyError
from keras_resnet.export import export, pipeline, to_openvino
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.formats import FORMATS, Options
from keras_resnet.export.graph_format import format_in_graph
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.integrity import FOLDER_FILE, seal
from keras_resnet.export.ir_roundings import remove_roundings
from keras_resnet.export.pipeline import examine_artifact, require_converters
from keras_resnet.export.running import IN_BFLOAT16, Running
from keras_resnet.export.runtimes import format_of, open_runtime, predict, read_openvino
from keras_resnet.tasks import contract_of
from keras_resnet.variants import WholeImage

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

NAMES = ("openvino", "openvino-int8")
IMAGES = synthetic_images((32, 32, 3), count=20, seed=5)
CONTRACT = contract_of(small_classifier())


@pytest.fixture
def copy_of(small_exports, tmp_path):
    return lambda name: shutil.copytree(small_exports.paths[name], tmp_path / name)


def edit(folder, old, new, count=1):
    """Changes `model.xml` as somebody would who knows how to seal it again."""
    text = (folder / "model.xml").read_text()
    assert old in text
    (folder / "model.xml").write_text(text.replace(old, new, count))
    seal(folder)
    return folder


def answers(folder, name, images, batch_size, **changes):
    return predict(open_runtime(folder, replace(FORMATS[name], **changes)), images, batch_size)["probabilities"]


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7])
def test_float_answers_are_the_models(batch_size, small_exports):
    expected = inference.predict(small_exports.model, IMAGES)
    received = answers(small_exports.paths["openvino"], "openvino", IMAGES, batch_size)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_integer_answers_are_near_those_of_the_onnx_file(batch_size, small_exports):
    received = answers(small_exports.paths["openvino-int8"], "openvino-int8", IMAGES, batch_size)
    for name, most in (("onnx-int8", 0.01), ("openvino", 0.05)):
        assert np.abs(received - answers(small_exports.paths[name], name, IMAGES, 1)).max() < most


def operations(folder, kind):
    """Folder -> OpenVINO's network, which its operations need, and its operations of one kind, in order."""
    network = openvino.Core().read_model(folder / "model.xml")
    return network, [operation for operation in network.get_ordered_ops() if operation.get_type_name() == kind]


def kinds_added(folder):
    """Folder -> for each addition of two branches, the kinds of operations that compute them."""
    network, additions = operations(folder, "Add")
    kinds = [[value.get_node().get_type_name() for value in addition.input_values()] for addition in additions]
    del network
    return [pair for pair in kinds if set(pair) <= {"Add", "FakeQuantize"}]  # neither a bias nor the border of pixels


def test_equal_roundings_happen_once(small_exports):
    network, [pool] = operations(small_exports.paths["openvino-int8"], "MaxPool")
    readers = {reader.get_node().get_type_name() for reader in pool.output(0).get_target_inputs()}
    assert readers == {"Convolution"}
    node, roundings = network.inputs[0].get_node(), 0
    while node.get_type_name() != "Convolution":
        [reader] = node.output(0).get_target_inputs()
        node = reader.get_node()
        roundings += node.get_type_name() == "FakeQuantize"
    assert roundings == 1


def test_a_convolution_is_added_before_it_is_rounded(small_exports, tmp_path, monkeypatch):
    monkeypatch.setattr(to_openvino, "remove_roundings", lambda *_: None)
    model, calibration = small_exports.model, small_exports.calibration
    rounded = export(model, tmp_path, ["openvino-int8"], calibration=calibration).paths["openvino-int8"]
    paths = small_exports.paths["openvino-int8"], rounded
    assert kinds_added(paths[0]) in ([["FakeQuantize", "Add"]], [["Add", "FakeQuantize"]])
    assert kinds_added(paths[1]) == [["FakeQuantize", "FakeQuantize"]]
    images = synthetic_images((32, 32, 3), count=200, seed=6)
    expected = inference.predict(model, images)
    errors = [np.square(answers(path, "openvino-int8", images, 50) - expected).mean() for path in paths]
    assert errors[0] < 0.95 * errors[1]


def test_the_roundings_that_a_network_was_trained_with_stay(small_exports, randomise, tmp_path, monkeypatch):
    model = quantize_aware(randomise(small_classifier(), seed=4))
    model(small_exports.calibration, training=True)  # it measures ranges; they are not learned well enough to verify
    report = small_exports.reports["openvino-int8"]
    monkeypatch.setattr(pipeline, "verify", lambda *_: report)
    made = export(model, tmp_path, ["openvino-int8"], calibration=small_exports.calibration)
    assert kinds_added(made.paths["openvino-int8"]) == [["FakeQuantize", "FakeQuantize"]]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_without_equal_roundings_the_answers_are_the_same_bits(batch_size, small_exports):
    all_roundings, fewer = (read_openvino(small_exports.paths["onnx-int8"]) for _ in range(2))
    remove_roundings(fewer, learned=True)
    counts = [
        sum(each.get_type_name() == "FakeQuantize" for each in network.get_ops()) for network in (all_roundings, fewer)
    ]
    assert counts[1] <= counts[0] - 3  # of the pixels, and behind the pooling
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    pixels = IMAGES[:batch_size].astype("float32")
    found = [openvino.Core().compile_model(network, "CPU", settings)(pixels)[0] for network in (all_roundings, fewer)]
    np.testing.assert_array_equal(*found)


def test_an_onnx_file_runs_in_it_too(small_exports, monkeypatch):
    monkeypatch.delattr(openvino, "convert_model")  # it unpickles PyTorch files, whatever their name is
    path = small_exports.paths["onnx"]
    received = answers(path, "onnx", IMAGES, 7, runtime="OpenVINO")
    np.testing.assert_allclose(received, answers(path, "onnx", IMAGES, 1), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(load(path, runtime="openvino").run(IMAGES[:3])["probabilities"], received[:3])


@pytest.mark.parametrize("name", ["onnx", "onnx-float16", "onnx-int8"])
def test_onnx_files_are_verified_in_it_with_all_layers(name, small_exports):
    report = examine_artifact(
        small_exports.paths[name],
        small_exports.model,
        images=small_exports.calibration,
        contract=CONTRACT,
        class_names=small_exports.class_names,
        running=Running("openvino"),
    )
    assert not report.failures
    assert "layer noise" in [check.name for check in report.checks]


def test_bfloat16_is_near_and_is_not_the_default(small_exports):
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    path = small_exports.paths["openvino"]
    exact = answers(path, "openvino", IMAGES, 7)
    rough = answers(path, "openvino", IMAGES, 7, runtime=IN_BFLOAT16)
    assert 1e-5 < np.abs(rough - exact).max() < 0.02
    np.testing.assert_array_equal(load(path, precision="bfloat16").run(IMAGES)["probabilities"], rough)


@pytest.mark.parametrize("name", NAMES)
def test_all_products_are_computed_in_their_numbers(name, small_exports):
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(small_exports.paths[name] / "model.xml"), "CPU", settings)
    facts = [operation.get_rt_info() for operation in model.get_runtime_model().get_ops()]
    numbers = [
        fact["runtimePrecision"].astype(str)
        for fact in facts
        if fact["layerType"].astype(str) in ("Convolution", "FullyConnected")
    ]
    if name == "openvino":
        assert numbers == ["f32"] * 5
    elif "INT8" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert numbers == ["u8"] * 5


# Opens a file, gives it up in another thread, and meets a signal, for which OpenVINO had changed this thread's stack.
DROPPED_ELSEWHERE = """
import gc, signal, sys, threading
import numpy as np
from keras_resnet import load
opened = [load(sys.argv[1])]
opened[0].run(np.zeros((1, 32, 32, 3), "uint8"))
thread = threading.Thread(target=lambda: (opened.clear(), gc.collect()))
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda *_: print("the signal is handled"))
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_is_handled_after_the_last_file_is_given_up(small_exports):
    """Without one core for the process, a CPU with AMX ends here with a segmentation fault."""
    command = [sys.executable, "-c", DROPPED_ELSEWHERE, str(small_exports.paths["openvino"])]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (0, "the signal is handled\n"), process.stderr


@pytest.mark.parametrize("argmax", [False, True])
def test_a_segmenter(argmax, randomise, tmp_path):
    model, images = randomise(small_segmenter(), seed=4), synthetic_images((32, 48, 3), count=32, seed=8)
    options = Options(argmax=argmax or None)
    names = ["openvino"] if argmax else NAMES
    made = export(model, tmp_path, names, calibration=images, contract=WholeImage(32, 48), options=options)
    expected = inference.predict(model, images[:5])
    received = predict(open_runtime(made.paths["openvino"], FORMATS["openvino"]), images[:5], 5)
    if argmax:
        assert received["mask"].dtype == np.uint8
        assert (received["mask"] == expected.argmax(axis=-1)).mean() > 0.999
    else:
        np.testing.assert_allclose(received["probabilities"], expected, atol=1e-5)


def test_features_of_any_size(randomise, tmp_path):
    body = randomise(small_classifier(), seed=4)
    model = keras.Model(body.input, body.get_layer("pool").output)
    path = export(model, tmp_path, ["openvino"], output_kind="features", options=Options(any_size=True)).paths
    images = synthetic_images((48, 64, 3), count=3, seed=8)
    [received] = predict(open_runtime(path["openvino"], FORMATS["openvino"]), images, 3).values()
    larger = small_classifier(size=48, width=64)
    larger.set_weights(body.get_weights())
    expected = keras.Model(larger.inputs, larger.get_layer("pool").output)([images], training=False)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)


# --- what a file states -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_known_by_its_description_and_without_it(name, copy_of):
    folder = copy_of(name)
    assert format_of(folder).name == format_in_graph(folder) == name
    assert open_artifact(folder).class_names[3] == "thing 3 <&> ö"
    shutil.rmtree(folder / "assets.extra")
    text = (folder / "model.xml").read_text()
    (folder / "model.xml").write_text(re.sub(r"<keras_resnet>.*</keras_resnet>", "", text, flags=re.DOTALL))
    assert format_of(folder).name == name
    assert open_artifact(folder).class_names is None


def test_rotated_labels_are_refused(copy_of, small_exports):
    folder = copy_of("openvino")
    names = small_exports.class_names

    def stored(labels):  # the description, and the property beside it, are JSON in an XML attribute
        return json.dumps(labels).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")

    edit(folder, stored(names), stored([*names[1:], names[0]]), count=2)
    report = examine_artifact(folder, small_exports.model, images=None, contract=CONTRACT, class_names=names)
    assert [check.name for check in report.failures] == ["class names"]


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_weight_is_refused(name, copy_of, small_exports):
    folder = copy_of(name)
    element, values = ("f32", np.float32) if name == "openvino" else ("i8", np.int8)
    # The kernel [out, in, height, width] of the second convolution: the values of one output channel are negated.
    text = (folder / "model.xml").read_text()
    found = re.search(rf'element_type="{element}" shape="16, 8, 3, 3" offset="(\d+)" size="(\d+)"', text)
    offset, size = map(int, found.groups())
    content = bytearray((folder / "model.bin").read_bytes())
    kernel = np.frombuffer(bytes(content[offset : offset + size]), values).reshape(16, -1).copy()
    kernel[5] *= -1
    content[offset : offset + size] = kernel.tobytes()
    (folder / "model.bin").write_bytes(content)
    with pytest.raises(ExportError, match=r"damaged: its contents have changed since the export \(model\.bin"):
        open_artifact(folder)
    seal(folder)
    images = small_exports.calibration
    report = examine_artifact(
        folder, small_exports.model, images=images, contract=CONTRACT, class_names=small_exports.class_names
    )
    failed = {check.name: check.measured for check in report.failures}
    assert "channel 5 of stage2_block1_1" in failed["channel noise"]


def test_integers_that_claim_to_be_float_are_refused(copy_of, small_exports):
    folder = edit(copy_of("openvino-int8"), "&quot;openvino-int8&quot;", "&quot;openvino&quot;")
    report = examine_artifact(folder, small_exports.model, images=None, contract=CONTRACT)
    found = {check.name: check.measured for check in report.failures}
    assert found["format"] == "the numbers of openvino-int8"


# --- what nobody may run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", ["extension", "util", "opset", "evil1"])
def test_an_operation_that_is_not_openvinos_is_named(opset, copy_of, monkeypatch):
    folder = edit(copy_of("openvino"), 'type="ReLU" version="opset1"', f'type="Run" version="{opset}"')
    monkeypatch.setattr("keras_resnet.export.runtimes._OPENERS", {})  # none is asked
    with pytest.raises(ExportError, match=rf"holds more than a network needs: Run of {opset} in layer .*Relu"):
        open_artifact(folder)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('type="ReLU" version="opset1"', 'type="Run" version="opset1"', "OpenVINO can't open it"),
        (r'offset="\d+"', 'offset="999999999"', "OpenVINO can't open it"),
        ("<net ", '<!DOCTYPE net [<!ENTITY e "x">]><net ', r"model\.xml: it must have no document type"),
        ("</net>", "</nets>", r"model\.xml: not an XML file: mismatched tag"),
    ],
)
def test_what_cannot_be_read_is_a_clear_error(old, new, reason, copy_of):
    folder = copy_of("openvino")
    text = (folder / "model.xml").read_text()
    (folder / "model.xml").write_text(re.sub(old, new, text, count=1))
    seal(folder)
    with pytest.raises(ExportError, match=reason):
        open_artifact(folder)


def test_weights_elsewhere_are_refused(copy_of, tmp_path):
    folder = copy_of("openvino")
    (folder / "model.bin").rename(tmp_path / "blob")
    (folder / "model.bin").symlink_to(tmp_path / "blob")  # as in the cache of the Hub
    open_artifact(folder)
    (folder / FOLDER_FILE).unlink()
    (folder / "model.bin").unlink()
    (folder / "model.bin").symlink_to("/dev/zero")
    with pytest.raises(ExportError, match="hashes are gone"):
        open_artifact(folder)
    with pytest.raises(ExportError, match=r"the link model\.bin \(leads to something else than a file\)"):
        open_runtime(folder, FORMATS["openvino"])
    (folder / "model.bin").unlink()
    os.mkfifo(folder / "model.bin")
    with pytest.raises(ExportError, match=r"the file model\.bin \(is a pipe or a device\)"):
        open_runtime(folder, FORMATS["openvino"])


@pytest.mark.parametrize("stated", ["saved_model", "onnx", "tflite"])
def test_a_description_does_not_choose_the_runtime(stated, copy_of):
    folder = copy_of("openvino")
    file = folder / "model.xml"
    stated_format = re.compile(r"(&quot;format&quot;: &quot;|\"format\": \")openvino")
    text, count = stated_format.subn(rf"\g<1>{stated}", file.read_text())
    assert count == 1
    file.write_text(text)
    seal(folder)
    with pytest.raises(ExportError, match="its content is of the kind openvino"):
        open_artifact(folder, trust=True)


def test_a_graph_of_tensorflow_beside_it_is_refused(copy_of):
    folder = copy_of("openvino")
    (folder / "saved_model.pbtxt").write_text("")
    seal(folder)
    with pytest.raises(ExportError, match=r"the file saved_model\.pbtxt \(is a second graph"):
        open_artifact(folder)


# --- what is asked of it ------------------------------------------------------------------------------------------


def test_the_commands(small_exports, model_file, image_folder, tmp_path, monkeypatch):
    folder, picture = small_exports.paths["openvino"], image_folder / "03.png"
    shown = {}
    for options in ((), ("--precision", "float32"), ("--runtime", "openvino")):
        status, shown[options], errors = in_process("predict", picture, "--model", folder, *options)
        assert (status, errors) == (0, [])
    assert len({tuple(lines) for lines in shown.values()}) == 1
    status, printed, _ = in_process("info", folder, "--json")
    assert (status, json.loads("\n".join(printed))["format"]) == (0, "openvino")
    for options in ((), ("--precision", "bfloat16")):
        status, printed, _ = in_process("verify", folder, "--model", model_file, *options)
        assert status == 0, printed
    monkeypatch.setattr(compare, "TURN_S", 0.05)
    status, _, errors = in_process("benchmark", folder, "--bfloat16", "--rounds", 1, "--out", tmp_path)
    assert (status, errors) == (0, [])
    results = json.loads((tmp_path / "benchmark.json").read_text())["results"]["contenders"]
    assert {name: (found["setting"], found["numbers"]) for name, found in results.items()} == {
        "model_openvino": ("OpenVINO, from pixels", "float32"),
        "model_openvino in bfloat16": ("OpenVINO in bfloat16, from pixels", "bfloat16"),
    }
    status, _, [error] = in_process("benchmark", small_exports.paths["tflite"], "--bfloat16")
    assert error.startswith("error: --bfloat16 needs an artifact of the format openvino. Received: ")


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"'openvino'.*pip install 'keras-resnet-kit\[openvino\]'"):
        require_converters([FORMATS["openvino"]])


@pytest.mark.parametrize(
    ("name", "running", "words"),
    [
        ("tflite", Running("openvino"), "openvino is for ONNX files, which OpenVINO runs too. Received: tflite"),
        ("onnx", Running(precision="bfloat16"), "is for OpenVINO: give an OpenVINO folder"),
        ("onnx", Running("cuda"), "must be openvino, tflite-micro or left out"),
        ("openvino", Running(precision="float16"), "must be one of float32, bfloat16 or left out"),
    ],
)
def test_another_way_to_run_a_file(name, running, words):
    with pytest.raises(ExportError, match=words):
        running.of(FORMATS[name])


def test_a_keras_model_has_no_runtime(model_file):
    with pytest.raises(ArgumentError, match="are for artifacts"):
        load(model_file, runtime="openvino")
