"""The table of networks to choose from: its facts are recomputed, its figures say where they come from."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import pytest
import typer
from small_classifier import small_classifier

from keras_resnet.benchmark import networks as table
from keras_resnet.benchmark.macs import multiply_accumulates
from keras_resnet.benchmark.networks import NETWORKS, OURS, ROWS, THEIRS, Measurements, advice, outdone
from keras_resnet.cli.list import COMPARED_WIDTH, list_networks
from keras_resnet.export import export
from keras_resnet.variants import DEFAULT_TAG, VARIANTS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MARKS = ["published", "counted", "counted", "measured", "measured", "measured"]


def record_of(networks: Any) -> dict[str, Any]:
    """Names -> a record with a latency of 10, 11, 12 ... ms."""
    return {
        "environment": {"cpu": "Some CPU", "created": "2026-01-02T03:04:05+00:00"},
        "settings": {"threads": 2},
        "results": {
            network: {
                "size_bytes": 1_500_000 + index,
                "memory_mb": 77.4,
                "latency": {"median_ms": 10.0 + index, "p10_ms": 9.0 + index, "p90_ms": 12.0 + index},
            }
            for index, network in enumerate(networks)
        },
    }


@pytest.fixture
def listing(capsys, monkeypatch, tmp_path):
    """Returns listing(networks): lines of the table when these were measured."""

    def lines(networks: Any) -> list[str]:
        monkeypatch.setattr(table, "RECORD", tmp_path / "networks.json")
        if networks:
            table.RECORD.write_text(json.dumps(record_of(networks)))
        list_networks(compare=True)
        return capsys.readouterr().out.splitlines()

    return lines


def figures(lines: list[str]) -> list[list[str]]:
    """Lines -> the words of each row, an empty name where the network is that of the row before."""
    rows = lines[4 : 4 + len(ROWS) + 1]
    return [([""] if line.startswith(" ") else []) + line.split() for line in rows if line.strip()]


# --- facts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [row for row in ROWS if row.package == THEIRS], ids=lambda row: row.network)
@pytest.mark.usefixtures("shapes_alone")
def test_parameters_and_macs_are_those_of_the_built_network(row):
    model = getattr(keras.applications, row.network)(weights=None, input_shape=(row.size, row.size, 3))
    assert sum(math.prod(variable.shape) for variable in model.trainable_variables) == row.parameters
    assert round(multiply_accumulates(model) / 1e9, 3) == row.gmacs


def test_ours_are_the_default_and_the_best_of_the_table_of_variants():
    for variant in VARIANTS.values():
        rows = [row for row in ROWS if (row.package, row.network) == (OURS, variant.name)]
        top1_percent = {tag: weights.top1_percent for tag, weights in variant.weights.items()}
        assert {row.tag: row.top1_percent for row in rows}.items() <= top1_percent.items()
        assert {row.tag for row in rows} >= ({DEFAULT_TAG} if top1_percent else set())
        assert max((row.top1_percent for row in rows), default=0) == max(top1_percent.values(), default=0)
        facts = (variant.parameters, variant.gmacs, variant.design.contract.size)
        assert all((row.parameters, row.gmacs, row.size) == facts for row in rows)


def test_macs_are_those_that_others_published():
    """300 and 217 million: TF-Slim's README on MobileNet, and Keras' documentation."""
    macs = {row.network: row.gmacs for row in ROWS}
    assert macs["MobileNetV2"] == pytest.approx(0.300, abs=0.0011)
    assert macs["MobileNetV3Large"] == pytest.approx(0.217, abs=0.0005)


def test_macs_of_each_kind_of_layer():
    layers = keras.layers
    image = keras.Input((8, 6, 4))
    x = layers.Conv2D(10, 3, strides=2, groups=2, padding="same")(image)  # to [4, 3, 10]
    x = layers.BatchNormalization()(layers.DepthwiseConv2D((3, 1), depth_multiplier=2)(x))  # to [2, 3, 20]
    x = layers.Dense(7)(layers.Reshape((6, 20))(x))
    assert multiply_accumulates(keras.Model(image, x)) == 4 * 3 * 10 * 9 * 2 + 2 * 3 * 20 * 3 + 6 * 20 * 7


def test_macs_that_can_not_be_counted_are_refused():
    image = keras.Input((8, 6, 4))
    with pytest.raises(ValueError, match=r"Received: odd, a SeparableConv2D"):
        multiply_accumulates(keras.Model(image, keras.layers.SeparableConv2D(3, 3, name="odd")(image)))
    image = keras.Input((None, 6, 4))
    with pytest.raises(ValueError, match=r"fixed input shape. Received: \(None, None, 6, 4\)"):
        multiply_accumulates(keras.Model(image, keras.layers.Conv2D(3, 3)(image)))


def test_the_package_has_the_figures_of_the_record():
    committed = BENCHMARKS / "results" / "compare_networks.json"
    if not (committed.exists() or table.RECORD.exists()):
        pytest.skip("nothing was measured yet")
    assert table.RECORD.read_bytes() == committed.read_bytes()
    assert Measurements.read().networks.keys() == NETWORKS.keys()


# --- the listing --------------------------------------------------------------------------------------------------


def test_every_network_has_its_figures(listing):
    rows = figures(listing(NETWORKS))
    assert len(rows) == len(ROWS)
    network = ""
    for row, printed in zip(ROWS, rows, strict=True):
        named, source, rest = printed[0], " ".join(printed[1 : 1 + len(row.source.split())]), printed[1:]
        rest = rest[len(row.source.split()) :]
        assert source == row.source
        assert rest[0] == f"{row.top1_percent:.1f}"
        assert named == ("" if row.network == network else row.network)
        if named:
            assert rest[1:4] == [f"{row.parameters / 1e6:.2f}", f"{row.gmacs:.3f}", str(row.size)]
            assert rest[4:] == ["1.5", f"{10 + list(NETWORKS).index(row.network):.1f}", "77"]
        else:
            assert rest[1:] == []
        network = row.network


def test_every_figure_is_marked_and_every_mark_explained(listing):
    lines = listing(NETWORKS)
    assert lines[2].split() == MARKS
    for mark in MARKS:
        assert sum(line.startswith(f"{mark}: ") for line in lines) == 1
    text = " ".join(" ".join(lines).split())
    assert "2 threads of Some CPU, 2026-01-02" in text
    assert "at most 10 % below or 20 % above it" in text
    assert "not measured" not in text


@pytest.mark.parametrize("networks", [[], ["resnet34", "MobileNetV2"]])
def test_what_is_missing_is_said_to_be_not_measured(listing, networks):
    lines = listing(networks)
    rows = [row for row in figures(lines) if row[0]]
    assert {row[0] for row in rows if row[-3:] == ["-", "-", "-"]} == NETWORKS.keys() - set(networks)
    assert any(line.startswith("-: not measured") for line in lines)
    assert not any(line.startswith("quick on a CPU") for line in lines)


@pytest.mark.parametrize("networks", [[], NETWORKS])
def test_nothing_is_cut_off(listing, networks):
    lines = listing(networks)
    assert max(map(len, lines)) <= COMPARED_WIDTH == 100
    assert "…" not in "".join(lines)


def test_on_a_pipe_without_keras():
    code = (
        "import sys; from keras_resnet.cli.list import list_networks; list_networks(compare=True);"
        "sys.exit(bool({'keras', 'tensorflow', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= COMPARED_WIDTH
    assert "…" not in done.stdout
    assert "\x1b" not in done.stdout


# --- advice -------------------------------------------------------------------------------------------------------


def test_advice_follows_from_the_figures(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "RECORD", tmp_path / "networks.json")
    table.RECORD.write_text(json.dumps(record_of(reversed(NETWORKS))))
    uses = advice(Measurements.read())
    assert uses["most accurate"] == "resnet152 with tv2_in1k (82.3 %)"
    assert uses["the plain default"].startswith("resnet50 with tv2_in1k (80.9 %): within 2 points ")
    assert uses["the plain default"].endswith(f"with {100 * 4.089 / 11.514:.0f} % of its GMACs")
    assert uses["phone"].startswith("EfficientNetB0 (77.1 %)")
    assert uses["smallest"] == "MobileNetV3Small (68.1 %): 2.54 M parameters"
    assert uses["quick on a CPU"] == "EfficientNetV2B0 (78.7 %): 10.0 ms, the fastest of at least 75 %"
    assert outdone() == ["resnet18", "resnet34", "ResNet50", "ResNet101", "ResNet152"]


# --- the measurement ----------------------------------------------------------------------------------------------


@pytest.fixture
def script(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("compare_networks")


def test_the_script_measures_and_hands_a_whole_record_to_the_package(script, monkeypatch, tmp_path):
    pytest.importorskip("ai_edge_litert")
    file = export(small_classifier(), tmp_path / "small", ["tflite"]).paths["tflite"]
    monkeypatch.setattr(script, "tflite_file", lambda network, folder: file)
    monkeypatch.setattr(script, "NETWORKS", {"one": OURS, "two": THEIRS})
    monkeypatch.setattr(script, "RECORD", tmp_path / "networks.json")
    out = tmp_path / "record.json"

    def results(only: str) -> Any:
        script.main(out=out, files=tmp_path, only=only, rounds=2)
        return json.loads(out.read_text())["results"]

    assert list(results("two")) == ["two"]
    assert not script.RECORD.exists()
    for result in results("one,two").values():
        assert result["size_bytes"] == file.stat().st_size
        assert result["latency"]["repeats"] >= 6  # two turns, of three calls or more
        assert 0 < result["latency"]["p10_ms"] <= result["latency"]["median_ms"] <= result["latency"]["p90_ms"]
        assert result["memory_mb"] > 0
    assert script.RECORD.read_bytes() == out.read_bytes()
    monkeypatch.setattr(table, "RECORD", script.RECORD)
    assert Measurements.read().networks.keys() == {"one", "two"}
    assert Measurements.read().threads == 2

    with pytest.raises(typer.BadParameter, match=r"--only must be some of one, two. Received: three"):
        results("three")
