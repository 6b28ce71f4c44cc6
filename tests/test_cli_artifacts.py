"""The commands on artifacts of every format, run in this process: export, info, predict, evaluate."""

import csv
import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from command_line import in_process
from PIL import Image
from small_classifier import small_classifier

from keras_resnet.errors import VerificationError
from keras_resnet.export import pipeline
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.files import ANSWERS
from keras_resnet.export.formats import FORMATS, all_formats, format_named
from keras_resnet.export.images import synthetic_images
from keras_resnet.model_files import save_model
from keras_resnet.variants import InputContract

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

LABELS = [f"thing {index}" for index in range(10)]
IMAGES = synthetic_images((32, 32, 3), count=40, seed=8)


def save(pixels, path):
    """Pixels `[32, 32, 3]` -> file of 37 pixels, whose crop they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.pad(pixels, ((2, 3), (2, 3), (0, 0)))).save(path)
    return path


def class_folders(images, classes, root):
    """Pixels, classes -> a folder for each class."""
    for index, (pixels, label) in enumerate(zip(images, classes, strict=True)):
        save(pixels, root / LABELS[label] / f"{index:03}.png")
    return root


@pytest.fixture(scope="module")
def model(randomise):
    return randomise(small_classifier(), seed=4)


@pytest.fixture(scope="module")
def classes(model):
    """The model's own answers on IMAGES."""
    return np.asarray(model(IMAGES, training=False)).argmax(axis=1)


@pytest.fixture(scope="module")
def folder(model, classes, tmp_path_factory):
    """Folder with what a user has: model.keras, labels.txt, images for calibration, and labelled ones."""
    root = tmp_path_factory.mktemp("user")
    model.save(root / "model.keras")
    (root / "labels.txt").write_text("\n".join(LABELS) + "\n")
    for index, pixels in enumerate(IMAGES):
        save(pixels, root / "images" / f"{index:03}.png")
    class_folders(IMAGES[:12], classes[:12], root / "labelled")
    return root


@pytest.fixture(scope="module")
def export_files(folder):
    """export_files("out", *options) -> exit status, lines on stdout, lines on stderr."""

    def run(out, *options):
        return in_process(
            *("export", "--model", folder / "model.keras", "--class-names", folder / "labels.txt"),
            *("--calibration", folder / "images", "--out", folder / out, *options),
        )

    return run


@pytest.fixture(scope="module")
def everything(folder, export_files):
    """All formats, in a folder whose name has a space -> lines on stdout."""
    status, lines, errors = export_files("my files", "--formats", "all")
    assert (status, errors) == (0, [])
    return lines


@pytest.fixture(scope="module")
def with_options(folder, export_files):
    """Folder of artifacts as unlike the default ones as can be."""
    options = ["--layout", "nchw", "--any-size", "--opset", "13", "--keep-float", "stem_conv", "--ranges", "mse"]
    types = ["--input-type", "float32", "--output-type", "int8", "--int-weights", "uint8"]
    formats = "saved_model,onnx,onnx-float16,onnx-int8,tflite-int8"
    status, _, errors = export_files("chosen", "--formats", formats, *options, *types)
    assert (status, errors) == (0, [])
    return folder / "chosen"


def test_all_writes_all(folder, everything):
    assert {path.name for path in (folder / "my files").iterdir()} == {
        "manifest.json",
        *(row.file_name for row in map(format_named, all_formats())),
        *(row.file_name + ANSWERS for row in map(format_named, all_formats())),
    }
    for row in map(format_named, all_formats()):
        assert sum(line.split()[:1] == [row.file_name] for line in everything) == 1
    assert max(map(len, everything[:-2])) <= 80  # as on a pipe; the last two lines hold paths


def test_the_last_line_is_the_next_command(folder, everything, classes):
    command, *arguments = shlex.split(everything[-1])
    assert command == "keras-resnet"
    assert arguments == ["predict", "IMAGE", "--model", str(folder / "my files" / "saved_model")]
    arguments[1] = str(folder / "images" / "007.png")
    status, lines, errors = in_process(*arguments)
    assert (status, errors) == (0, [])
    assert lines[0] == arguments[1]
    assert LABELS[classes[7]] in lines[1]
    assert len(lines) == 6


