"""A file that ends the process that opens it is a clear error of the process that asked; known files cost nothing."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keras_resnet import contained
from keras_resnet.contained import check_opens, remember
from keras_resnet.errors import ExportError, WeightsError
from keras_resnet.export.artifact import open_artifact
from keras_resnet.loading import open_predictor
from keras_resnet.weight_files import read_weight_file


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    """-> the ledger, which is empty; files are opened in a child first."""
    monkeypatch.setattr(contained, "_expendable", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "keras_resnet" / "opened.txt"


@pytest.fixture
def children(monkeypatch) -> list[str]:
    """-> the openers of the children that were started, in order."""
    started = []
    ask = contained._answer_of_child

    def answer(path, request, error):
        started.append(request["opener"])
        return ask(path, request, error)

    monkeypatch.setattr(contained, "_answer_of_child", answer)
    return started


# --- openers for children -----------------------------------------------------------------------------------------


def quiet() -> None:
    print("printed by a library")


def crash() -> None:
    os.abort()


def leave() -> None:
    os._exit(3)


def loop() -> None:
    while True:
        pass


def hang() -> None:
    time.sleep(60)


def fill_memory() -> None:
    held = []
    while True:
        held.append(np.ones(4_000_000))


def refuse() -> None:
    raise WeightsError("file.bin: has no weights")


def fail() -> None:
    raise RuntimeError("a library's own error")


def try_weights(path: str, kind: str) -> None:
    os.abort()


def again() -> None:
    check(crash)
    raise ExportError("no child of a child")


def found() -> None:
    """Refuses with the places where this process looks for modules."""
    raise ExportError(json.dumps(sys.path))


def check(opener, kind="kind") -> None:
    check_opens(Path("file.bin"), "0" * 64, kind, f"test_contained:{opener.__name__}", {}, ExportError)


# --- outcomes -----------------------------------------------------------------------------------------------------


def test_a_file_that_has_opened_once_needs_no_second_child(children, cache):
    check(quiet)
    check(quiet)
    assert len(children) == 1
    assert cache.read_text() == f"{'0' * 64} kind\n"
    check(quiet, kind="another reader")
    assert len(children) == 2


@pytest.mark.parametrize(
    ("opener", "limit", "words"),
    [
        (crash, {}, "file.bin: ends the process that opens it (signal 6). It was tried in a process of its own"),
        (leave, {}, "file.bin: ends the process that opens it (exit status 3)"),
        (hang, {"LONGEST_S": 2.0}, "file.bin: does not open and run on one image within 2 s"),
        (loop, {"LONGEST_CPU_S": 2}, "file.bin: takes more than 2 s of processor time to open it"),
        (fill_memory, {"LARGEST_BYTES": 500_000_000}, "file.bin: takes more than 0.5 GB of memory to open it"),
    ],
)
def test_what_ends_a_child_is_an_error_here(opener, limit, words, monkeypatch, cache):
    for name, value in limit.items():
        monkeypatch.setattr(contained, name, value)
    with pytest.raises(ExportError) as failure:
        check(opener)
    assert words in str(failure.value)
    assert not cache.exists()


def test_a_refusal_is_raised_here_and_other_errors_are_left_to_the_caller(cache):
    with pytest.raises(WeightsError, match=r"^file\.bin: has no weights$"):
        check(refuse)
    check(fail)
    assert not cache.exists()


def test_a_child_starts_no_child():
    with pytest.raises(ExportError, match="no child of a child"):
        check(again)


def test_a_child_does_not_look_for_modules_in_the_current_folder(monkeypatch, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError) as failure:
        check(found)
    assert str(tmp_path) not in json.loads(str(failure.value))


def test_without_python_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(ExportError, match=r"Received: an empty sys\.executable"):
        check(quiet)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ExportError, match="can't be started: /nowhere/python: No such file or directory"):
        check(quiet)


# --- the ledger ---------------------------------------------------------------------------------------------------


def test_the_ledger_keeps_the_newest_entries(monkeypatch, cache):
    monkeypatch.setattr(contained, "MOST_ENTRIES", 3)
    for digest in "abcab":
        remember(digest, "kind")
    remember("d", "kind")
    assert cache.read_text() == "b kind\nc kind\nd kind\n"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b""])
def test_a_damaged_ledger_is_an_empty_one(content, children, cache):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    check(quiet)
    check(quiet)
    assert len(children) == 1


def test_without_a_ledger_every_file_is_tried(monkeypatch, children, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made in it
    check(quiet)
    check(quiet)
    assert len(children) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # is to be ignored, by the standard
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    check(quiet)
    assert len(children) == 3


def test_what_this_installation_writes_is_known(randomise, children, tmp_path):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("onnxruntime")
    from small_classifier import small_classifier

    from keras_resnet.export import export
    from keras_resnet.model_files import save_model
    from keras_resnet.variants import InputContract

    model = randomise(small_classifier(), seed=4)
    save_model(model, tmp_path / "model.keras", None, InputContract(32))
    open_predictor(str(tmp_path / "model.keras"), None)
    for path in export(model, tmp_path / "out", ["saved_model", "tflite", "onnx"]).paths.values():
        open_artifact(path)
    assert children == []


# --- files that end the process -----------------------------------------------------------------------------------


def wild_operator(model) -> None:
    model.subgraphs[0].operators[0].inputs = [10**6] * 3


def wild_buffer(model) -> None:
    model.subgraphs[0].tensors[2].buffer = 10**6


def no_filter(model) -> None:
    """LiteRT 2.3 ends by signal 11, where it refuses the others."""
    [*_, last] = [one for one in model.subgraphs[0].operators if model.operatorCodes[one.opcodeIndex].builtinCode == 3]
    last.inputs = [last.inputs[0], -1, last.inputs[2]]  # a convolution


def huge_tensors(model) -> None:
    for tensor in model.subgraphs[0].tensors:
        if tensor.buffer and model.buffers[tensor.buffer].data is None:
            tensor.shape = [1, 100000, 100000, 64]


def damaged_name(model) -> None:
    """LiteRT runs the file, but fails on the name when it lists the operations."""
    graph = model.subgraphs[0]
    graph.tensors[graph.operators[0].outputs[0]].name = b"caf\xe9"


@pytest.mark.parametrize("change", [wild_operator, wild_buffer, no_filter, huge_tensors, damaged_name])
def test_a_tflite_file_that_harms_its_runtime_is_a_clear_error(change, small_exports, tmp_path):
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(small_exports.paths["tflite"]))
    for entry in model.metadata:
        model.buffers[entry.buffer].data = None
    model.metadata, model.description = [], b"of other make"
    change(model)
    path = tmp_path / "m.tflite"
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    with pytest.raises(
        ExportError, match=rf"^{path}: (ends the process|LiteRT can't open it as tflite|UnicodeDecodeError: )"
    ):
        open_artifact(path)


def onnx_file(path: Path, side: int) -> Path:
    """Writes an ONNX file whose answer is the sum of `side` times `side` numbers, which it makes itself."""
    onnx = pytest.importorskip("onnx")
    float32, node = onnx.TensorProto.FLOAT, onnx.helper.make_node
    shape = onnx.numpy_helper.from_array(np.array([side, side], np.int64), "shape")
    one = onnx.helper.make_tensor("one", float32, [1], [1.0])
    nodes = [
        node("ConstantOfShape", ["shape"], ["numbers"], value=one),
        node("Mul", ["numbers", "numbers"], ["squares"]),
        node("ReduceSum", ["squares"], ["sum"], keepdims=0),
        node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        node("Mul", ["mean", "sum"], ["probabilities"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "sum",
        [onnx.helper.make_tensor_value_info("image", float32, ["N", 32, 32, 3])],
        [onnx.helper.make_tensor_value_info("probabilities", float32, ["N", 3])],
        [shape],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_an_onnx_file_that_fills_the_memory_is_a_clear_error(monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(contained, "LARGEST_BYTES", 1_000_000_000)
    assert open_artifact(onnx_file(tmp_path / "small.onnx", 10)).classes == 3
    path = onnx_file(tmp_path / "large.onnx", 20_000)  # 1.6 GB, twice
    with pytest.raises(ExportError, match=rf"^{path}: takes more than 1\.0 GB of memory to open it and run it on one"):
        open_artifact(path)
    path = onnx_file(tmp_path / "huge.onnx", 200_000)  # 160 GB, which few systems grant
    with pytest.raises(ExportError, match=rf"^{path}: (takes more than 1\.0 GB|ends the process|ONNX Runtime can't)"):
        open_artifact(path).predict(np.zeros((1, 32, 32, 3), "uint8"))


def test_weights_are_tried_before_they_are_read(model_file, children, tmp_path):
    h5py = pytest.importorskip("h5py")
    assert read_weight_file(model_file).layout == "keras"
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        file.create_group("layers/conv/vars").attrs["name"] = "conv"
        file["layers/conv/vars/0"] = np.ones((2, 3), "float32")
    for _ in range(2):
        assert read_weight_file(tmp_path / "x.weights.h5").tensors["conv/0"].shape == (2, 3)
    assert children == ["keras_resnet.weight_files:try_weights"] * 2


def test_weights_that_end_the_process_are_a_clear_error(monkeypatch, model_file):
    monkeypatch.setattr("keras_resnet.weight_files.__name__", "test_contained")  # the child then calls `try_weights`
    with pytest.raises(WeightsError, match=rf"^{model_file}: ends the process that opens it \(signal 6\)"):
        read_weight_file(model_file)
    with pytest.raises(WeightsError, match=rf"^{model_file}: ends the process that opens it \(signal 6\)"):
        open_predictor(str(model_file), None)
