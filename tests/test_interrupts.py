"""Ctrl-C and SIGTERM: one line that states what is kept and how to continue, and the exit status of shells."""

import gc
import re
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from command_line import in_process
from forked import Forked

from keras_resnet.export import pipeline
from keras_resnet.training.recipe import Recipe

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
ZIP_OPEN = zipfile.ZipFile.open
TITLE = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@pytest.fixture(autouse=True)
def signals_as_in_a_terminal():
    """A process in a shell's background ignores Ctrl-C, and the tests may run in one."""
    former = {number: signal.signal(number, signal.SIG_DFL) for number in STATUS}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request):
    return request.param


def interrupted(number, *arguments):
    """Command in which the signal comes -> the line on it; stdout is not of interest."""
    hook = sys.unraisablehook
    former = [signal.getsignal(each) for each in STATUS]
    status, _, errors = in_process(*arguments)
    assert [signal.getsignal(each) for each in STATUS] == former
    assert status == STATUS[number]
    gc.collect()
    sys.unraisablehook = hook
    [line] = [error for error in errors if error.startswith(TITLE[number])]
    assert line == errors[-1]
    return line.removeprefix(f"{TITLE[number]}. ")


def raises(number):
    def comes(*arguments, **given):
        signal.raise_signal(number)

    return comes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_data_pack(number, two_class_images, tmp_path, monkeypatch):
    from keras_resnet.data import pack

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(pack, "_finish", raises(number))
        line = interrupted(number, "data", "pack", two_class_images, out)
    assert line == f"Finished shards stay in {out}. To continue: keras-resnet data pack {two_class_images} {out}"
    assert in_process(*line.partition("keras-resnet ")[2].split())[0] == 0
    assert names(out) == ["dataset.json", "index.npz", "train-00000-of-00001.tfrecord", "val-00000-of-00001.tfrecord"]


def test_an_error_that_a_signal_leads_to_is_not_a_fault(number, two_class_images, tmp_path, monkeypatch):
    """`zipfile` refuses to close an archive while a member is being written."""
    out = tmp_path / "out"

    def open_member(archive, name, mode="r", **given):
        member = ZIP_OPEN(archive, name, mode, **given)
        if (
            mode == "w" and threading.current_thread() is threading.main_thread()
        ):  # it writes the index, other threads the shards
            signal.raise_signal(number)
        return member

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "open", open_member)
        line = interrupted(number, "data", "pack", two_class_images, out)
    assert line == f"Finished shards stay in {out}. To continue: keras-resnet data pack {two_class_images} {out}"
    assert not [name for name in names(out) if "partial" in name]


def test_export(number, two_class_model, tmp_path, monkeypatch):
    out, verify = tmp_path / "out", pipeline.verify

    def second(path, row, reference):
        if row.name == "onnx":
            signal.raise_signal(number)
        return verify(path, row, reference)

    monkeypatch.setattr(pipeline, "verify", second)
    line = interrupted(number, "export", "--model", two_class_model, "--formats", "tflite,onnx", "--out", out)
    assert line == f"Verified in {out}: model.tflite. Not written yet: --formats onnx"
    assert names(out) == ["manifest.json", "model.tflite", "model.tflite.answers.npz"]


@pytest.mark.parametrize("command", ["evaluate", "predict", "predict --csv", "benchmark"])
def test_commands_that_start_over(command, number, two_class_model, two_class_images, tmp_path, monkeypatch):
    from keras_resnet import evaluating
    from keras_resnet.benchmark import compare
    from keras_resnet.cli import predict

    monkeypatch.setattr(evaluating, "evaluate", raises(number))
    monkeypatch.setattr(predict, "_predict_all", raises(number))
    monkeypatch.setattr(compare, "compare", raises(number))
    table = tmp_path / "table.csv"
    arguments = {
        "evaluate": ("evaluate", two_class_model, two_class_images, "--out", tmp_path / "out"),
        "predict": ("predict", two_class_images, "--model", two_class_model),
        "predict --csv": ("predict", two_class_images, "--model", two_class_model, "--csv", table),
        "benchmark": ("benchmark", two_class_model),
    }[command]
    kept = {"evaluate": "Nothing half-written is kept", "benchmark": "Nothing half-written is kept"}
    start = kept.get(command, f"{table} was not written" if "--csv" in command else "No file is half-written")
    line = interrupted(number, *arguments)
    assert line == f"{start}. To start over: keras-resnet {' '.join(map(str, arguments))}"
    assert not table.exists()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def keras_resnet(*arguments: object) -> None:
    from keras_resnet.cli.main import main

    # A job in the background of a shell ignores SIGINT, and so would this process, which inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["keras-resnet", *map(str, arguments)]
    main()


def test_ctrl_c_in_training_writes_a_checkpoint_and_the_printed_command_continues(two_class_images, tmp_path):
    keys = {
        "network": "resnet20",
        "size": 32,
        "crop": "padded",
        "batch_size": 2,
        "xla": "off",
        "checkpoint_steps": 1000,
    }
    recipe, run = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(Recipe(data=str(two_class_images), epochs=40, warmup_epochs=0.0, **keys).to_toml())
    process = Forked(keras_resnet, "train", recipe, "--out", run)
    process.wait_for(lambda: (run / "history.csv").exists())  # the first epoch of 40 is done
    process.interrupt()
    status, out, err = process.finish()
    assert (status, out) == (130, ""), err
    *lines, line = err.splitlines()
    assert "stopping after this step and its checkpoint; a second signal stops at once" in lines
    kept, _, command = line.partition(" To continue: ")
    assert command == f"keras-resnet train --resume {run}"
    step = re.fullmatch(rf"interrupted\. In {run}, the checkpoint of step (\d+) is kept\.", kept)[1]
    assert (run / "checkpoints" / f"step-{int(step):09d}.safetensors").exists()
    assert not [path for path in run.rglob(".*") if "partial" in path.name]
    process = Forked(keras_resnet, "train", "--resume", run)
    process.wait_for(lambda: f"continuing after step {step}, " in process.errors())
    process.terminate()
    status, out, err = process.finish()
    assert status == 143
    assert (out or err).splitlines()[-1].endswith(f"To continue: keras-resnet train --resume {run}")


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored(tmp_path):
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from keras_resnet.cli.interrupts import interruptible\n"
        "with interruptible(): signal.raise_signal(signal.SIGINT); print('goes on')"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "goes on\n"
