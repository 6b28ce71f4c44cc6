"""A folder that `train` or `export` wrote stands for its model, and what was taken is stated."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
from command_line import in_process
from pictures import jpeg, picture

import keras_resnet
from keras_resnet.errors import ArgumentError, ExportError
from keras_resnet.export.formats import all_formats, format_named
from keras_resnet.model_files import save_model
from keras_resnet.model_folders import model_in
from keras_resnet.variants import InputContract

CLASSES = [f"thing {index} <&> ö" for index in range(10)]  # of `small_exports`


@pytest.fixture(scope="module")
def folder(small_exports, tmp_path_factory):
    """Folder with `run`, as `train` leaves it, `out`, as `export` leaves it, and images of known classes."""
    root = tmp_path_factory.mktemp("user")
    (root / "run").mkdir()
    save_model(small_exports.model, root / "run" / "model.keras", CLASSES, InputContract(32, 36))
    (root / "run" / "recipe.toml").write_text("")
    made = small_exports.folder
    (root / "out").mkdir()
    for name in ("manifest.json", "model.onnx", "model-int8.tflite", "model-float16.tflite"):
        shutil.copy(made / name, root / "out" / name)
    for label in CLASSES:
        (root / "images" / label).mkdir(parents=True)
        (root / "images" / label / "1.jpg").write_bytes(jpeg(picture(40, 48, len(label))))
    return root


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def messages(caplog) -> list[str]:
    """-> lines that were logged since the last call; pytest keeps them from stderr."""
    lines = caplog.messages
    caplog.clear()
    return lines


RUN = "model: run/model.keras"
OUT = "model: out/model.onnx (also there: model-float16.tflite, model-int8.tflite)"


@pytest.mark.parametrize(("name", "line", "file"), [("run", RUN, "run/model.keras"), ("out/", OUT, "out/model.onnx")])
def test_every_command_takes_a_folder_and_states_its_file(here, caplog, name, line, file):
    image = "images/thing 1 <&> ö/1.jpg"
    for command in (("predict", image, "--model"), ("evaluate", "images", "--split", "all")):
        arguments = (command[0], name, *command[1:]) if command[0] == "evaluate" else (*command, name)
        status, lines, errors = in_process(*arguments)
        assert (status, errors, messages(caplog)) == (0, [], [line])
        assert lines == in_process(*(file if argument == name else argument for argument in arguments))[1]


def test_commands_on_a_run(here, caplog):
    status, lines, errors = in_process("explain", "images/thing 1 <&> ö/1.jpg", "--model", "run", "--out", "explained")
    assert (status, errors, messages(caplog)) == (0, [], [RUN])
    status, _, errors = in_process("export", "--model", "run", "--formats", "onnx", "--out", "again")
    assert (status, errors, messages(caplog)) == (0, [], [RUN])
    status, _, errors = in_process("verify", "again/model.onnx", "--model", "run")
    assert (status, errors, messages(caplog)) == (0, [], [RUN])
    status, lines, errors = in_process("benchmark", "run", "--rounds", 1)
    assert (status, errors, messages(caplog)) == (0, [], [RUN])
    assert any(line.startswith("model.keras ") for line in lines)


def test_the_line_is_on_stderr(here):
    command = [sys.executable, "-m", "keras_resnet.cli", "info", "run", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, f"{RUN}\n")
    assert json.loads(result.stdout)["labels"] == CLASSES


def test_commands_that_need_a_keras_model_refuse_artifacts(here, caplog):
    for command in (("explain", "images/thing 1 <&> ö/1.jpg", "--out", "explained"), ("export", "--out", "new")):
        status, lines, errors = in_process(*command, "--model", "out")
        assert (status, lines, messages(caplog)) == (1, [], [OUT])
        assert errors[0].endswith("Received: out/model.onnx")


def test_verify_takes_one_artifact(here):
    assert in_process("verify", "out", "--model", "run/model.keras") == (
        *(1, []),
        [
            "error: verify takes one artifact at a time. Received: out, a folder that holds model.onnx, "
            "model-float16.tflite, model-int8.tflite"
        ],
    )


def test_load_takes_a_folder(here, caplog):
    assert keras_resnet.load("run").class_names == CLASSES
    assert messages(caplog) == [RUN]
    assert keras_resnet.load(here / "out").name == str(here / "out" / "model.onnx")


def test_the_most_exact_artifact_is_taken(tmp_path, small_exports, caplog):
    manifest = json.loads((small_exports.folder / "manifest.json").read_text())
    for entry in manifest["artifacts"].values():  # empty folders stand in for the artifacts
        entry["size_bytes"], entry["sha256"] = 0, hashlib.sha256().hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    order = ["saved_model", "model.tflite", "model.onnx", "model_openvino", "model-float16.tflite"]
    order += ["model-float16.onnx", "model-dynamic.tflite", "model-int8.tflite", "model-int16x8.tflite"]
    order += ["model-int8.onnx", "model-int8_openvino"]
    assert sorted(order) == sorted(row.file_name for row in map(format_named, all_formats()))
    for name in reversed(order):
        (tmp_path / name).mkdir()
        assert model_in(str(tmp_path)) == str(tmp_path / name)
    assert caplog.messages[0] == f"model: {tmp_path / 'model-int8_openvino'}"
    (tmp_path / "model.keras").touch()
    assert model_in(str(tmp_path)) == str(tmp_path / "model.keras")
    assert caplog.messages[-1] == f"model: {tmp_path / 'model.keras'} (also there: {', '.join(order)})"


@pytest.fixture
def shipped(small_exports, tmp_path):
    """Folder of two artifacts, in which model.onnx is a whole artifact of another export."""
    for name in ("manifest.json", "model-int8.tflite", "model.tflite"):
        shutil.copy(small_exports.folder / name, tmp_path / name)
    shutil.copy(small_exports.folder / "model-int8.onnx", tmp_path / "model.onnx")
    recorded = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]["onnx"]
    changed = (
        f"error: {tmp_path / 'model.onnx'}: changed: manifest.json beside it records {recorded['size_bytes']:,} bytes "
        f"with SHA-256 {recorded['sha256'][:16]}..., which another file has. Export or fetch the folder again"
    )
    return tmp_path, changed


def test_info_of_a_folder_compares_each_file_with_the_manifest(shipped):
    folder, changed = shipped
    status, lines, errors = in_process("info", folder)
    assert (status, errors) == (1, [changed])
    titles = [
        line.strip() for line in lines if line.strip() in [row.file_name for row in map(format_named, all_formats())]
    ]
    states = [line.split()[-2] for line in lines if line.split()[1:2] == ["state"]]
    assert dict(zip(titles, states, strict=True)) == {
        row.file_name: "missing" for row in map(format_named, all_formats())
    } | {
        "model.onnx": "changed",
        "model.tflite": "whole",
        "model-int8.tflite": "whole",
    }
    status, lines, errors = in_process("info", folder, "--json")
    assert (status, errors) == (1, [changed])
    states = {entry["file"]: entry["state"] for entry in json.loads("\n".join(lines))["artifacts"].values()}
    assert (states["model.onnx"], states["model.tflite"], states["model-int8.onnx"]) == ("changed", "whole", "missing")


def test_a_folder_whose_file_is_another_is_refused(shipped, here):
    folder, changed = shipped
    (folder / "model.tflite").unlink()  # model.onnx is the most exact one now
    commands = (
        ("predict", "images/thing 1 <&> ö/1.jpg", "--model", folder),
        ("evaluate", folder, "images", "--split", "all"),
        ("benchmark", folder, "--rounds", 1),
    )
    for command in commands:
        assert in_process(*command) == (1, [], [changed])
    with pytest.raises(ExportError, match="changed: "):
        keras_resnet.load(folder)
    status, lines, _ = in_process("predict", "images/thing 1 <&> ö/1.jpg", "--model", folder / "model.onnx")
    assert (status, len(lines)) == (0, 6)  # a file that the user names is compared with no record


@pytest.mark.parametrize("file", ["../model.onnx", "/etc/hostname", "..", ".", "", "a/model.onnx", 3])
def test_a_manifest_names_no_file_outside_of_its_folder(file, small_exports, tmp_path):
    manifest = json.loads((small_exports.folder / "manifest.json").read_text())
    manifest["artifacts"]["onnx"]["file"] = file
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for command in (("info", tmp_path), ("benchmark", tmp_path), ("predict", "a.jpg", "--model", tmp_path)):
        status, lines, errors = in_process(*command)
        assert (status, lines) == (1, [])
        assert errors == [
            f"error: {tmp_path / 'manifest.json'}: this version can't read the manifest: entry 'onnx' must have a file "
            "in the folder, its hash and size, and a description. Move it away"
        ]


def test_networks_files_and_saved_models_stay_as_they_are(here, small_exports, caplog):
    saved_model = str(small_exports.paths["saved_model"])
    (here / "resnet18").mkdir()
    for model in ("resnet18", "resnet-18", "out/model.onnx", "missing", saved_model):
        assert model_in(model) == model
    assert caplog.messages == []


def test_another_folder_is_refused_with_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index in range(11):
        (tmp_path / f"{index:02}.jpg").touch()
    (tmp_path / "00-folder").mkdir()
    message = (
        ".: this folder has neither model.keras, as `keras-resnet train` writes it, nor artifacts with manifest.json, "
        "as `keras-resnet export` writes them. It holds 00-folder/, "
        + ", ".join(f"{index:02}.jpg" for index in range(9))
        + " and 2 more. Name such a folder, or a file"
    )
    with pytest.raises(ArgumentError) as raised:
        keras_resnet.load(".")
    assert str(raised.value) == message
    assert in_process("predict", "00.jpg", "--model", ".") == (1, [], [f"error: {message}"])
    with pytest.raises(ArgumentError, match="It is empty"):
        model_in("00-folder")
