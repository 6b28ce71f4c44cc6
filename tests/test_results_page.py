"""The page of results is what the committed records give, and its first table omits no rival that is faster."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("results_page")


def test_page_and_plots_are_current():
    command = [sys.executable, str(BENCHMARKS / "results_page.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def training(**rates: tuple[bool, str, float]) -> dict[str, Any]:
    results = {
        name: {"ours": ours, "numbers": numbers, "images_per_second": rate}
        for name, (ours, numbers, rate) in rates.items()
    }
    environment = {"cpu": "Some CPU", "cpu_count": 2}
    return {"training_speed": {"environment": environment, "settings": {"network": "ResNet-50"}, "results": results}}


def test_the_fastest_of_ours_stands_beside_the_fastest_rival_of_each_scope(page: ModuleType) -> None:
    rates = {"slow": (True, "float32", 1.0), "quick": (True, "float32", 2.0), "eight": (True, "int8", 9.0)}
    rivals = {"int8 in name alone": (False, "float32", 4.0), "half": (False, "bfloat16", 8.0)}
    rows = list(page.wins_and_losses(training(**rates, **rivals)))
    title = "training of ResNet-50 on the CPU"
    assert [(row["what"], row["ours"].name, row["rival"].name, row["speed"], row["result"]) for row in rows] == [
        (f"{title}, float32", "quick", "int8 in name alone", "0.50", "lost"),
        (f"{title}, any float", "quick", "half", "0.25", "lost"),
    ]
    won = page.wins_and_losses(training(ours=(True, "int8", 5.0), rival=(False, "int8", 4.0)))
    assert [(row["speed"], row["result"]) for row in won] == [("1.25", "won")]


def test_a_contender_of_unknown_kind_is_no_guess(page: ModuleType) -> None:
    assert page.kind_of("model.onnx", {}) == page.Kind(True, "float32")
    assert page.kind_of("model.onnx", {"ours": False, "numbers": "int8"}) == page.Kind(False, "int8")
    with pytest.raises(KeyError, match=r"model-new\.tflite"):
        page.kind_of("model-new.tflite", {})


def test_no_rival_of_the_records_is_faster_than_those_of_the_first_table(page: ModuleType) -> None:
    record = json.loads((BENCHMARKS / "results" / "rivals_resnet50.json").read_text())["results"]["contenders"]
    rivals = {name: page.median_ms(result, 1) for name, result in record.items() if not page.kind_of(name, result).ours}
    [shown] = [block for block in page.PAGE.read_text().split("\n\n") if block.startswith("| comparison |")]
    for least in (min(rivals.values()), min(ms for name, ms in rivals.items() if "int8" not in name)):
        assert f": {least:.1f} ms |" in shown
