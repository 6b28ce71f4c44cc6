"""Damage in an artifact is found before a runtime opens it; what standard tools read stays readable."""

import hashlib
import json
import shutil
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_resnet.cli.main import app
from keras_resnet.errors import ExportError
from keras_resnet.export import export, integrity, runtimes
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.description import read_description
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.integrity import FOLDER_FILE, check_whole, onnx_with_room, seal, tflite_with_room

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

NAMES = ("saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8", "openvino", "openvino-int8")
IMAGES = synthetic_images((32, 32, 3), count=40, seed=8)


@pytest.fixture(scope="module")
def exported(small_exports):
    return small_exports


@pytest.fixture(scope="module")
def model(exported):
    return exported.model


@pytest.fixture
def copy_of(exported, tmp_path):
    def copy(name):
        source, path = exported.paths[name], tmp_path / exported.paths[name].name
        shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)
        return path

    return copy


def flip(path, place, bit=0):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def refusal(path):
    with pytest.raises(ExportError) as raised:
        open_artifact(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_is_found_before_a_runtime_opens_the_file(name, copy_of, monkeypatch):
    path = copy_of(name)
    whole = open_artifact(path).predict(IMAGES[:2])["probabilities"]
    monkeypatch.setattr(runtimes, "_OPENERS", {})  # none is asked
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    random = np.random.default_rng(3)
    for file in files:
        for place in (0, 5, -1, *random.integers(file.stat().st_size, size=10)):
            flip(file, place, bit := int(random.integers(8)))
            assert "damaged: its contents have changed since the export" in refusal(path)
            flip(file, place, bit)
    monkeypatch.undo()
    np.testing.assert_array_equal(open_artifact(path).predict(IMAGES[:2])["probabilities"], whole)


@pytest.mark.parametrize("name", ["tflite", "onnx"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_file_cut_short_is_known_by_the_hash_at_its_front(name, share, copy_of):
    path = copy_of(name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "damaged: its contents have changed since the export (SHA-256" in refusal(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_lost_its_hash_is_damaged(name, copy_of):
    path = copy_of(name)
    if path.is_dir():
        (path / FOLDER_FILE).unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"keras_resnet.sha256", b"keras_resnet.sha257"))
    assert "gone" in refusal(path)
    result = CliRunner().invoke(app, ["info", str(path)])
    assert "damaged" in str(result.exception)


def test_a_saved_model_misses_and_has_no_file_but_those_exported(copy_of):
    path = copy_of("saved_model")
    (path / "assets.extra" / "tf_serving_warmup_requests").touch()  # TensorFlow's place for what others add
    (path / ".DS_Store").touch()
    check_whole(path)
    (path / "saved_model.pbtxt").touch()
    assert "saved_model.pbtxt: changed, missing or new" in refusal(path)
    (path / "saved_model.pbtxt").unlink()
    (path / "assets" / "labels.txt").unlink()
    assert "assets/labels.txt: changed, missing or new" in refusal(path)


def test_the_hashes_are_those_of_other_tools(exported):
    folder = exported.paths["saved_model"]
    lines = (folder / FOLDER_FILE).read_text().splitlines()
    assert len(lines) == 6
    for line in lines:  # as `sha256sum -c` reads them
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    for name in ("tflite", "onnx"):
        content = exported.paths[name].read_bytes()
        place = content.index(integrity.KEY) + len(integrity.KEY) + 2
        digest = hashlib.sha256(content[:place] + b"0" * 64 + content[place + 64 :]).hexdigest()
        assert content[place : place + 64] == digest.encode()


def test_standard_tools_read_a_sealed_file(exported):
    import onnx
    from ai_edge_litert.interpreter import Interpreter

    proto = onnx.load(str(exported.paths["onnx"]))
    onnx.checker.check_model(proto, full_check=True)
    assert len({prop.key: prop.value for prop in proto.metadata_props}["keras_resnet.sha256"]) == 64
    Interpreter(str(exported.paths["tflite"])).allocate_tensors()
    with zipfile.ZipFile(exported.paths["tflite"]) as archive, exported.paths["tflite"].open("rb") as stream:
        assert archive.testzip() is None
        for member in archive.infolist():  # offsets count from the start of the file, as strict readers want them
            stream.seek(member.header_offset)
            assert stream.read(4) == b"PK\x03\x04"


def test_files_of_other_make_are_opened_unchecked(model, tmp_path, monkeypatch):
    from keras_resnet.export import pipeline

    monkeypatch.setattr(pipeline, "embed", lambda path, description: None)
    made = export(model, tmp_path, ["tflite", "onnx"])
    for path in made.paths.values():
        check_whole(path)
        with pytest.raises(ExportError, match="has no room for a hash"):
            seal(path)
        np.testing.assert_allclose(
            open_artifact(path).predict(IMAGES[:2])["probabilities"],
            np.asarray(model(IMAGES[:2], training=False)),
            atol=1e-5,
        )


def test_room_for_the_hash_is_what_a_parser_skips():
    assert tflite_with_room(b"\x1c\x00\x00\x00TFL3rest")[:8] == b"\x9c\x00\x00\x00TFL3"
    import onnx

    head = onnx.ModelProto.FromString(onnx_with_room(b""))
    assert [(prop.key, prop.value) for prop in head.metadata_props] == [("keras_resnet.sha256", "0" * 64)]


@pytest.mark.parametrize(
    "change",
    [
        {"input": {}},
        {"input": None},
        {"format": "another"},
        {"format": []},
        {"labels": [1, 2]},
        {"quantization": {}},
        {"quantization": 1},
        {"output": {"dtype": None}},
        {"size": [10**9, 10**9, 3]},
        {"size": ["32", 32, 3]},
        {"interpolation": "none"},
    ],
)
def test_a_forged_description_is_a_clear_error(change, exported, tmp_path):
    """Its hash is right: who forges a file can write that too."""
    path = tmp_path / "forged.onnx"
    description = read_description(exported.paths["onnx"])
    if set(change) <= set(description):
        description.update(change)
    else:
        description["input"].update(change)
    shutil.copy(exported.paths["onnx"], path)
    import onnx

    proto = onnx.load(str(path))
    onnx.helper.set_model_props(proto, {"keras_resnet.description": json.dumps(description)})
    path.write_bytes(onnx_with_room(proto.SerializeToString()))
    seal(path)
    assert "its description can't be read" in refusal(path)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe.tflite")
    with pytest.raises(ExportError, match="no such file or folder"):
        open_artifact(tmp_path / "pipe.tflite")
