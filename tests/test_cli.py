"""The console command as a user types it: start-up, errors, exit statuses."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import typer.main
from command_line import in_process

from keras_resnet import __version__
from keras_resnet.cli.main import app
from keras_resnet.environment import machine

ROOT = Path(__file__).parents[1]


def keras_resnet(*arguments, **environment):
    """Runs `keras-resnet` in a process of its own -> completed process."""
    return subprocess.run(
        [sys.executable, "-m", "keras_resnet.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_help_names_every_command_and_imports_no_framework():
    script = (
        "import sys; sys.argv = ['keras-resnet', '--help']\n"
        "from keras_resnet.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'keras', 'tensorflow', 'jax', 'torch', 'numpy', 'PIL'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for command in app.registered_commands:
        assert f" {command.name} " in result.stdout
    assert result.stdout.rstrip().endswith("[]")
    assert result.stderr == ""


def test_version():
    assert keras_resnet("--version").stdout.strip() == __version__


def test_export_verify_and_predict(model_file, image_folder, tmp_path):
    """Files in, verified artifacts out; nothing of the frameworks' chatter on either stream."""
    out = tmp_path / "out"
    result = keras_resnet(
        *("export", "--model", model_file, "--out", out),
        *("--formats", "tflite,tflite-int8", "--calibration", image_folder),
    )
    assert result.returncode == 0, result.stderr
    read_as = f"{model_file}: task classify, 10 probabilities, because it ends in a softmax"
    # On a slow machine, lines of progress appear after half a minute.
    others = [line for line in result.stderr.splitlines() if not re.match(r"\d:\d\d:\d\d  (write|verify) ", line)]
    assert others == [read_as]
    assert f"recorded in {out / 'manifest.json'}" in result.stdout
    assert set(json.loads((out / "manifest.json").read_text())["artifacts"]) == {"tflite", "tflite-int8"}

    result = keras_resnet("verify", out / "model-int8.tflite", "--model", model_file, "--images", image_folder)
    assert (result.returncode, result.stderr) == (0, f"{read_as}\n")
    assert "unexplained" in result.stdout

    model = keras.models.load_model(model_file)
    model.get_layer("logits").kernel.assign(model.get_layer("logits").kernel[:, ::-1])
    model.save(tmp_path / "other.keras")
    status, lines, _ = in_process("verify", out / "model.tflite", "--model", tmp_path / "other.keras")
    assert status == 1
    assert "FAILED" in "\n".join(lines)

    status, lines, errors = in_process("predict", image_folder / "07.png", "--model", model_file, "--top", "3")
    assert (status, errors) == (0, [])
    assert "\n".join(lines).count("%") == 3


