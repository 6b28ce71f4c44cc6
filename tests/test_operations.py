"""SavedModels whose graph does more than inference are refused, and nothing of them has run; all others open."""

import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import in_process
from google.protobuf import text_format
from small_classifier import small_classifier
from small_segmenter import small_segmenter
from tensorflow.core.protobuf import saved_model_pb2

from keras_resnet.errors import ExportError
from keras_resnet.export import export
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.formats import FORMATS, Options
from keras_resnet.export.operations import unneeded
from keras_resnet.export.runtimes import open_runtime, predict
from keras_resnet.variants import WholeImage

SECRET = "/etc/hostname"
IMAGE = tf.TensorSpec((None, 32, 32, 3), tf.float32, name="image")


def saved(folder: Path, effect, extra=None) -> Path:
    """Writes a SavedModel that answers with 0.1 for 10 classes, after `effect` in its signature."""
    module = tf.Module()

    @tf.function(input_signature=[IMAGE])
    def serve(image):
        with tf.control_dependencies(effect() or []):
            return {"probabilities": tf.fill([tf.shape(image)[0], 10], tf.constant(0.1))}

    module.serve = serve
    module.extra = extra
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def nothing() -> list:
    return []


class Effects:
    """Each method: the folder of the test -> effect for `saved`, which writes `pwned` there or reads a file."""

    @staticmethod
    def write(folder: Path):
        return lambda: [tf.raw_ops.WriteFile(filename=str(folder / "pwned"), contents="written by the graph")]

    @staticmethod
    def read(folder: Path):
        return lambda: [tf.io.read_file(SECRET)]

    @staticmethod
    def nested(folder: Path):
        @tf.function
        def inner(x):
            return tf.while_loop(lambda i: i < 1, lambda i: tf.cond(i < 1, lambda: write_one(i), lambda: i), [x])

        @tf.function
        def write_one(i):
            with tf.control_dependencies(Effects.write(folder)()):
                return i + 1

        return lambda: [inner(tf.constant(0))[0]]

    @staticmethod
    def print_to_a_file(folder: Path):
        return lambda: [tf.print("printed", output_stream=f"file://{folder / 'pwned'}")]

    @staticmethod
    def save(folder: Path):
        prefix = str(folder / "pwned")
        return lambda: [
            tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.constant(1.0)])
        ]

    @staticmethod
    def restore(folder: Path):
        return lambda: [
            tf.raw_ops.RestoreV2(prefix=SECRET, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])[0]
        ]

    @staticmethod
    def python(folder: Path):
        return lambda: [tf.py_function(lambda: (folder / "pwned").touch(), [], [])]


@pytest.mark.parametrize(
    ("effect", "operation", "words"),
    [
        ("write", "WriteFile", "writes files of the graph's choice"),
        ("read", "ReadFile", "reads files"),
        ("nested", "WriteFile", "writes files of the graph's choice"),
        ("print_to_a_file", "PrintV2", "writes files of the graph's choice"),
        ("save", "SaveV2", "writes files of the graph's choice"),
        ("restore", "RestoreV2", "reads files"),
        ("python", "EagerPyFunc", "calls Python code"),
    ],
)
def test_operations_beyond_inference_are_refused_before_anything_runs(effect, operation, words, tmp_path):
    path = saved(tmp_path / "sm", getattr(Effects, effect)(tmp_path))
    with pytest.raises(ExportError) as failure:
        open_artifact(path)
    assert f"holds more than a network needs: {operation} in function " in str(failure.value)
    assert f"({words})" in str(failure.value)
    assert str(failure.value).endswith("give --trust (in Python, trust=True)")
    assert not list(tmp_path.glob("pwned*"))


def test_with_trust_it_opens_and_runs(tmp_path):
    path = saved(tmp_path / "sm", Effects.write(tmp_path))
    answers = open_artifact(path, trust=True).predict(np.zeros((2, 32, 32, 3), "uint8"))["probabilities"]
    np.testing.assert_allclose(answers, np.full((2, 10), 0.1))
    assert (tmp_path / "pwned").read_text() == "written by the graph"


