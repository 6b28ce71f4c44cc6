"""Artifacts where neither Keras nor TensorFlow is installed: they answer as in the full package, in every task."""

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import keras
import numpy as np
import pytest
from boxed_pictures import write_coco
from command_line import in_process
from masked_pictures import CLASSES, write_masked
from pictures import write_folder
from small_classifier import small_classifier
from small_detector import small_detector
from small_segmenter import small_segmenter

import keras_resnet
from keras_resnet.export import export, pipeline
from keras_resnet.export.checks import Report
from keras_resnet.optional import LEFT_OUT, RUNTIME, RUNTIME_EXTRAS, WRITERS
from keras_resnet.variants import WholeImage

for runtime in ("ai_edge_litert", "onnxruntime", "openvino"):
    pytest.importorskip(runtime)
pytest.importorskip("pycocotools")

ROOT = Path(__file__).parents[1]
NAMES = ["ant", "bee", "cow"]
FORMATS = {task: ["tflite", "onnx", "openvino"] for task in ("classify", "segment")} | {"detect": ["tflite"]}
FILES = ("model.tflite", "model.onnx", "model_openvino")
TASKS = ("classify", "segment", "tag", "regress", "embed", "detect")
NOT_MEASURED = ("regress", "embed")  # tasks without `evaluate`

# Runs commands, and `load`, and prints what each gave. What the runtime leaves out looks as if it were not installed.
CHILD = f"""
import json, sys

sys.modules.update(dict.fromkeys({(*LEFT_OUT, *WRITERS, "tf_keras")!r}))
from command_line import in_process
import keras_resnet
from keras_resnet import contained
contained.make_expendable()
given = json.load(sys.stdin)
answers = [keras_resnet.load(path).predict([image])[0] for path, image in given["loads"]]
print(json.dumps({{
    "commands": [in_process(*arguments) for arguments in given["commands"]],
    "answers": [{{name: values.tolist() for name, values in answer.items()}} for answer in answers],
}}))
"""


@pytest.fixture(scope="module")
def folder(randomise, tmp_path_factory):
    """Folder with artifacts of each task, and `data` for each. They are not verified, which would take most time."""
    root = tmp_path_factory.mktemp("runtime")
    classifier = randomise(small_classifier(classes=3), seed=4)
    networks = {
        "classify": (classifier, {"class_names": NAMES}),
        "segment": (randomise(small_segmenter(CLASSES)), {"contract": WholeImage(48, 64)}),
        "tag": (randomise(small_classifier("sigmoid", classes=3), seed=5), {"class_names": NAMES, "task": "tag"}),
        "regress": (randomise(small_classifier(None, classes=2), seed=6), {"task": "regress"}),
        "embed": (keras.Model(classifier.input, classifier.get_layer("pool").output), {"output_kind": "features"}),
        "detect": (small_detector(3), {"class_names": NAMES}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "verify", lambda path, row, reference: Report(row.name, (), 1, 0.0, 0.0, 100.0))
        for task, (model, given) in networks.items():
            export(model, root / task, FORMATS.get(task, ["tflite", "onnx"]), **given)
    write_folder(root / "data" / "classify", {"ant": 3, "bee": 2, "cow": 1})
    write_masked(root / "data" / "segment", 3)
    images = sorted((root / "data" / "classify").rglob("*.jpg"))
    lines = [f"{image.relative_to(root / 'data')},{'|'.join(NAMES[: 1 + n % 3])}" for n, image in enumerate(images)]
    (root / "data" / "tag.csv").write_text("\n".join(["file,tags", *lines]) + "\n")
    write_coco(root / "data" / "detect")
    return root


def data_of(folder: Path, task: str) -> Path:
    return folder / "data" / {"tag": "tag.csv", "detect": "detect/boxes.json"}.get(task, task)


def jobs(folder: Path) -> dict:
    """-> commands for each artifact, and artifacts to load with an image."""
    image = next((folder / "data" / "segment" / "images").iterdir())
    paths = [path for task in TASKS for path in (folder / task / name for name in FILES) if path.exists()]
    commands = []
    for path in paths:
        data = data_of(folder, path.parent.name)
        commands += [["predict", image, "--model", path, "--json", "-"], ["info", path, "--json"]]
        commands += [["verify", path, "--against-report"]]
        if path.parent.name not in NOT_MEASURED:
            commands.append(["evaluate", path, data, "--split", "all"])
    return {
        "commands": [[str(each) for each in command] for command in commands],
        "loads": [(str(path), str(image)) for path in paths],
    }


def without_frameworks(**given) -> dict:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps(given), capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_artifacts_of_each_task_answer_as_in_the_full_package(folder):
    given = jobs(folder)
    found = without_frameworks(**given)
    assert len(given["loads"]) == 2 * 3 + 3 * 2 + 1
    for command, (status, lines, errors) in zip(given["commands"], found["commands"], strict=True):
        assert (status, lines, errors) == in_process(*command), command
        assert (status, errors) == (0, []), command
    for (path, image), answer in zip(given["loads"], found["answers"], strict=True):
        [expected] = keras_resnet.load(path).predict([image])
        assert answer.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(np.asarray(answer[name], values.dtype).reshape(values.shape), values)


NEEDS_KERAS = "error: this needs the package 'keras', which is not installed: pip install keras-resnet-kit"


def test_all_else_ends_with_a_line_that_says_what_to_install(folder, model_file, tmp_path):
    image, artifact = str(next((folder / "data").rglob("*.jpg"))), str(folder / "classify" / "model.onnx")
    saved_model = tmp_path / "saved_model"
    saved_model.mkdir()
    (saved_model / "saved_model.pb").write_bytes(b"")
    commands = [
        ["predict", image],
        ["predict", image, "--model", model_file],
        ["verify", artifact],
        ["export", "--model", model_file, "--formats", "onnx", "--out", tmp_path / "out"],
        ["train", "smoke", "--data", folder / "data" / "classify", "--out", tmp_path / "run"],
        ["data", "check", folder / "data" / "classify"],
        ["predict", image, "--model", saved_model],
    ]
    found = without_frameworks(commands=[[str(each) for each in command] for command in commands], loads=[])
    lines = [errors[-1] for _, _, errors in found["commands"]]
    assert [status for status, _, _ in found["commands"]] == [1] * len(commands)
    assert lines == [NEEDS_KERAS] * 5 + [NEEDS_KERAS.replace("'keras'", "'tensorflow'")] * 2


def test_a_folder_of_artifacts_gives_one_that_can_be_run(folder):
    """As if a SavedModel lay among them, which is the first where TensorFlow is installed."""
    manifest = folder / "tag" / "manifest.json"
    content = json.loads(manifest.read_text())
    saved_model = folder / "tag" / "saved_model"
    saved_model.mkdir()
    (saved_model / "saved_model.pb").write_bytes(b"")
    entry = {**content["artifacts"]["onnx"], "file": "saved_model"}
    manifest.write_text(json.dumps({**content, "artifacts": {"saved_model": entry, **content["artifacts"]}}))
    image = str(next((folder / "data").rglob("*.jpg")))
    try:
        found = without_frameworks(commands=[["predict", image, "--model", str(folder / "tag")]], loads=[])
    finally:
        manifest.write_text(json.dumps(content))
        (saved_model / "saved_model.pb").unlink()
        saved_model.rmdir()
    [[status, lines, errors]] = found["commands"]
    assert (status, lines[0]) == (0, image)
    assert any("model.tflite" in line for line in errors)


# --- the distribution ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of the runtime, built from a copy, since a build leaves files in the folder of its source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    archive = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "keras_resnet", "runtime", "pyproject.toml", "LICENSE"],
        check=True,
        capture_output=True,
    )
    for name in archive.stdout.decode().rstrip("\0").split("\0"):
        copy = source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", out, source / "runtime"], check=True)
    [path] = out.iterdir()
    return path


