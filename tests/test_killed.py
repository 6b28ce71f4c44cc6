"""A run that is killed leaves no half artifact under a final name, and the next run cleans up after it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from forked import Forked
from killed_job import STEPS, main
from small_classifier import small_classifier

from keras_resnet.export import export, files
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.files import ANSWERS
from keras_resnet.export.formats import FORMATS, UNVERIFIED
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.manifest import artifact_sha256
from keras_resnet.whole_files import PARTIAL, remove_partial_files, whole_file, write_whole

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

IMAGES = synthetic_images((32, 32, 3), count=3, seed=9)
KILLS = [("saved_model", "exchanged")]  # the others take their time
EVERY_KILL = [(name, step) for name in ("saved_model", "tflite", "onnx") for step in STEPS]


@pytest.fixture(scope="module")
def models(randomise):
    """The one that was exported before, and the one whose export is killed."""
    return randomise(small_classifier(), seed=1), randomise(small_classifier(), seed=2)


@pytest.fixture(scope="module")
def model_file(models, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "new.keras"
    models[1].save(path)
    return path


def assert_whole(out, name, models, *, existed):
    """What bears the final name is one of the two artifacts, and an entry in the manifest is true of it."""
    path = out / FORMATS[name].file_name
    assert path.exists() or not existed
    if path.exists():
        answers = open_artifact(path).predict(IMAGES)["probabilities"]
        errors = [np.abs(answers - np.asarray(model(IMAGES, training=False))).max() for model in models]
        assert min(errors) < 1e-5 < max(errors)
    manifest = out / "manifest.json"
    entry = json.loads(manifest.read_text())["artifacts"].get(name) if manifest.exists() else None
    assert entry is None or entry["sha256"] == artifact_sha256(path)


def assert_next_run_cleans_up(out, name, models):
    export(models[1], out, [name], overwrite=True)
    assert {path.name for path in out.iterdir()} == {
        FORMATS[name].file_name,
        FORMATS[name].file_name + ANSWERS,
        "manifest.json",
    }
    assert_whole(out, name, models, existed=True)


def check_step(name, step, models, model_file, out):
    export(models[0], out, [name])
    status, output, _ = Forked(main, model_file, out, name, step).finish()
    if name == "saved_model" or step not in ("exchanged", "moved aside"):  # steps of replacing a folder
        assert (status, output) == (-signal.SIGKILL, "ready\n")
    files.recover(out / FORMATS[name].file_name)  # as the next run does first
    assert_whole(out, name, models, existed=True)
    assert_next_run_cleans_up(out, name, models)


@pytest.mark.parametrize(("name", "step"), KILLS)
def test_a_kill_leaves_the_older_artifact_or_the_newer_one(name, step, models, model_file, tmp_path):
    check_step(name, step, models, model_file, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), sorted({*EVERY_KILL} - {*KILLS}))
def test_a_kill_at_every_step(name, step, models, model_file, tmp_path):
    check_step(name, step, models, model_file, tmp_path)


def check_random_kills(count, seed, models, model_file, tmp_path):
    """Kills at moments spread over the whole run, by turns into an empty folder and over an older artifact."""
    moments, killed, longest_s = random.Random(seed), 0, 4.0
    for index in range(count):
        out, name = tmp_path / str(index), ("saved_model", "tflite", "onnx")[index % 3]
        if index % 2:
            export(models[0], out, [name])
        process = Forked(main, model_file, out, name, "at random")
        process.wait_for_output("ready\n")
        begin = time.perf_counter()
        time.sleep(longest_s * (index + moments.random()) / count)
        process.kill()
        status, output, _ = process.finish()
        killed += status == -signal.SIGKILL
        longest_s = min(longest_s, time.perf_counter() - begin) if "done" in output else longest_s
        assert_whole(out, name, models, existed=index % 2)
        assert_next_run_cleans_up(out, name, models)
        shutil.rmtree(out)
    return killed


@pytest.mark.slow
def test_many_kills_at_random(models, model_file, tmp_path):
    assert check_random_kills(20, 1, models, model_file, tmp_path) >= 10


# A folder of a few files that all hold one number: a swap of names takes so little time that an export, killed at
# random, is hardly ever hit there.

REPLACE_FOR_EVER = """
import sys
from pathlib import Path
from keras_resnet.export import files