def test_each_command_that_opens_artifacts_has_the_option(model_file, tmp_path, image_folder):
    path = saved(tmp_path / "sm", Effects.write(tmp_path))
    image = next(image_folder.glob("*.png"))
    commands = {
        "predict": ("predict", image, "--model", path),
        "evaluate": ("evaluate", path, image_folder),
        "verify": ("verify", path, "--model", model_file),
        "benchmark": ("benchmark", path, "--rounds", "1"),
    }
    for name, arguments in commands.items():
        status, _, _ = in_process(*arguments)
        assert status == 1, name
        assert not (tmp_path / "pwned").exists(), name
    assert in_process(*commands["predict"], "--trust")[0] == 0
    assert (tmp_path / "pwned").exists()


def test_functions_that_only_loading_runs_are_seen(tmp_path):
    """A resource is initialised while TensorFlow loads it, before anybody has asked for an answer."""

    class Table(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

        def _initialize(self):
            tf.raw_ops.WriteFile(filename=str(tmp_path / "pwned"), contents="at loading")

    with tf.init_scope():
        module = saved(tmp_path / "sm", nothing, Table())
    (tmp_path / "pwned").unlink(missing_ok=True)
    with pytest.raises(ExportError, match=r"WriteFile in function .*initialize"):
        open_artifact(module)
    assert not (tmp_path / "pwned").exists()
    tf.saved_model.load(str(module))
    assert (tmp_path / "pwned").exists()


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("plain") / "sm", nothing, tf.Variable(1.0))


def changed(plain: Path, folder: Path, change) -> Path:
    """SavedModel -> copy with a changed graph."""
    shutil.copytree(plain, folder)
    file = folder / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(proto)
    file.write_bytes(proto.SerializeToString())
    return folder


def serving(proto):
    """-> the function that `serving_default` calls."""
    library = proto.meta_graphs[0].graph_def.library
    return next(f for f in library.function if f.signature.name.startswith("__inference_serve"))


def add_unused_function(proto) -> None:
    function = proto.meta_graphs[0].graph_def.library.function.add()
    function.signature.name = "unused"
    function.node_def.add(name="x", op="WriteFile")


def add_to_the_graph(proto) -> None:
    proto.meta_graphs[0].graph_def.node.add(name="init", op="WriteFile")


def call_the_saver(proto) -> None:
    saver = next(f for f in proto.meta_graphs[0].graph_def.library.function if "traced_save" in f.signature.name)
    serving(proto).node_def.add(name="x", op="StatefulPartitionedCall").attr["f"].func.name = saver.signature.name


def call_the_saver_by_name(proto) -> None:
    """A node may have the name of a function in place of an operation's, which may then be a harmless one's."""
    graph = proto.meta_graphs[0].graph_def
    saver = next(f for f in graph.library.function if "traced_save" in f.signature.name)
    for node in graph.node:
        if node.attr["f"].func.name == saver.signature.name:
            node.attr["f"].func.name = "AddV2"
    saver.signature.name = "AddV2"
    serving(proto).node_def.add(name="x", op="AddV2")


def track_the_saver(proto) -> None:
    meta = proto.meta_graphs[0]
    saver = next(f for f in meta.graph_def.library.function if "traced_save" in f.signature.name)
    meta.object_graph_def.nodes.add().bare_concrete_function.concrete_function_name = saver.signature.name


def exchange_the_saver(proto) -> None:
    saver = next(f for f in proto.meta_graphs[0].graph_def.library.function if "traced_save" in f.signature.name)
    saver.attr["api_implements"].s = b"serve"


def hide_in_an_attribute(proto) -> None:
    meta = proto.meta_graphs[0]
    saver = next(f for f in meta.graph_def.library.function if "traced_restore" in f.signature.name)
    inner = serving(proto).node_def.add(name="x", op="StatelessCase").attr["branches"].list.func.add(name="y").attr
    inner["z"].func.name = saver.signature.name


def second_graph(proto) -> None:
    proto.meta_graphs.add().CopyFrom(proto.meta_graphs[0])


def first_form(proto) -> None:
    proto.meta_graphs[0].ClearField("object_graph_def")


