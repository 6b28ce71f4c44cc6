"""A sample of checks/mutated_files.py: mutated files are refused by name, or do what the whole file does."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

CHECKS = Path(__file__).parents[1] / "checks"
COUNT = 250
SEALED = ("tflite", "onnx", "saved_model")  # files with this package's hash
SLOW = ("keras, its weights", "keras, as a model", "saved_model of other make")


@pytest.fixture(scope="module", autouse=True)
def _path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CHECKS)  # for the processes in which the files are opened, too
        yield


def test_mutated_files_are_refused_or_unharmed(tmp_path, capsys):
    check = importlib.import_module("mutated_files")
    kinds = [kind for kind in check.KINDS if kind not in SLOW and not check.KINDS[kind].native]
    out = tmp_path / "record.json"
    with pytest.raises(SystemExit) as left:
        check.main(out, count=COUNT, kind=kinds, first=10_000, limit_s=30.0, workers=2, keep=None)
    assert not left.value.code, capsys.readouterr().out[-3000:]
    results = json.loads(out.read_text())["results"]
    assert sum(results["total"].values()) == pytest.approx(COUNT, abs=len(kinds))
    for kind, result in results["kinds"].items():
        assert set(result["outcomes"]) <= {"clear error", "right answer", "other values"}, kind
        assert result["outcomes"].get("clear error", 0) > 0 or kind == "list of paths", kind
        assert result["longest_s"] < 20
        assert result["most_mb"] < check.MOST_MB
    for kind in SEALED:  # only a description with a right hash can tell something else
        assert results["kinds"][kind]["outcomes"]["clear error"] > 0.3 * sum(
            results["kinds"][kind]["outcomes"].values()
        )


@pytest.mark.parametrize("kind", ["safetensors, read alone", "png", "csv", "coco", "recipe", "npz"])
def test_a_mutation_can_be_made_again_by_its_number(kind, tmp_path):
    check = importlib.import_module("mutated_files")
    kinds = importlib.import_module("mutated_kinds")
    whole = check.make_all(tmp_path, [kind])[kind]
    made = []
    for number in (7, 7, 8):
        copy, mutated = kinds.mutate_copy(check.KINDS[kind], whole, number, check.random_of(kind, number))
        made.append((mutated.name, copy.read_bytes()))
    assert made[0] == made[1] != made[2]


def test_a_crash_is_told_and_the_next_file_is_opened(tmp_path, monkeypatch):
    check = importlib.import_module("mutated_files")
    answers = iter([("crash", "signal 11", "", 0.1, 0.0), ("clear error", "", "", 0.1, 0.0)])
    tally = check.Tally()
    for number in (3, 4):
        tally.add("png", number, next(answers))
    assert tally.unwanted == ["--kind 'png' --first 3: : crash: signal 11"]
    native = check.Tally()
    assert native.add("onnx of other make", 3, ("crash", "signal 11", "", 0.1, 0.0)) == "contained"


def test_structural_mutations_keep_the_sums_right(tmp_path):
    import io
    import zipfile

    mutations = importlib.import_module("mutations")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.json", '{"a": [1, 2, "x"]}')
        archive.writestr("b.bin", bytes(100))
    mutate = mutations.in_zip(lambda name: mutations.in_json if name.endswith(".json") else mutations.in_bytes)
    for number in range(50):
        mutated = mutate(stream.getvalue(), np.random.default_rng(number))
        assert mutated.forged
        with zipfile.ZipFile(io.BytesIO(mutated.content)) as archive:
            assert archive.testzip() is None
