"""Two processes on one folder: one writes, and the other says that it does not."""

import fcntl
import subprocess
import sys

import pytest
from command_line import in_process

from keras_resnet.errors import ArgumentError
from keras_resnet.one_writer import only_writer
from keras_resnet.training.recipe import Recipe

pytest.importorskip("ai_edge_litert")

HOLD = """
import sys
from pathlib import Path
from keras_resnet.one_writer import only_writer

with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """-> process that writes to the folder `held`."""
    folder = tmp_path / "held"
    folder.mkdir()
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], text=True, **streams) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def held(holder, tmp_path):
    return tmp_path / "held"


def test_a_killed_process_holds_no_folder(holder, held):
    with pytest.raises(ArgumentError, match=f"^another process is writing to {held}. Wait until it has ended, or"):
        only_writer(held).__enter__()
    holder.kill()
    holder.wait()
    with only_writer(held), only_writer(held):  # a command may call another one for its folder
        assert list(held.iterdir()) == []
    with only_writer(held):
        pass


def test_a_folder_that_can_not_be_locked_is_written_unguarded(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(9, "Bad file descriptor")  # as some NFS gives it

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_writer(tmp_path):
        pass


@pytest.mark.parametrize("command", ["pack", "train", "resume", "export", "evaluate"])
def test_the_second_command_says_so_and_changes_nothing(command, held, two_class_images, tmp_path, request):
    keys = {"network": "resnet20", "size": 32, "crop": "padded", "epochs": 1, "warmup_epochs": 0.0, "batch_size": 4}
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(Recipe(data=str(two_class_images), **keys).to_toml())
    if command == "resume":
        (held / "recipe.toml").write_bytes(recipe.read_bytes())
    before = sorted(held.iterdir())
    arguments = {
        "pack": lambda: ("data", "pack", two_class_images, held),
        "train": lambda: ("train", recipe, "--out", held),
        "resume": lambda: ("train", "--resume", held),
        "export": lambda: (
            *("export", "--model", request.getfixturevalue("two_class_model"), "--formats", "tflite", "--out", held),
        ),
        "evaluate": lambda: ("evaluate", request.getfixturevalue("two_class_model"), two_class_images, "--out", held),
    }
    status, _, errors = in_process(*arguments[command]())
    line = f"error: another process is writing to {held}. Wait until it has ended, or give another folder"
    assert status == 1
    assert [error for error in errors if error.startswith("error: ")] == [line]
    assert sorted(held.iterdir()) == before