def asset_outside(proto) -> None:
    proto.meta_graphs[0].asset_file_def.add(filename="../../x").tensor_info.name = "Const:0"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (add_unused_function, "WriteFile in function unused"),
        (add_to_the_graph, "WriteFile in the graph itself"),
        (call_the_saver, "SaveV2 in function __inference__traced_save"),
        (call_the_saver_by_name, "SaveV2 in function AddV2"),
        (track_the_saver, "SaveV2 in function __inference__traced_save"),
        (exchange_the_saver, "api_implements in function __inference__traced_save"),
        (hide_in_an_attribute, "RestoreV2 in function __inference__traced_restore"),
        (second_graph, "2 graphs, as TensorFlow 1 wrote them"),
        (first_form, "a graph without its objects, as TensorFlow 1 wrote them"),
        (asset_outside, "the asset ../../x (lies outside of the folder)"),
    ],
)
def test_no_part_of_the_graph_is_left_out(change, found, plain, tmp_path):
    with pytest.raises(ExportError) as failure:
        open_artifact(changed(plain, tmp_path / "sm", change))
    assert found in str(failure.value)


def test_names_in_the_graph_are_not_obeyed_by_the_terminal(plain, tmp_path):
    def rename(proto):
        proto.meta_graphs[0].graph_def.node.add(name="x", op="\x1b]0;owned\x07")

    with pytest.raises(ExportError) as failure:
        open_artifact(changed(plain, tmp_path / "sm", rename))
    assert r"\x1b]0;owned\x07 in the graph itself" in str(failure.value)


def test_other_files_from_which_a_graph_could_be_read(plain, tmp_path):
    text = shutil.copytree(plain, tmp_path / "text")
    proto = saved_model_pb2.SavedModel.FromString((text / "saved_model.pb").read_bytes())
    (text / "saved_model.pbtxt").write_text(text_format.MessageToString(proto))
    with pytest.raises(ExportError, match=r"the file saved_model\.pbtxt \(is a second graph beside saved_model\.pb\)"):
        open_artifact(text)
    (text / "saved_model.pb").unlink()
    with pytest.raises(ExportError, match="an artifact must be a SavedModel, OpenVINO or web folder"):
        open_artifact(text)


def test_links_to_folders_and_pipes_are_refused_and_links_to_files_are_not(plain, tmp_path):
    linked = shutil.copytree(plain, tmp_path / "linked")
    (tmp_path / "blob").write_bytes((linked / "saved_model.pb").read_bytes())
    (linked / "saved_model.pb").unlink()
    (linked / "saved_model.pb").symlink_to(tmp_path / "blob")
    assert unneeded(linked) == []
    shutil.move(linked / "variables", tmp_path / "elsewhere")
    (linked / "variables").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(linked / "pipe")
    with pytest.raises(ExportError) as failure:
        open_artifact(linked)
    assert "the file pipe (is a pipe or a device); the link variables (leads to something else than a file)" in str(
        failure.value
    )


@pytest.mark.parametrize("content", [b"", b"\xff" * 40])
def test_a_damaged_graph_is_a_clear_error(content, plain, tmp_path):
    broken = shutil.copytree(plain, tmp_path / "sm")
    (broken / "saved_model.pb").write_bytes(content)
    with pytest.raises(ExportError, match=r"saved_model\.pb: (holds no graph|can't be read)"):
        open_artifact(broken)


# --- what must open -----------------------------------------------------------------------------------------------


def headed(activation: str, units: int) -> keras.Model:
    body = small_classifier()
    pooled = body.layers[-2].output
    return keras.Model(body.input, keras.layers.Dense(units, activation, name="head")(pooled))


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (small_classifier, {}),
        (small_classifier, {"options": Options(any_size=True)}),
        (lambda: small_classifier("sigmoid"), {"task": "tag"}),
        (lambda: headed("linear", 2), {"task": "regress"}),
        (lambda: headed("relu", 8), {"output_kind": "features"}),
        (small_segmenter, {"contract": WholeImage(32, 64)}),
        (small_segmenter, {"contract": WholeImage(32, 64), "options": Options(any_size=True, argmax=True)}),
    ],
)
def test_what_export_writes_opens(model, given, tmp_path):
    path = export(model(), tmp_path, ["saved_model"], **given).paths["saved_model"]
    assert unneeded(path) == []


@pytest.mark.parametrize(
    "model",
    [
        small_classifier,
        pytest.param(
            lambda: keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=4),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_keras_writes_opens(model, tmp_path):
    model().export(str(tmp_path / "sm"), verbose=False)
    assert unneeded(tmp_path / "sm") == []


def test_a_plain_signature_opens(plain):
    answers = predict(open_runtime(plain, FORMATS["saved_model"]), np.zeros((2, 32, 32, 3), "uint8"))
    np.testing.assert_allclose(answers["probabilities"], np.full((2, 10), 0.1))
