"""The fastest artifact of a folder: how it is chosen, recorded and taken."""

import importlib.util
import json

import pytest

from keras_resnet import fastest
from keras_resnet.errors import ExportError
from keras_resnet.export.manifest import artifact_sha256
from keras_resnet.export.running import AS_WRITTEN, Running
from keras_resnet.fastest import Measured, fastest_in, fastest_of, record_fastest, sentence
from keras_resnet.model_folders import model_in

FLOAT = Measured("model.onnx", 5.125, loses_nothing=True, within_gate=True)
SLOW = Measured("model.tflite", 7.5, loses_nothing=True, within_gate=True)
INT8 = Measured("model-int8.onnx", 3.0, loses_nothing=False, within_gate=True)
WRONG = Measured("model-int8.tflite", 1.0, loses_nothing=False, within_gate=False)


def test_the_fastest_of_each_kind():
    found = fastest_of([SLOW, FLOAT, WRONG, INT8])
    assert (found.exact, found.within_gate, found.taken) == (FLOAT, INT8, INT8)
    assert sentence(found, 8) == (
        "On this machine, at batch size 8, the fastest file that loses nothing is model.onnx (5.12 ms), and the "
        "fastest file within the gate is model-int8.onnx (3 ms)."
    )


def test_integers_that_nobody_measured_are_not_taken():
    unknown = INT8._replace(within_gate=None)
    found = fastest_of([FLOAT._replace(within_gate=None), unknown])
    assert (found.exact.name, found.within_gate, found.taken.name) == ("model.onnx", None, "model.onnx")
    assert "no file was measured on labelled images" in sentence(found, 1)
    assert fastest_of([unknown]).taken is None
    found = fastest_of([WRONG, WRONG])
    assert found.taken is None
    assert sentence(found, 1).endswith("no file was exported in float32 and verified, and no file is within the gate.")


@pytest.fixture
def folder(small_exports, tmp_path):
    """-> folder of two artifacts, of which the one of integers is recorded as the fastest."""
    for name in ("manifest.json", "model.onnx", "model-int8.tflite"):
        (tmp_path / name).write_bytes((small_exports.folder / name).read_bytes())
    record_fastest(tmp_path / "model-int8.tflite", 3.0, 1)
    return tmp_path


def test_the_record_is_of_this_machine_and_this_file(folder, monkeypatch):
    files = ["model.onnx", "model-int8.tflite"]
    assert fastest_in(folder, files) == "model-int8.tflite"
    assert fastest_in(folder, files[:1]) is None
    monkeypatch.setattr(fastest, "machine", lambda: "another machine")
    assert fastest_in(folder, files) is None
    record_fastest(folder / "model.onnx", 5.0, 1)
    assert fastest_in(folder, files) == "model.onnx"
    monkeypatch.undo()
    assert fastest_in(folder, files) == "model-int8.tflite"
    (folder / "model-int8.tflite").write_bytes(b"another file")
    assert fastest_in(folder, files) is None


def test_who_asks_for_answers_gets_the_fastest_and_is_told(folder, caplog):
    assert model_in(str(folder), AS_WRITTEN) == str(folder / "model-int8.tflite")
    assert caplog.messages == [
        f"model: {folder / 'model-int8.tflite'}, the fastest on this machine by fastest.json (also there: model.onnx)"
    ]
    assert model_in(str(folder)) == str(folder / "model.onnx")
    assert model_in(str(folder), Running("openvino")) == str(folder / "model.onnx")


def test_an_artifact_whose_runtime_is_absent_is_not_taken(folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else find(name))
    assert model_in(str(folder), AS_WRITTEN) == str(folder / "model.onnx")


@pytest.mark.parametrize("content", ["[]", "{", '{"machines": 3}', '{"machines": {"MACHINE": {"file": 3}}}'])
def test_a_damaged_record_is_an_error(folder, content):
    (folder / "fastest.json").write_text(content.replace("MACHINE", fastest.machine()))
    with pytest.raises(ExportError, match=r"fastest\.json: the record can't be read: .*Remove it"):
        model_in(str(folder), AS_WRITTEN)


def test_a_record_that_names_a_file_elsewhere_takes_none(folder):
    other = folder.parent / "other.onnx"
    other.write_bytes(b"x")
    entry = {"file": "../other.onnx", "sha256": artifact_sha256(other), "latency_ms": 1.0, "batch_size": 1}
    (folder / "fastest.json").write_text(json.dumps({"machines": {fastest.machine(): entry}}))
    assert model_in(str(folder), AS_WRITTEN) == str(folder / "model.onnx")
