"""Symbolic links that a stranger has put into a folder, under each name that a command writes there."""

from pathlib import Path

import numpy as np
import pytest
from command_line import in_process
from PIL import Image

from keras_resnet.data.problems import Problems
from keras_resnet.export.files import WRITTEN, clean, replace
from keras_resnet.export.formats import UNVERIFIED, all_formats, format_named
from keras_resnet.whole_files import PARTIAL, write_whole

OLD = Path(__file__).parent / "old_files"  # small networks, as files
CLASSES = ("cat", "crane", "dog")  # of the classifier there
KEPT = b"what nobody may overwrite"


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_bytes(KEPT)
    return path


def plant(folder, names, victim):
    """Puts a link to the victim under each name, and under the name of its partial file as earlier versions had it."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for link in (path, path.with_name(f".{path.name}{PARTIAL}"), path.with_name(f"{path.name}{PARTIAL}")):
            link.unlink(missing_ok=True)
            link.symlink_to(victim)


def images(folder):
    """-> class folders of a few images."""
    draw = np.random.default_rng(0)
    for index in range(6):
        path = folder / CLASSES[index % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    return folder


def written_names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_written_in_place_of_a_link(tmp_path, victim):
    plant(tmp_path, ["a.json", "problems.csv"], victim)
    write_whole(tmp_path / "a.json", b"new")
    Problems(0).write_csv(tmp_path / "problems.csv")
    assert victim.read_bytes() == KEPT
    assert not (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "a.json").read_bytes() == b"new"


def test_a_link_under_the_very_name_of_a_partial_file_is_not_followed(tmp_path, victim, monkeypatch):
    monkeypatch.setattr("keras_resnet.whole_files.secrets.token_hex", lambda count: "0" * 2 * count)
    (tmp_path / f".a.json.{'0' * 16}{PARTIAL}").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a.json", b"new")
    assert victim.read_bytes() == KEPT


@pytest.mark.parametrize("command", ["evaluate", "predict", "predict --csv"])
def test_commands_write_in_place_of_links(command, tmp_path, victim):
    """Each command runs twice: first for the names that it writes, and then where each of them is a link."""
    pictures = sorted(images(tmp_path / "images").rglob("*.png"))

    def run(out):
        out.mkdir(exist_ok=True)
        if command == "evaluate":
            data = (tmp_path / "images", "--split", "all")
            return in_process("evaluate", OLD / "classifier.onnx", *data, "--out", out)
        if command == "predict":
            return in_process("predict", *pictures, "--model", OLD / "segmenter.onnx", "--out", out)
        tables = ("--csv", out / "a.csv", "--json", out / "a.json")
        return in_process("predict", *pictures, "--model", OLD / "classifier.onnx", *tables)

    status, _, err = run(tmp_path / "first")
    assert status == 0, err
    names = written_names(tmp_path / "first")
    assert names
    second = tmp_path / "second"
    plant(second, names, victim)
    status, _, err = run(second)
    assert status == 0, err
    assert victim.read_bytes() == KEPT
    for name in names:
        assert not (second / name).is_symlink()
        assert (second / name).stat().st_size > 0


@pytest.mark.parametrize("name", [row.file_name for row in map(format_named, all_formats())])
def test_links_under_the_names_of_an_export_are_removed_first(name, tmp_path, victim):
    """An artifact is written under its name with .unverified, beside a folder .NAME.scratch."""
    out = tmp_path / "out"
    plant(out, [name, name + UNVERIFIED, *WRITTEN], victim)
    (out / f".{name}.scratch").symlink_to(tmp_path)
    (out / f"{name}.replaced").symlink_to(victim)
    clean(out, [name])
    for left in (name + UNVERIFIED, f".{name}.scratch", f"{name}.replaced"):
        assert not (out / left).is_symlink()
    (out / (name + UNVERIFIED)).write_bytes(b"new")
    replace(out / (name + UNVERIFIED), out / name)
    assert victim.read_bytes() == KEPT
    assert (out / name).read_bytes() == b"new"
    assert not (out / name).is_symlink()