folder = Path(sys.argv[1])
if sys.argv[2] == "moved aside":
    files._exchange = lambda new, path: False
for number in range(10**9):
    new = folder / "model.unverified"
    files.clean(folder, ["model"])
    new.mkdir()
    for name in "abc":
        (new / name).write_text(str(number))
    files.replace(new, folder / "model")
    print(number, flush=True)
"""


@pytest.mark.parametrize("way", ["exchanged", "moved aside"])
def test_a_folder_is_replaced_as_a_whole(way, tmp_path):
    moments = random.Random(way)
    for _ in range(15):
        command = [sys.executable, "-c", REPLACE_FOR_EVER, str(tmp_path), way]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        last = ([0] + [int(line) for line in process.stdout.read().splitlines()])[-1]
        process.wait()
        if way == "exchanged":
            assert (tmp_path / "model").exists()  # at every moment, without `recover`
        files.recover(tmp_path / "model")
        contents = [(tmp_path / "model" / name).read_text() for name in "abc"]
        assert contents[0] == contents[1] == contents[2]
        assert last <= int(contents[0]) <= last + 1


def test_a_swap_works_on_any_pair_and_says_where_it_does_not(tmp_path):
    (tmp_path / "file").write_text("file")
    (tmp_path / "folder").mkdir()
    if not files._exchange(tmp_path / "file", tmp_path / "folder"):
        pytest.skip("this system swaps no names in one step")
    assert (tmp_path / "file").is_dir()
    assert not files._exchange(tmp_path / "file", tmp_path / "absent")


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("older", ["nothing", "file", "folder", "link", "broken link"])
def test_a_folder_takes_the_place_of_anything(can_exchange, older, tmp_path, monkeypatch):
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    path, new, target = tmp_path / "saved_model", tmp_path / ("saved_model" + UNVERIFIED), tmp_path / "target"
    target.mkdir()
    new.mkdir()
    (new / "part").write_text("new")
    if older == "file":
        path.write_text("older")
    elif older == "folder":
        path.mkdir()
        (path / "other").touch()
    elif older != "nothing":
        path.symlink_to(target if older == "link" else tmp_path / "absent")
    files.replace(new, path)
    assert {file.name for file in tmp_path.iterdir()} == {"saved_model", "target"}
    assert [file.name for file in path.iterdir()] == ["part"]


def test_partial_files_of_a_killed_run_are_removed(tmp_path):
    from keras_resnet.export.report import FILES

    for name in ("manifest.json", *FILES):
        (tmp_path / f".{name}.0123456789abcdef{PARTIAL}").touch()
    (tmp_path / ".other.0123456789abcdef.partial").touch()
    files.clean(tmp_path, ["model.tflite"])
    assert [path.name for path in tmp_path.iterdir()] == [".other.0123456789abcdef.partial"]


def test_a_link_in_the_place_of_a_partial_file_is_never_followed(tmp_path):
    """The names cannot be known before, and what others left is removed as a name, not through a link."""
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("mine")
    folder.mkdir()
    for name in (f".a.json{PARTIAL}", f".a.json.0123456789abcdef{PARTIAL}"):
        (folder / name).symlink_to(victim)
        os.utime(folder / name, (0, 0), follow_symlinks=False)
    write_whole(folder / "a.json", b"new")
    assert victim.read_text() == "mine"
    assert (folder / "a.json").read_bytes() == b"new"
    assert sorted(path.name for path in folder.iterdir()) == ["a.json"]


def test_a_partial_file_of_a_live_process_stays(tmp_path):
    young = tmp_path / f".a.json.0123456789abcdef{PARTIAL}"
    young.touch()
    with whole_file(tmp_path / "a.json") as first, whole_file(tmp_path / "a.json") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert young.exists()
    remove_partial_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
