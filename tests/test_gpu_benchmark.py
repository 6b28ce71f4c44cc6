"""`benchmarks/gpu.py`: its figures, its record, and that no contender of ours needs TensorFlow."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from keras_resnet.benchmark.compare import Comparison, Contender, Ratio, Result, Timing
from keras_resnet.benchmark.macs import multiply_accumulates
from keras_resnet.measure.latency import Latency
from keras_resnet.measure.process import Opening
from keras_resnet.models import BUILDERS

ROOT = Path(__file__).parents[1]
H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # which the script changes
    return importlib.import_module("gpu")


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose nvidia-smi lists two cards."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho '{H100}, 81559, 580.1'\necho 'NVIDIA L4, 23034, 580.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)


def result_of(times_ms: list[float], ratio: Ratio, batch_size: int) -> Result:
    result = Result("as it is", Opening(100.0, 20_000.0, 50.0), None, peak_memory_mb=1234.5)
    result.timings[batch_size] = Timing(Latency.of(times_ms), float("nan"), ratio)
    return result


@pytest.mark.parametrize("network", ["resnet18", "resnet50"])
@pytest.mark.parametrize("size", [224, 64])
@pytest.mark.usefixtures("shapes_alone")
def test_operations_are_those_of_the_network(gpu: ModuleType, network: str, size: int) -> None:
    counted = multiply_accumulates(BUILDERS[network](input_shape=(size, size, 3)))
    # The table's figures have four digits; measured 5e-5.
    assert gpu.image_tflop(network, "inference", size) == pytest.approx(2 * counted / 1e12, rel=1e-4)
    assert gpu.image_tflop(network, "training", size) == pytest.approx(3 * 2 * counted / 1e12, rel=1e-4)


def test_a_row_has_rates_mfu_and_ratios(gpu: ModuleType) -> None:
    """10 steps of 32 images in 100 ms are 3,200 images/s; of 0.025 TFLOP each that is 8 % of 1,000 TFLOP/s."""
    result = result_of([100.0] * 8 + [80.0, 400.0], Ratio(1.5, 1.25, 2.0), 32)
    row = gpu.row_of(result, 32, 10, tflop=0.025, peak_tflops=1000, against_ours=True)
    assert row["images_per_second"] == pytest.approx(3200)
    assert row["images_per_second_p10"] == pytest.approx(320 / 0.13)  # times: a tenth of the way from 100 to 400
    assert row["images_per_second_p90"] == pytest.approx(320 / 0.098)
    assert row["mfu_percent"] == pytest.approx(8.0)
    assert (row["calls"], row["peak_memory_mb"], row["first_call_s"]) == (10, 1234.5, 20.0)
    assert row["ours_against_it"] == {"median": 1.5, "minimum": 1.25, "maximum": 2.0}
    unknown = gpu.row_of(result, 32, 10, tflop=0.025, peak_tflops=None, against_ours=False)
    assert (unknown["mfu_percent"], unknown["ours_against_it"]) == (None, None)


def test_the_first_card_is_described(gpu: ModuleType, card: None) -> None:
    assert gpu.find_gpu() == {"name": H100, "memory_mb": 85521, "driver": "580.1"}
    assert gpu.PEAK_TFLOPS[H100] == 989


def test_without_a_card_there_is_none(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert gpu.find_gpu() is None


def test_a_record_holds_each_comparison_and_is_gone_on_with(
    gpu: ModuleType, card: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []
    broken = ["inference resnet50"]

    def compare(contenders: list[Contender], *, batch_sizes: tuple[int], rounds: int, **_: Any) -> Comparison:
        names = [contender.name for contender in contenders]
        work = "training" if "ours, own step" in names else "inference"
        measured.append(f"{work} {contenders[0].arguments['network']}")
        for contender in contenders:
            module, _, function = contender.opener.partition(":")
            assert (module, callable(getattr(gpu, function))) == ("gpu", True)
            assert {key: contender.arguments[key] for key in ("batch_size", "size", "steps", "platform")} == {
                **{"batch_size": 16, "size": 96, "steps": 5, "platform": "gpu"}
            }
        compared = Comparison({name: result_of([50.0], Ratio(1, 1, 1), *batch_sizes) for name in names})
        if measured[-1] in broken:
            del compared.results["ours"]
            compared.failures["ours"] = "ours can't be measured: out of memory"
        return compared

    monkeypatch.setattr(gpu, "compare", compare)
    out = tmp_path / "gpu.json"
    arguments = {"out": out, "batch_size": 16, "size": 96, "steps": 5, "rounds": 2}
    with pytest.raises(SystemExit, match="out of memory"):
        gpu.main(networks="resnet50", **arguments)
    assert measured == ["training resnet50", "inference resnet50"]

    broken.clear()
    gpu.main(networks="resnet50,resnet152", **arguments)
    assert measured[2:] == ["training resnet152", "inference resnet50", "inference resnet152"]
    record = json.loads(out.read_text())
    assert record["settings"]["gpu"]["name"] == H100
    assert record["settings"]["peak_tflops"] == 989
    assert record["settings"]["versions"]["keras"].startswith("3.")
    assert set(record["results"]) == {f"{work} {n}" for work in gpu.WORKS for n in ("resnet50", "resnet152")}
    # 5 steps of 16 images in 50 ms.
    # 4.089 GMACs at 224 pixels, six operations each, 989 TFLOP/s; the head does not shrink.
    trained = record["results"]["training resnet50"]["contenders"]["timm"]
    assert trained["images_per_second"] == pytest.approx(1600)
    assert trained["mfu_percent"] == pytest.approx(100 * 1600 * 6 * 4.089e9 * (96 / 224) ** 2 / 989e12, rel=0.003)
    assert "inference resnet152" in capsys.readouterr().out

    with pytest.raises(typer.BadParameter, match="a record of other settings"):
        gpu.main(networks="resnet50", **{**arguments, "rounds": 3})


def test_the_page_shows_the_record(gpu: ModuleType) -> None:
    page = importlib.import_module("results_page")
    rows = {
        "ours": gpu.row_of(result_of([100.0], Ratio(1, 1, 1), 32), 32, 10, 0.025, 1000, True),
        "timm": gpu.row_of(result_of([80.0], Ratio(0.8, 0.75, 0.9), 32), 32, 10, 0.025, 1000, True),
    }
    settings = {
        **{"gpu": {"name": H100, "memory_mb": 85521, "driver": "1"}, "peak_tflops": 1000, "versions": {"jax": "1.2"}},
        **{"dtype": "bfloat16", "batch_size": 32, "size": 224, "rounds": 2},
    }
    results = {"training resnet50": {"contenders": rows, "failures": {"third": "third can't be measured: no"}}}
    record = {"settings": settings, "results": results, "environment": {"cpu": "a CPU", "cpu_count": 2}}
    shown = "\n".join(page.filled("gpu", page.facts_of("gpu", record)))
    assert f"{H100}, 86 GB" in shown
    assert "| resnet50, training |" in shown
    assert "| timm: as it is | 4,000 | 4,000 to 4,000 | 0.80 (0.75 to 0.90) | 10.0 | 1,234 |" in shown
    assert "Not measured: third can't be measured: no." in shown


@pytest.mark.parametrize(
    ("given", "message"),
    [({"networks": "resnet18,resnet20"}, "--networks must be some of"), ({"size": 100}, "a multiple of 32")],
)
def test_impossible_options_are_refused(gpu: ModuleType, given: dict[str, Any], message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        gpu.main(**{"networks": "resnet18", "size": 64, **given})


@pytest.mark.slow
def test_ours_run_without_tensorflow() -> None:
    """On a machine without it, as a finder stands for that refuses it: the script, and each contender of ours."""
    pytest.importorskip("jax")
    code = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tf_keras"):
            raise ModuleNotFoundError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import gpu

gpu.PRECISION = "float32"  # quicker on a CPU
settings = {"network": "resnet18", "batch_size": 2, "size": 32, "steps": 1, "platform": "cpu"}
for opener in (gpu.ours_fit, gpu.ours_step, gpu.ours_inference):
    opened = opener(**settings)()
    if opener is not gpu.ours_step:  # which is no more than JAX compiles for `fit`
        opened.predict(None)
    print(opener.__name__, opened.image_shape, opened.device_peak_memory_mb)
print(sorted({"jax", "keras", "tensorflow", "torch"} & sys.modules.keys()))
"""
    paths = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "KERAS_BACKEND": "tensorflow"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling takes longer than all else here
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    opened = [f"{name} (32, 32, 3) None" for name in ("ours_fit", "ours_step", "ours_inference")]
    assert run.stdout.splitlines() == [*opened, "['jax', 'keras']"]
