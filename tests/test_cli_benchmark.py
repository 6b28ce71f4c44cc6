"""`keras-resnet benchmark`: what a user names is measured, and the record and pictures are there."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import in_process
from PIL import Image
from small_classifier import small_classifier

from keras_resnet.benchmark import compare, rivals
from keras_resnet.export import export
from keras_resnet.export.images import synthetic_images

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def user(randomise, tmp_path_factory):
    """Folder with an export, model.keras, and labelled images of which the model is right on three in four."""
    root = tmp_path_factory.mktemp("user")
    model = randomise(small_classifier(), seed=4)
    model.save(root / "model.keras")
    export(model, root / "out", ["tflite", "onnx"])
    images = synthetic_images((32, 32, 3), count=8, seed=8)
    answers = np.asarray(model(images, training=False)).argmax(axis=1)
    answers[:2] = (answers[:2] + 1) % 10
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "index"))
        for index, (pixels, answer) in enumerate(zip(images, answers, strict=True)):
            Image.fromarray(np.pad(pixels, ((2, 3), (2, 3), (0, 0)))).save(root / f"{index}.png")
            writer.writerow((f"{index}.png", answer))
    return root


def test_an_export_and_its_model_side_by_side(user, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "TURN_S", 0.05)
    status, printed, _ = in_process(
        *("benchmark", user / "out", user / "model.keras", "--data", user / "labels.csv", "--split", "all"),
        *("--rounds", 2, "--batch-size", 1, "--batch-size", 3, "--profile", "--out", tmp_path),
    )
    assert status == 0
    record = json.loads((tmp_path / "benchmark.json").read_text())
    contenders = record["results"]["contenders"]
    assert list(contenders) == ["model.tflite", "model.onnx", "model.keras"]
    for name, result in contenders.items():
        assert result["timings"].keys() == {"1", "3"}
        assert result["timings"]["3"]["latency"]["median_ms"] > 0
        assert result["top1_percent"] == 75.0
        assert any(line.startswith(name) for line in printed)
    assert contenders["model.tflite"]["timings"]["1"]["ratio_to_first"]["median"] == 1.0
    size = (user / "out" / "model.onnx").stat().st_size
    assert contenders["model.onnx"]["size_mb"] == size / 1e6
    assert record["settings"]["batch_sizes"] == [1, 3]
    assert record["results"]["peak"]["gflops"] > 0
    assert record["results"]["profiles"].keys() == {"model.tflite", "model.onnx"}
    assert max(len(line) for line in printed if "─" in line) <= 110
    [first, second] = [line for line in printed if line.startswith("On this machine, at batch size ")]
    assert "batch size 1, the fastest file that loses nothing is model." in first
    assert "batch size 3, " in second
    assert " ms), and the fastest file within the gate is model." in second
    [entry] = json.loads((user / "out" / "fastest.json").read_text())["machines"].values()
    assert f"is {entry['file']} (" in first
    assert f"On this machine, `predict` and `evaluate` now take {entry['file']} of {user / 'out'}." in printed
    for name in record["results"]["profiles"]:
        for picture in ("profile", "roofline"):
            assert Image.open(tmp_path / f"{name} {picture}.png").width > 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.tflite"], "nothing.tflite: no such file or folder"),
        (["resnet19"], "--model must be one of"),
        (["{out}", "{out}"], "a subject must not be given twice. Received twice: "),
        (["{keras}", "--profile"], "--profile needs a .tflite or .onnx file. Received: "),
        (["{out}", "--rivals"], "--rivals: the first subject must be one of resnet18"),
        (["{out}", "--out", "speed.json"], "--out must name a folder, in which benchmark.json is written"),
        (["{out}", "--calibration", "images"], "--calibration needs --rivals, which was not given"),
        (["{out}", "--batch-size", "2", "--batch-size", "2"], "a --batch-size must not be given twice"),
    ],
)
def test_wrong_arguments_are_named(user, arguments, message):
    places = {"out": user / "out", "keras": user / "model.keras"}
    status, _, said = in_process("benchmark", *(argument.format(**places) for argument in arguments))
    assert status == 1
    assert message in said[-1]


def test_two_files_of_one_name_are_told_apart(user, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "TURN_S", 0.01)
    other = tmp_path / "model.onnx"
    other.write_bytes((user / "out" / "model.onnx").read_bytes())
    status, _, _ = in_process("benchmark", user / "out" / "model.onnx", other, "--rounds", 1, "--out", tmp_path)
    assert status == 0
    contenders = json.loads((tmp_path / "benchmark.json").read_text())["results"]["contenders"]
    assert list(contenders) == [str(user / "out" / "model.onnx"), str(other)]


def test_rivals_that_are_not_installed_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals.importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    monkeypatch.setattr(rivals, "_in_a_process", lambda *arguments: None)
    found, absent = rivals.rivals_of("resnet50", tmp_path, threads=1)
    assert "OpenVINO int8 (NNCF): not installed: openvino" in absent
    # What needs no file of its own is there, and nothing else was made.
    assert [one.name for one in found if one.file is None] == [
        "keras.applications, Keras",
        "PyTorch, eager",
        "PyTorch, torch.compile",
    ]


def test_a_rival_gets_its_input_converted_once():
    converted = []
    predict = rivals._ready(lambda pixels: converted.append(1) or pixels / 2, lambda values: values + 1)
    pixels = np.full((1, 2), 4)
    assert [predict(pixels).tolist(), predict(pixels).tolist()] == [[[3.0, 3.0]], [[3.0, 3.0]]]
    assert len(converted) == 1
    predict(pixels.copy())
    assert len(converted) == 2


@pytest.mark.slow
def test_keras_applications_in_litert_gives_keras_answers(tmp_path):
    """The rival's file is its network: the same answers in both runtimes, of one image and of two."""
    import keras

    keras.utils.set_random_seed(3)
    rivals.convert_keras_applications("MobileNetV3Small", tmp_path / "rival.tflite")
    opened = rivals.litert(str(tmp_path / "rival.tflite"), threads=1)()
    pixels = synthetic_images((224, 224, 3), count=2, seed=1)
    keras.utils.set_random_seed(3)
    model = keras.applications.MobileNetV3Small(weights=None)
    for count in (1, 2):
        expected = model.predict_on_batch(rivals.normalised(pixels[:count]))
        np.testing.assert_allclose(np.asarray(opened.predict(pixels[:count])), expected, rtol=1e-4, atol=1e-6)


def test_a_rival_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    unmakable = [replace(rival, maker=_fail) for rival in rivals.RIVALS if rival.name == "PyTorch, ONNX Runtime"]
    monkeypatch.setattr(rivals, "RIVALS", unmakable)
    monkeypatch.setattr(rivals.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    found, absent = rivals.rivals_of("resnet18", tmp_path, threads=1)
    assert found == []
    assert absent == ["PyTorch, ONNX Runtime: its file can't be made: no such operator"]


def _fail(network, path):
    raise ValueError("no such operator\nand more")


def test_a_manifest_of_other_make_beside_the_files_is_no_error(user, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "TURN_S", 0.05)
    for name in ("model.tflite", "model.onnx"):
        (tmp_path / name).write_bytes((user / "out" / name).read_bytes())
    (tmp_path / "manifest.json").write_text("[]")
    subjects = (tmp_path / "model.tflite", tmp_path / "model.onnx")
    status, printed, errors = in_process("benchmark", *subjects, "--rounds", 1)
    assert status == 0, errors
    assert any("no file was exported in float32 and verified" in line for line in printed)
    assert not (tmp_path / "fastest.json").exists()
