"""Samples of checks/places.py and checks/kills.py, each in a process in which TensorFlow has computed nothing."""

import json
import subprocess
import sys
from pathlib import Path

CHECKS = Path(__file__).parents[1] / "checks"
PLACES = {
    "full disk",
    "limit on the size of files",
    "read-only folder",
    "unwritable HOME",
    "unwritable TMPDIR",
    "deleted working directory",
    "COLUMNS=20",
    "LANG=C",
    "stdout | head",
    "stdout closed",
    "stdout full",
    "stderr full",
    "stdin closed",
}
MOUNTED = {"full disk", "read-only folder"}  # not permitted everywhere
FULL = "error: stdout can't be written: No space left on device"


def results(script: str, out: Path, *options: str):
    """Script of checks/, its options -> the results in its record."""
    run = subprocess.run(
        [sys.executable, str(CHECKS / script), "--out", str(out), *options], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return json.loads(out.read_text())["results"]


def test_commands_that_can_not_write_say_so_in_one_line(tmp_path):
    found = results("places.py", tmp_path / "places.json", "--command", "data pack", "--command", "list")
    cells = {(cell["command"], cell["place"]): cell for cell in found["cells"]}
    assert {place for command, place in cells if command == "data pack"} >= PLACES - MOUNTED
    failed = {key for key, cell in cells.items() if cell["status"]}
    refusing = {"full disk", "limit on the size of files", "read-only folder", "stdout | head", "stdout full"}
    assert failed == {(command, place) for command, place in cells if place in refusing}
    assert cells["list", "stdout full"]["line"] == cells["data pack", "stdout full"]["line"] == FULL
    assert cells["list", "stdout | head"]["line"] == ""
    line = cells["data pack", "limit on the size of files"]["line"]
    assert line.endswith("File too large. Finished shards stay; make room and give the same command again")


def test_a_packed_set_that_is_interrupted_at_random_comes_out_the_same(tmp_path):
    options = ("--command", "data pack", "--workers", "1", "--count", "8", "--seed", "1", "--by", "KILL,INT,TERM")
    found = results("kills.py", tmp_path / "kills.json", *options)["commands"]["data pack"]
    assert found["kills"] == 8
    assert [found[kind] for kind in ("lost", "not_resumable", "differing", "left")] == [[], [], [], []]
