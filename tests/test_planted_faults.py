"""A sample of checks/planted_faults.py: a dozen wrong artifacts, each of which `verify` must refuse."""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

CHECKS = Path(__file__).parents[1] / "checks"
# (kind, format): each changes answers, or names, that a user relies on.
PLANTED = [
    ("labels rotated", "onnx"),
    ("labels one more", "tflite"),
    ("resize", "saved_model"),
    ("labels.txt rotated", "tflite-int8"),
    ("labels of the properties", "onnx-int8"),
    ("serve_jpeg: labels reversed", "saved_model"),
    ("levels of features exchanged", "saved_model"),
    ("signature gives logits", "tflite"),
    ("subgraph gives another tensor", "tflite-int8"),
    ("kernel zeroed", "onnx-int8"),
    ("channel negated", "tflite-int8"),
    ("red and blue", "onnx"),
    ("two classes swapped", "tflite-float16"),
    ("float calls itself integers, noise", "onnx"),
    ("late rows repeat the first", "onnx"),
]


@pytest.fixture(scope="module")
def bench(small_exports, tmp_path_factory):
    """The small classifier's artifacts, and what plants faults into copies of them."""
    from keras_resnet.loading import open_network
    from keras_resnet.model_files import save_model
    from keras_resnet.variants import InputContract

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CHECKS)
        check = importlib.import_module("planted_faults")
        folder = tmp_path_factory.mktemp("pictures")
        for number, picture in enumerate(small_exports.calibration):
            Image.fromarray(picture).save(folder / f"{number:03d}.png")
        contract = InputContract.for_size(32)
        file = tmp_path_factory.mktemp("network") / "model.keras"
        save_model(small_exports.model, file, small_exports.class_names, contract)
        network, contract = open_network(str(file), None)
        table = {fault.name: fault for fault in reversed(check.table())}
        yield check, table, network, contract, str(folder), small_exports.paths


def planted(bench, kind, format, folder, seed):
    """-> path of a copy with the fault, and its place."""
    check, _, network, _, _, paths = bench
    fault = next(f for f in check.table() if f.name == kind and format in f.formats)
    path = folder / paths[format].name
    (shutil.copytree if paths[format].is_dir() else shutil.copy)(paths[format], path)
    copy = check.opened_copy(path, format, network)
    place = fault.plant(copy, np.random.default_rng(seed))
    copy.finish()
    return path, place


@pytest.mark.parametrize(("kind", "format"), PLANTED)
def test_a_planted_fault_is_refused(bench, kind, format, tmp_path):
    check, _, network, contract, images, _ = bench
    path, place = planted(bench, kind, format, tmp_path, seed=3)
    assert check.judged(path, network, images, contract), place


@pytest.mark.parametrize("format", ["saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8"])
def test_a_copy_without_a_fault_is_accepted(bench, format, tmp_path):
    """What is written without a change passes, so that the others are refused for their faults."""
    check, _, network, contract, images, paths = bench
    path = tmp_path / paths[format].name
    (shutil.copytree if paths[format].is_dir() else shutil.copy)(paths[format], path)
    check.opened_copy(path, format, network).finish()
    assert check.judged(path, network, images, contract) == []


def test_every_kind_is_in_the_table_once_for_each_format(bench):
    check = bench[0]
    pairs = [(fault.name, name) for fault in check.table() for name in fault.formats]
    assert len(pairs) == len(set(pairs))
    assert len({name for name, _ in pairs}) >= 30
    for kind, format in PLANTED:
        assert (kind, format) in pairs


def test_figures_count_what_is_accepted(bench):
    check = bench[0]
    row = {"kind": "a", "group": "numbers", "format": "onnx", "place": "", "seen_by": "predictor", "number": 1}
    rows = [
        {**row, "outcome": "accepted", "effect_points": 0.5, "changed_percent": 1.0},
        {**row, "outcome": "accepted", "effect_points": 0.4, "changed_percent": 1.0},
        {**row, "outcome": "refused", "effect_points": 2.0},
        {**row, "outcome": "refused", "effect_points": 1.0},
        {**row, "outcome": "not applicable"},
    ]
    found = json.loads(json.dumps(check.figures(rows)))
    assert found["formats"]["onnx"] == {
        "planted": 4,
        "accepted": 2,
        "accepted, harmful": 1,
        "accepted, harmless": 1,
        "refused": 2,
        "not applicable": 1,
        "largest_accepted_points": 0.5,
    }
    assert found["kinds"]["a"]["smallest_refused_points"] == 1.0