def assert_info_predict_and_evaluate(path, name, folder, model):
    """The three commands, with no other argument than they need."""
    status, lines, errors = in_process("info", path)
    assert (status, errors) == (0, [])
    text = "\n".join(lines)
    for word in (name, "small", "model.keras", "thing 0, thing 1", "probabilities"):
        assert word in text
    status, lines, _ = in_process("info", path, "--json")
    assert status == 0
    assert json.loads("\n".join(lines))["labels"] == LABELS

    status, lines, errors = in_process("predict", folder / "images" / "007.png", "--model", path)
    assert (status, errors) == (0, [])
    expected = np.asarray(model(IMAGES[7:8], training=False))[0]
    rows = [re.fullmatch(r" +([\d.]+) %  (thing \d)", line) for line in lines[1:]]
    best = np.argsort(-expected)[:5]
    assert rows[0][2] == LABELS[best[0]]
    exact = name in ("saved_model", "tflite", "onnx")
    if exact:
        assert [row[2] for row in rows] == [LABELS[index] for index in best]
    for row in rows:
        probability = 100 * expected[LABELS.index(row[2])]
        assert abs(float(row[1]) - probability) < (0.006 if exact else 0.2 if "float16" in name else 5)

    status, lines, errors = in_process("evaluate", path, folder / "labelled", "--split", "all")
    assert (status, errors) == (0, [])
    assert lines[0].split() == ["images", "12"]
    top1, top5 = (float(line.split()[-1]) for line in lines[1:3])
    assert top1 >= (100 if exact else 100 * 11 / 12 - 0.01)
    assert top5 == 100


@pytest.mark.parametrize("name", all_formats())
def test_every_format_needs_nothing_but_its_file(name, folder, everything, model):
    assert_info_predict_and_evaluate(folder / "my files" / FORMATS[name].file_name, name, folder, model)


@pytest.mark.parametrize("name", ["saved_model", "onnx", "onnx-float16", "onnx-int8", "tflite-int8"])
def test_so_does_every_format_with_its_options(name, folder, with_options, model):
    assert_info_predict_and_evaluate(with_options / FORMATS[name].file_name, name, folder, model)


def test_onnx_runtime_warns_of_no_file(folder, everything, with_options):
    """Of an unused constant, for example. The runtime writes its warnings to file descriptor 2."""
    files = [*(folder / "my files").glob("*.onnx"), *with_options.glob("*.onnx")]
    assert len(files) == 6
    code = (
        "import sys, onnxruntime\n"
        "for path in sys.argv[1:]:\n"
        "    options = onnxruntime.SessionOptions()\n"
        "    options.log_severity_level = 2\n"
        "    onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])\n"
    )
    loaded = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    # The search for GPUs, at the import, is about the machine and not about the files.
    warnings = [line for line in loaded.stderr.splitlines() if "[W:" in line and "device_discovery" not in line]
    assert warnings == []


def test_info_of_a_folder_shows_each_artifact(folder, everything):
    status, lines, errors = in_process("info", folder / "my files")
    assert (status, errors) == (0, [])
    for row in map(format_named, all_formats()):
        assert sum(line.strip() == row.file_name for line in lines) == 1


def test_a_row_is_printed_when_its_artifact_is_finished_also_after_a_failure(folder, export_files, monkeypatch):
    printed, verify = [], pipeline.verify

    def verify_or_fail(path, row, reference):
        printed.append(sys.stdout.getvalue().splitlines())
        if row.name == "tflite":
            raise VerificationError("model.tflite is wrong")
        return verify(path, row, reference)

    monkeypatch.setattr(pipeline, "verify", verify_or_fail)
    status, lines, errors = export_files("one failed", "--formats", "saved_model,tflite,tflite-dynamic")
    assert (status, errors) == (1, ["error: model.tflite is wrong"])
    assert printed == [[], lines[:4], lines[:5]]
    assert lines[:3] == [
        "artifact               size images    largest agreement",
        "                         MB        difference         %",
        "─" * 55,
    ]
    assert re.fullmatch(r"saved_model             0\.2     56 +\d\.?\d*e-\d\d    100\.00", lines[3])
    assert lines[4] == "model.tflite         failed      -          -         -"
    assert re.fullmatch(r"model-dynamic\.tflite    0\.\d     40 +0\.\d+ +\d+\.\d\d", lines[5])
    assert len(lines) == 6


