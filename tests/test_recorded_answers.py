"""`verify --against-report`: what has changed since the export is found; reading of ONNX files without `onnx`."""

import json
import shutil

import numpy as np
import pytest
from command_line import in_process
from small_classifier import small_classifier

from keras_resnet.export import export
from keras_resnet.export.onnx_file import read_graph, read_property
from keras_resnet.export.recorded_answers import answers_file, examine_recorded
from keras_resnet.whole_files import file_sha256

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(randomise, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    export(randomise(small_classifier(), seed=4), folder, ["onnx"])
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "out")


def change_entry(folder, **fields):
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    content["artifacts"]["onnx"].update(fields)
    manifest.write_text(json.dumps(content))
    return content["artifacts"]["onnx"]


def change_answers(folder, change):
    """Writes other answers, with a hash in the manifest that fits them."""
    file = answers_file(folder / "model.onnx")
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["probabilities"] = change(arrays["probabilities"])
    np.savez_compressed(file, **arrays)
    change_entry(folder, answers={"file": file.name, "sha256": file_sha256(file), "images": 4})


def failed(folder):
    return [check.name for check in examine_recorded(folder / "model.onnx").failures]


def test_a_file_is_proved_by_its_record(folder):
    report = examine_recorded(folder / "model.onnx")
    assert report.passed
    assert (report.images, report.max_difference) == (4, 0.0)
    status, lines, errors = in_process("verify", folder / "model.onnx", "--against-report")
    assert (status, errors, lines[0]) == (0, [], f"{folder / 'model.onnx'} as onnx, on 4 images")


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        (lambda answers: answers * 1.001, {"relative error"}),
        (lambda answers: answers[:, ::-1], {"relative error", "class error", "top-1 agreement"}),
        (lambda answers: answers[::-1], {"relative error", "class error", "top-1 agreement"}),
        (lambda answers: answers[:, :9], {"answer shape"}),
    ],
    ids=["scaled", "classes reversed", "images reversed", "a class less"],
)
def test_other_answers_than_recorded_fail(change, checks, folder):
    change_answers(folder, change)
    found = set(failed(folder))
    assert found
    assert found >= checks - {"top-1 agreement"}
    assert in_process("verify", folder / "model.onnx", "--against-report")[0] == 1


def test_another_file_or_description_fails(folder):
    change_entry(folder, verification=None)
    assert failed(folder) == ["equal to its model"]
    content = json.loads((folder / "manifest.json").read_text())["artifacts"]["onnx"]["description"]
    change_entry(folder, description={**content, "labels": [str(index) for index in range(10)]})
    assert "description" in failed(folder)
    change_entry(folder, sha256="0" * 64)
    assert failed(folder)[0] == "file"


def test_what_is_not_recorded_is_an_error(folder):
    path = folder / "model.onnx"
    answers_file(path).write_bytes(b"")
    status, _, [error] = in_process("verify", path, "--against-report")
    assert status == 1
    assert "the recorded answers can't be read: it is not the file that manifest.json records" in error
    change_entry(folder, answers=None)
    assert "no answers were recorded when it was exported" in in_process("verify", path, "--against-report")[2][0]
    (folder / "manifest.json").unlink()
    assert "manifest.json beside it records nothing about it" in in_process("verify", path, "--against-report")[2][0]
    status, _, [error] = in_process("verify", path, "--against-report", "--model", "resnet18")
    assert status == 1
    assert error.endswith("give one of them. Received: --model resnet18")


def test_a_graph_is_read_as_by_the_package_onnx(folder):
    path = folder / "model.onnx"
    model, graph = onnx.load(str(path)), read_graph(path)
    assert [tuple(node) for node in graph.nodes] == [
        (node.op_type, [*node.input], [*node.output]) for node in model.graph.node
    ]
    assert graph.constants == {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for entry in model.metadata_props:
        assert read_property(path, entry.key, 1_000_000) == entry.value.encode()
    assert read_property(path, "absent", 10) is None
    with pytest.raises(ValueError, match=r"more than the limit of 10"):
        read_property(path, "keras_resnet.description", 10)


@pytest.mark.parametrize("content", [b"\x0f", b"\x72\xff", b"\x72\x05ab", b"\x72" + b"\xff" * 11])
def test_what_is_no_onnx_file_is_named_so(content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match="not an ONNX file"):
        read_property(tmp_path / "model.onnx", "labels", 10)
