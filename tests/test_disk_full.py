"""A full disk or an unwritable folder: one clear line, and the folder as it was before."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ACCOUNT
from small_classifier import small_classifier

from keras_resnet.cli.main import main
from keras_resnet.export import export, pipeline
from keras_resnet.export.files import ANSWERS
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.images import synthetic_images
from keras_resnet.whole_files import write_whole

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

NAMES = ("saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8", "openvino")
DISK_BYTES = 8_000_000
HEAD_LINES = 3  # lines of the head of the table


@pytest.fixture(scope="module")
def older(randomise, tmp_path_factory):
    """Folder of artifacts that an export must leave as they are when it fails."""
    folder = tmp_path_factory.mktemp("older")
    calibration = synthetic_images((32, 32, 3), count=40, seed=8)
    export(randomise(small_classifier(), seed=1), folder, NAMES, calibration=calibration)
    return folder


def mount(folder: Path, *options: str) -> None:
    try:
        run = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("this system has no command `mount`")
    if run.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {run.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(disk, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, left_bytes: int) -> None:
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - left_bytes))


def run_export(monkeypatch, capfd, *arguments) -> str:
    """`keras-resnet export` in this process -> its one error on stderr; the exit status is 1, and all rows failed."""
    monkeypatch.setattr(sys, "argv", ["keras-resnet", "export", *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 1
    stdout, stderr = capfd.readouterr()
    assert all(" failed " in row for row in stdout.splitlines()[HEAD_LINES:])
    [line] = [line for line in stderr.splitlines() if not ACCOUNT.match(line)]
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("name", "left_bytes"),
    [
        ("saved_model", 0),
        ("saved_model", 8_192),  # not enough for the variables
        ("saved_model", 65_536),  # nor for the graph
        ("tflite", 65_536),
        ("tflite-int8", 98_304),
        ("onnx", 8_192),
        ("onnx-int8", 32_768),
        ("onnx-int8", 65_536),  # not enough for ONNX's own copy, whose writer says nothing
        ("openvino", 8_192),  # not enough for the ONNX file
        ("openvino", 90_000),  # nor for the weights
    ],
)
def test_a_full_disk_is_named_and_the_older_artifact_stays(
    name, left_bytes, model_file, image_folder, older, small_disk, monkeypatch, capfd
):
    out = small_disk / "out"
    shutil.copytree(older, out)
    before = contents(out)
    fill(small_disk, left_bytes)
    calibration = ["--calibration", image_folder] if FORMATS[name].calibrated else []
    line = run_export(
        *(monkeypatch, capfd, "--model", model_file, "--out", out, "--formats", name, "--overwrite"), *calibration
    )
    start = f"error: {name} can't be written in {out}: "
    assert line == start + "No space left on device" or (
        line.startswith(start) and line.endswith("bytes are free there)")
    )
    assert contents(out) == before
    assert {path.name for path in out.iterdir()} == {
        "manifest.json",
        *(FORMATS[row].file_name for row in NAMES),
        *(FORMATS[row].file_name + ANSWERS for row in NAMES),
    }


def test_a_disk_that_is_full_for_the_manifest(model_file, older, tmp_path, monkeypatch, capfd):
    """The artifact is whole and has its name; what the older one's entry said is gone."""
    out = tmp_path / "out"
    shutil.copytree(older, out)

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    genuine = pipeline.record

    def record(*arguments):
        monkeypatch.setattr(Path, "write_bytes", full)
        genuine(*arguments)

    monkeypatch.setattr(pipeline, "record", record)
    line = run_export(monkeypatch, capfd, "--model", model_file, "--out", out, "--formats", "onnx", "--overwrite")
    assert line == f"error: onnx can't be written in {out}: No space left on device"
    assert '"onnx": {' not in (out / "manifest.json").read_text()
    assert {path.name for path in out.iterdir()} == {path.name for path in older.iterdir()}


def test_a_failed_write_leaves_no_partial_file(tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_bytes(b"older")
    monkeypatch.setattr(os, "replace", lambda new, path: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(OSError, match="I/O error"):
        write_whole(tmp_path / "manifest.json", b"newer")
    assert contents(tmp_path) == {"manifest.json": b"older"}


def test_a_limit_on_the_size_of_files(model_file, tmp_path):
    """As a disk quota gives it, and without a right to mount anything."""
    resource = pytest.importorskip("resource")
    assert resource.RLIMIT_FSIZE is not None
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)); "
        "from keras_resnet.cli.main import main; main()"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, "export", "--model", model_file, "--out", out, "--formats", "saved_model"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    read_as, line = run.stderr.splitlines()
    assert ACCOUNT.match(read_as)
    assert line.startswith(f"error: saved_model can't be written in {out}: ")
    assert "File too large" in line
    assert not out.exists()


@pytest.mark.parametrize("kind", ["under a file", "under /proc"])
def test_a_folder_that_cannot_be_made(kind, model_file, tmp_path, monkeypatch, capfd):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out" if kind == "under a file" else Path("/proc/keras_resnet/out")
    line = run_export(monkeypatch, capfd, "--model", model_file, "--out", out, "--formats", "tflite")
    assert re.match(
        rf"error: `folder` \(--out\) can't be (made|written): {out}: (Not a directory|No such file or directory)$", line
    )


@pytest.mark.parametrize("kind", ["read-only mount", "immutable"])
def test_a_folder_that_cannot_be_written(kind, model_file, older, tmp_path, monkeypatch, capfd):
    """Not by permission bits, which the superuser does not feel."""
    out = tmp_path / "out"
    shutil.copytree(older, out)
    before = contents(out)
    if kind == "immutable":
        if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", str(out)], capture_output=True).returncode:
            pytest.skip("files can't be made immutable here")
        undo, reason = ["chattr", "-i", str(out)], "Operation not permitted"
    else:
        mount(out, "--bind", str(out))
        undo, reason = ["umount", "--lazy", str(out)], "Read-only file system"
    try:
        if kind == "read-only mount":
            mount(out, "-o", "remount,bind,ro")
        line = run_export(monkeypatch, capfd, "--model", model_file, "--out", out, "--formats", "tflite", "--overwrite")
    finally:
        subprocess.run(undo, check=True)
    assert line in (
        f"error: tflite can't be written in {out}: {reason}",
        f"error: `folder` (--out) can't be written: {out}: {reason}",
    )
    assert contents(out) == before
