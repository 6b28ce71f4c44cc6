"""checks/attack.py, which runs the other checks, and a sample of checks/hostile_inputs.py."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).parents[1] / "checks"
SCRIPT = """
import sys
print("begun")
print("7 inputs: {}")
print(" ".join(sys.argv[1:]), file=open(sys.argv[2], "w"))
sys.exit({})
"""


@pytest.fixture
def attack(monkeypatch):
    monkeypatch.syspath_prepend(CHECKS)
    return importlib.import_module("attack")


def test_checks_run_one_after_the_other_and_a_failure_is_told(attack, tmp_path, capsys):
    for name, status in (("good", 0), ("bad", 1)):
        (tmp_path / f"{name}.py").write_text(SCRIPT.format(name, status))
    good = attack.Check("good", "nothing", 10, ("--count", 300), limits_itself=True)
    bad, missing = attack.Check("bad", "nothing", 10), attack.Check("missing", "nothing", 10)
    ended = [attack.run(check, 0.1, tmp_path, folder=tmp_path) for check in (good, bad, missing)]
    assert [each.result for each in ended] == ["passed", "FAILED", "MISSING"]
    assert [each.figures for each in ended[:2]] == ["7 inputs: good", "7 inputs: bad"]
    assert (tmp_path / "good.json").read_text() == f"--out {tmp_path}/good.json --count 30 --minutes 1.0\n"
    assert (tmp_path / "bad.json").read_text() == f"--out {tmp_path}/bad.json\n"
    assert attack.table(ended)[2].split()[:4] == ["bad", "FAILED", "0.0", "7"]
    assert capsys.readouterr().out.count("begun") == 2


def test_hostile_inputs_are_answered_or_refused(tmp_path):
    """Of each kind a few; in a process of its own, since each command is a fork of one that has run nothing."""
    out = tmp_path / "record.json"
    command = [sys.executable, str(CHECKS / "hostile_inputs.py"), "--out", str(out), "--count", "12"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    results = json.loads(out.read_text())["results"]
    assert sum(results["total"].values()) == 12
    assert set(results["total"]) == {"answered", "refused"}
    assert results["unwanted"] == []


@pytest.mark.parametrize(
    ("stdout", "wanted", "status", "verdict"),
    [
        ("fine", "answered", 0, "answered"),
        ("fine", "refused", 0, "wrong: answered"),
        ("", "answered", 1, "wrong: refused"),
        ("\x1b[31m", "either", 0, "OBEYED"),
        ("cat\n100.00 %  forged", "either", 0, "OBEYED"),
    ],
)
def test_verdicts(monkeypatch, tmp_path, stdout, wanted, status, verdict):
    monkeypatch.syspath_prepend(CHECKS)
    check = importlib.import_module("hostile_inputs")
    given = check.Input("kind", "name", lambda folder: None, [], wanted)
    ended = check.Ended("error" if status else "ok", status, stdout, "error: x" if status else "", 0.1, 1.0)
    assert check._judged(given, tmp_path, ended, changed=False) == verdict
    assert check._judged(given, tmp_path, ended, changed=True) == "WROTE OUTSIDE"
    (tmp_path / check.MARKER).touch()
    assert check._judged(given, tmp_path, ended, changed=True) == "CODE RAN"
