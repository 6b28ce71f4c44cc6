"""A sample of checks/hostile_files.py: mutated files are refused by name, or do what the whole file does."""

import importlib
import json
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

CHECKS = Path(__file__).parents[1] / "checks"
COUNT = 30
SEALED = ("saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8")
CHECKED = ("keras, as a model", "keras, its weights")  # a zip's checksums
UNCHECKED = ("weights.h5", "safetensors")  # formats without a checksum: some mutations are other weights


def test_mutated_files_are_refused_or_unharmed(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(CHECKS)  # for the process of its own, too, in which the files are opened
    check = importlib.import_module("hostile_files")
    out = tmp_path / "record.json"
    with pytest.raises(SystemExit) as left:
        check.main(out, count=COUNT, other_make=0, seed=5, limit_s=30.0)
    assert not left.value.code, capsys.readouterr().out[-3000:]
    kinds = json.loads(out.read_text())["results"]["kinds"]
    assert set(kinds) == {*SEALED, *CHECKED, *UNCHECKED}
    for kind, result in kinds.items():
        outcomes = result["outcomes"]
        assert sum(outcomes.values()) == COUNT
        assert set(outcomes) <= {"clear error", "unharmed", *(["other answers"] if kind in UNCHECKED else [])}, kind
        least = {**dict.fromkeys(SEALED, 28), **dict.fromkeys(CHECKED, 20)}.get(kind, 15)
        assert outcomes["clear error"] >= least, kind
        assert result["longest_s"] < 10
        assert result["peak_memory_mb"] < 200