@pytest.mark.parametrize("script", ["to_savedmodel", "to_tflite", "to_onnx"])
def test_runnables(script, model_file, tmp_path):
    file, options = ROOT / "export" / f"{script}.py", ["--model", model_file, "--out", tmp_path]
    if script == "to_onnx":
        result = subprocess.run([sys.executable, file, *options], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    else:
        status, _, errors = in_process(*options, run=lambda: runpy.run_path(str(file), run_name="__main__"))
        assert (status, errors) == (0, [])
    [artifact] = json.loads((tmp_path / "manifest.json").read_text())["artifacts"].values()
    assert (tmp_path / artifact["file"]).exists()
    assert artifact["verification"]["passed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "--model", "resnet-50", "--out", "out"), "did you mean resnet50?"),
        (("export", "--model", "missing.keras", "--out", "out"), "names a .keras file that does not exist"),
        (("verify", "missing.onnx", "--model", "{model}"), "missing.onnx: no such file or folder"),
        (("export", "--model", "{model}", "--out", "out", "--formats", "tfite"), "Did you mean 'tflite'?"),
        (
            ("export", "--model", "{model}", "--out", "out", "--formats", "tflite-int8"),
            "`calibration` (--calibration) must give typical images for tflite-int8",
        ),
    ],
)
def test_errors_are_one_line_without_a_traceback(arguments, message, model_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, lines, errors = in_process(*(argument.format(model=model_file) for argument in arguments))
    assert (status, lines) == (1, [])
    [line] = errors
    assert line.startswith("error: ")
    assert message in line


def test_a_process_of_its_own_says_the_same():
    result = keras_resnet("verify", "missing.onnx")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: missing.onnx: no such file or folder\n"


def test_another_backend_is_named(model_file, tmp_path):
    pytest.importorskip("torch")
    result = keras_resnet("export", "--model", model_file, "--out", tmp_path, KERAS_BACKEND="torch")
    assert result.returncode == 1
    assert "export needs the TensorFlow backend. Received: KERAS_BACKEND=torch" in result.stderr


def test_demo_replaces_nothing_but_a_demo(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").touch()
    status, _, errors = in_process("demo", "--out", tmp_path)
    assert status == 1
    assert "error: --out must be a new or empty folder, or an earlier demo's" in "\n".join(errors)
    assert (tmp_path / "images" / "mine.jpg").exists()


def test_a_demo_that_is_terminated_exports_nothing(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    from keras_resnet.training import fit

    monkeypatch.setattr(
        fit, "train", lambda recipe, run, listener: fit.TrainingResult(run, False, [], "top-1", 1, None, recipe)
    )
    status, _, errors = in_process("demo", "--out", tmp_path)
    assert status == 1
    assert "error: the demo was terminated during training; run it again to start over" in errors
    assert not list(tmp_path.glob("model*"))


@pytest.mark.slow
def test_demo(tmp_path):
    """The main job, through its real entry point."""
    pytest.importorskip("sklearn")
    result = keras_resnet("demo", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    check_demo(tmp_path, result.stdout, least_percent=98.5)
    shown = result.stderr.splitlines()
    for stage in ("start TensorFlow", "write images", "train", "export: verify onnx", "measure"):
        line = rf"\d:\d\d:\d\d  {stage} \(\d+ of \d+\), (time left unknown|\d:\d\d:\d\d left)"
        assert any(re.fullmatch(line, one) for one in shown), stage
    assert "JPEG" not in result.stderr  # as libjpeg says of each file that is a PNG
    assert "AutoGraph" not in result.stderr


def test_demo_of_a_small_network_and_two_epochs(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    from keras_resnet import variants
    from keras_resnet.demo import digits

    train, row = digits.train_network, variants.VARIANTS["resnet20"]
    short = lambda folder, recipe, progress: train(folder, replace(recipe, epochs=2), progress)  # noqa: E731
    monkeypatch.setattr(digits, "train_network", short)
    monkeypatch.setitem(variants.VARIANTS, "resnet20", replace(row, blocks_per_stage=(1, 1, 1)))
    status, lines, errors = in_process("demo", "--out", tmp_path)
    assert status == 0, errors
    check_demo(tmp_path, "\n".join(lines), least_percent=60)


def check_demo(folder, stdout, least_percent):
    rows = {row["artifact"]: row for row in json.loads((folder / "results.json").read_text())["results"]}
    assert set(rows) == {"Keras model", "saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8"}
    assert rows["Keras model"]["score_percent"] >= least_percent
    assert abs(rows["tflite-int8"]["score_percent"] - rows["Keras model"]["score_percent"]) <= 0.5
    for name in ("saved_model", "tflite", "onnx"):
        assert rows[name]["score_percent"] == rows["Keras model"]["score_percent"]
        assert rows[name]["max_difference"] < 1e-5
    assert np.all([row["latency"]["median_ms"] > 0 for row in rows.values()])
    for name in rows:
        assert name in stdout
    assert f"Machine: {machine()}." in stdout
    # The next command works as it is printed.
    printed = shlex.split(stdout.rpartition("next: ")[2])
    status, lines, _ = in_process(*printed[printed.index("predict") :])
    assert status == 0
    assert len([line for line in lines if "%" in line]) >= 36  # the sevens that were held out


def test_scenes_of_the_demo(tmp_path):
    """Digits with the labels of their strokes, none of them in both splits; the demo of segmentation trains on them."""
    pytest.importorskip("sklearn")
    from keras_resnet.demo.digit_scenes import SCENE, SCENES, write_scenes
    from keras_resnet.tasks.sources import open_source

    write_scenes(tmp_path / "images", lambda step, done, total: None)
    for split, count in SCENES.items():
        source = open_source(tmp_path / "images", split)
        assert source.count == count
        assert list(source.classes) == ["background", *map(str, range(10))]
        areas = np.zeros(11)
        for index in range(count):
            _, pixels, mask = source.decode(index)
            assert pixels.shape == (*SCENE, 3)
            areas += np.bincount(mask.ravel(), minlength=11)
            brightness = pixels.astype(float).sum(axis=2)
            assert brightness[mask > 0].mean() > brightness[mask == 0].mean() + 60
        shares = areas / areas.sum()
        assert 0.5 < shares[0] < 0.85
        assert shares[1:].min() > 0.005


def test_shapes_of_the_demo(tmp_path, monkeypatch):
    """Discs, squares and triangles with the masks of their visible pixels; the demo of detection trains on them."""
    pytest.importorskip("pycocotools")
    from keras_resnet.demo import shapes
    from keras_resnet.tasks.sources import open_source

    monkeypatch.setattr(shapes, "SCENES", {"train": 30, "val": 10})
    shapes.write_shapes(tmp_path / "images", lambda step, done, total: None)
    for split, count in shapes.SCENES.items():
        source = open_source(tmp_path / "images", split)
        assert (source.count, [*source.classes]) == (count, ["disc", "square", "triangle"])
        assert source.class_counts.min() > 0.15 * source.class_counts.sum()
        for index in range(count):
            objects, instances = source.objects[index], source.instances(index)
            assert 1 <= len(objects.boxes) <= shapes.MOST_SHAPES
            assert not objects.ignored.any()
            for place, (box, label) in enumerate(zip(objects.boxes, objects.classes, strict=True), start=1):
                rows, columns = np.nonzero(instances == place)
                edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                np.testing.assert_array_equal(box, edges)
                side = shapes.RADII[1] * 2 + 2
                assert 1 < max(edges[2] - edges[0], edges[3] - edges[1]) <= side
                # A triangle fills at most half of its box, unless a part of it is hidden; a disc fills more.
                whole = len(rows) / np.prod(np.subtract(edges[2:], edges[:2]))
                assert whole > {0: 0.4, 1: 0.25, 2: 0.15}[int(label)]


@pytest.mark.slow
def test_demo_of_detection(tmp_path):
    pytest.importorskip("pycocotools")
    pytest.importorskip("matplotlib")
    result = keras_resnet("demo", "--task", "detect", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    rows = {row["artifact"]: row for row in json.loads((tmp_path / "results.json").read_text())["results"]}
    assert set(rows) == {"Keras model", "saved_model", "tflite", "onnx"}
    for row in rows.values():
        assert row["score_percent"] > 40
        assert row["further_percent"]["mask AP"] > 40
        assert abs(row["score_percent"] - rows["Keras model"]["score_percent"]) < 0.1
        assert row["max_difference"] < 1e-4
    for name in rows:
        assert name in result.stdout
    printed = shlex.split(result.stdout.rpartition("next: ")[2])
    status, lines, _ = in_process(*printed[printed.index("predict") :])
    assert status == 0
    drawn = sorted((tmp_path / "objects").iterdir())
    assert len(drawn) == 60
    assert any("disc" in line for line in lines)


def examples(command, name="keras-resnet"):
    """Command -> the example of each command in it: its name, the words of the example, the options that it has."""
    children = getattr(command, "commands", {})
    for child in children.values():
        yield from examples(child, f"{name} {child.name}")
    if not children:
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        yield name, command.epilog or "", options


EXAMPLES = list(examples(typer.main.get_command(app)))


@pytest.mark.parametrize(("name", "example", "options"), EXAMPLES, ids=[name for name, _, _ in EXAMPLES])
def test_each_help_ends_with_an_example(name, example, options):
    assert example.startswith(f"Example: {name}")
    assert {word for word in shlex.split(example) if word.startswith("--")} <= options


def test_the_help_groups_the_commands():
    _, lines, _ = in_process("--help")
    panels = [line.split()[1] for line in lines if line.startswith("╭─") and "Options" not in line]
    assert panels == ["Data", "Train", "Look", "Ship", "Measure"]