def metadata_of(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_wheel_has_the_files_of_the_full_package(wheel):
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "keras_resnet").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [entries] = [archive.read(name) for name in names if name.endswith("entry_points.txt")]
    assert {name for name in names if ".dist-info/" not in name} == {
        name for name in there if "__pycache__" not in name
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert b"keras-resnet = keras_resnet.cli.main:main" in entries


def test_the_wheel_asks_for_little_and_by_the_bounds_of_the_full_package(wheel):
    metadata, full = metadata_of(wheel), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (metadata["Name"], metadata["Version"]) == (RUNTIME, keras_resnet.__version__)
    asked = [requirement.partition(";")[0].strip() for requirement in metadata.get_all("Requires-Dist")]
    required = [
        asked for asked, whole in zip(asked, metadata.get_all("Requires-Dist"), strict=True) if "extra" not in whole
    ]
    assert [re.match(r"[\w-]+", each)[0] for each in required] == ["numpy", "pillow", "typer", "rich"]
    assert set(metadata.get_all("Provides-Extra")) == set(RUNTIME_EXTRAS)
    stated = [*full["dependencies"], *(each for extra in full["optional-dependencies"].values() for each in extra)]

    def parts(requirement):  # the parts of a bound may be in any order
        name, bounds = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()
        return name, frozenset(bounds.split(","))

    assert {parts(each) for each in asked} <= {parts(each) for each in stated if "[" not in each}
    assert {re.match(r"[\w-]+", each)[0] for each in full["dependencies"]} - {parts(each)[0] for each in asked} == {
        name.replace("_", "-") for name in LEFT_OUT
    }


@pytest.mark.slow
def test_the_wheel_runs_all_tasks_in_an_environment_without_keras(wheel, folder, tmp_path):
    """With packages from the index of packages that pip knows; without one, the test is skipped."""
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment" / "bin" / "python"
    wanted = f"{RUNTIME}[onnx,tflite,openvino,detect] @ {wheel.as_uri()}"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--quiet", wanted], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"pip can't install the runtime's requirements: {installed.stderr[-300:]}")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}

    def run(*command: object) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    absent = f"import importlib.util; print([n for n in {LEFT_OUT!r} if importlib.util.find_spec(n)])"
    assert run(python, "-c", absent).stdout == "[]\n"
    command = python.with_name("keras-resnet")
    for arguments in jobs(folder)["commands"]:
        done = run(command, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        if arguments[0] in ("predict", "evaluate"):  # on one CPU, the same versions of the runtimes
            assert done.stdout.splitlines() == in_process(*arguments)[1], arguments
    failed = run(command, "train", "smoke", "--data", folder / "data" / "classify", "--out", "run")
    advice = f"pip install keras-resnet-kit in another environment, without {RUNTIME}"
    assert failed.stderr.splitlines()[-1] == NEEDS_KERAS.replace("pip install keras-resnet-kit", advice)
    code = "from keras_resnet.optional import how_to_install as how; print(how('heic'), how('onnx', 'onnx'))"
    assert run(python, "-c", code).stdout.strip() == (
        f"pip install '{RUNTIME}[heic]' pip install 'keras-resnet-kit[onnx]' in another environment, without {RUNTIME}"
    )