def test_a_drop_of_accuracy_ends_with_status_1_and_without_the_name(folder, everything, export_files, model):
    """Labelled so that the model alone is right, on images on which rounding tips the balance."""
    many = synthetic_images((32, 32, 3), count=600, seed=77)
    right = np.asarray(model(many, training=False)).argmax(axis=1)
    rounded = open_artifact(folder / "my files" / "model-int8.tflite").predict(many)["probabilities"].argmax(axis=1)
    wrong = np.flatnonzero(right != rounded)
    assert len(wrong) >= 3
    chosen = np.concatenate([wrong, np.flatnonzero(right == rounded)[:20]])
    class_folders(many[chosen], right[chosen], folder / "hard")

    options = ["--formats", "onnx,tflite-int8", "--data", folder / "hard", "--split", "all", "--max-drop", "1.5"]
    status, lines, errors = export_files("dropped", *options, "--debug")
    drop = 100 * len(wrong) / len(chosen)
    assert status == 1
    good, bad = (line.split() for line in lines[3:])
    assert good[0] == "model.onnx"
    assert good[-3:] == ["100.00", "100.00", "+0.00"]
    assert bad[:5] == ["model-int8.tflite", "failed", "-", "-", "-"]
    assert (bad[5], bad[7]) == (f"{100 - drop:.2f}", f"{drop:+.2f}")
    assert errors[0].startswith("error: ")
    assert f"{drop:.2f} points below its model; allowed: 1.5 (--max-drop)" in errors[0]
    out = folder / "dropped"
    assert {path.name for path in out.iterdir()} == {
        "manifest.json",
        "model.onnx",
        "model.onnx.answers.npz",
        "model-int8.tflite.unverified",
        "quantization-error-tflite-int8.csv",
        "quantization-error-tflite-int8.png",
    }
    [entry] = json.loads((out / "manifest.json").read_text())["artifacts"].values()
    assert (entry["file"], entry["accuracy"]["drop_points"], entry["accuracy"]["images"]) == (
        "model.onnx",
        0.0,
        len(chosen),
    )

    assert (out / "quantization-error-tflite-int8.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with (out / "quantization-error-tflite-int8.csv").open() as stream:
        rows = {row["layer"]: float(row["signal_to_noise_db"]) for row in csv.DictReader(stream)}
    assert {"stem_relu", "stage2_block1_1_relu", "stage2_block1_out", "pool", "logits"} <= set(rows)
    # The lowest logits are clipped on purpose.
    assert all(15 < decibels < 60 for name, decibels in rows.items() if name != "logits")
    assert "layers with the largest quantization error" in errors[1]
    named = [re.fullmatch(r" +(-?[\d.]+) dB  (\S+)", line).groups() for line in errors[2:]]
    assert [name for _, name in named] == sorted(rows, key=rows.get)[: len(named)]
    assert len(named) == min(10, len(rows))
    assert [float(decibels) for decibels, _ in named] == pytest.approx(sorted(rows.values())[: len(named)], abs=0.06)

    status, _, errors = export_files("allowed", *options[:-1], str(drop + 0.1))
    assert (status, errors) == (0, [])
    assert (folder / "allowed" / "model-int8.tflite").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--opset", "19"], "`opset` must be one of 11, 12, 13, 14, 15, 16, 17, 18. Received: opset=19"),
        (["--formats", "tflite", "--layout", "nchw"], "`layout` belongs to onnx, onnx-float16, onnx-int8"),
        (["--formats", "onnx-int7"], "Received: 'onnx-int7'. Did you mean 'onnx-int8'?"),
        (["--max-drop", "1"], "--max-drop needs labelled images: give --data. Received: --max-drop 1"),
        (
            ["--formats", "tflite-int8", "--keep-float", "stem"],
            "must name layers as --debug lists them. Received: 'stem'",
        ),
    ],
)
def test_wrong_options_are_one_line(options, message, export_files, folder):
    status, lines, errors = export_files("wrong", *options)
    assert (status, lines) == (1, [])
    [line] = errors
    assert line.startswith("error: ")
    assert message in line
    assert not (folder / "wrong").exists()


def test_info_shows_what_a_keras_file_says(model, folder, tmp_path):
    save_model(model, tmp_path / "own.keras", LABELS, InputContract(32, 36))
    status, lines, errors = in_process("info", tmp_path / "own.keras")
    assert (status, errors) == (0, [])
    text = "\n".join(lines)
    for word in ("classify", "thing 0, thing 1", "input.centre_crop", "32", "36"):
        assert word in text
    status, lines, _ = in_process("info", tmp_path / "own.keras", "--json")
    content = json.loads("\n".join(lines))
    assert (status, content["task"], content["labels"]) == (0, "classify", LABELS)
    status, _, errors = in_process("info", folder / "model.keras")
    assert status == 1
    assert "holds no description" in " ".join(errors)
    (tmp_path / "model.keras").write_bytes(b"PK")
    status, _, errors = in_process("info", tmp_path / "model.keras")
    assert status == 1
    assert "its member 'keras_resnet.json' can't be read" in " ".join(errors)
