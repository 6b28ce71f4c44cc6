"""`Predictor.rows` has the answers of `predict --json` and the reasons of unreadable images; a predictor is pickled by
the path of its file."""

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from command_line import in_process
from pictures import jpeg, picture
from PIL import Image
from small_classifier import small_classifier
from small_detector import small_detector

from keras_resnet import load
from keras_resnet.errors import ArgumentError
from keras_resnet.loading import open_network, predictor_of
from keras_resnet.model_files import save_model
from keras_resnet.predictor import Predictor
from keras_resnet.tasks.image_rows import COLUMNS
from keras_resnet.variants import InputContract, WholeImage

pytest.importorskip("onnxruntime")

OLD = Path(__file__).parent / "old_files"
NAMES = ["cat", "dog & cow", "crane"]
RANKED = ("classify", "segment", "tag", "regress")
EMPTY, TORN = 1, 4  # places of the files that can't be read


@pytest.fixture(scope="module")
def networks(randomise: Callable, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A network of each task."""
    folder = tmp_path_factory.mktemp("networks")
    tagger = randomise(small_classifier("sigmoid", size=32, classes=3))
    save_model(tagger, folder / "tag.keras", NAMES, InputContract(32, 36), "tag", {"threshold": 0.0})
    save_model(small_detector(2), folder / "detect.keras", NAMES[:2], WholeImage(96, 96))
    regression = randomise(small_classifier(None, size=32, classes=2), seed=6)
    save_model(regression, folder / "regress.keras", None, InputContract(32, 36), "regress")
    made = {name: folder / f"{name}.keras" for name in ("tag", "detect", "regress")}
    return {**made, "classify": OLD / "classifier.onnx", "segment": OLD / "segmenter.onnx"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of different sizes; two can't be read."""
    folder = tmp_path_factory.mktemp("images")
    for number, (height, width) in enumerate([(60, 80), (20, 20), (131, 77), (90, 90), (48, 64), (50, 70)]):
        content = jpeg(picture(height, width, number))
        content = {EMPTY: b"", TORN: content[: len(content) // 3]}.get(number, content)
        (folder / f"{number}.jpg").write_bytes(content)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("encoded", [False, True], ids=["paths", "bytes"])
@pytest.mark.parametrize("task", [*RANKED, "detect"])
def test_rows_are_those_of_the_command(
    networks: Mapping[str, Path], images: list[Path], tmp_path: Path, task: str, encoded: bool
) -> None:
    predictor = load(networks[task], threads=1)
    rows = predictor.rows([path.read_bytes() for path in images] if encoded else images, batch_size=4)
    assert [tuple(row) for row in rows] == [COLUMNS] * len(images)
    assert [place for place, row in enumerate(rows) if row["error"] is not None] == [EMPTY, TORN]
    assert rows[EMPTY] == {**dict.fromkeys(COLUMNS), "error": "the file is empty"}
    assert rows[TORN]["error"].startswith("the image data is broken (")
    status, _, _ = in_process("predict", *images, "--model", networks[task], "--json", tmp_path / "rows.json")
    assert status == 1
    expected = json.loads((tmp_path / "rows.json").read_text())
    if task == "detect":
        check_objects(rows, expected)
        return
    for row, other, path in zip(rows, expected, images, strict=True):
        assert other["file"] == str(path)
        assert {name: row[name] for name in other if name != "file"} == {n: v for n, v in other.items() if n != "file"}
        assert (row["mask"] is not None) == (task == "segment" and row["error"] is None)
        if row["mask"] is not None:
            check_mask(predictor, path, row)


def check_objects(rows: list[dict], expected: list[dict]) -> None:
    found = [(place, one) for place, row in enumerate(rows, 1) for one in row["objects"] or []]
    assert len(found) == len(expected) > len(rows)
    for (place, one), other in zip(found, expected, strict=True):
        assert (place, one["predicted_index"] + 1, one["score"]) == (
            other["image_id"],
            other["category_id"],
            other["score"],
        )
        assert [one["xmin"], one["ymin"], one["xmax"] - one["xmin"], one["ymax"] - one["ymin"]] == other["bbox"]


def check_mask(predictor: Predictor, path: Path, row: dict) -> None:
    """The mask is the most probable class of each pixel."""
    [answer] = predictor.predict([path])
    mask = np.asarray(Image.open(io.BytesIO(row["mask"])))
    np.testing.assert_array_equal(mask, answer["probabilities"].argmax(axis=2))


def test_pixels_have_rows_too(networks: Mapping[str, Path]) -> None:
    predictor = load(networks["classify"], threads=1)
    pixels = picture(40, 56, 7)
    [row, narrow] = predictor.rows([pixels, np.zeros((1, 6_000_000, 3), np.uint8)])
    assert row["predicted_indices"] == predictor.predict([pixels])[0]["probabilities"].argsort()[::-1][:5].tolist()
    assert narrow["predicted"] is None
    assert narrow["error"].startswith("6000000x1 pixels are too elongated")


def test_a_batch_without_a_readable_image(networks: Mapping[str, Path]) -> None:
    rows = load(networks["classify"], threads=1).rows([b"", b"no image"])
    assert [row["predicted"] for row in rows] == [None, None]
    assert rows[1]["error"].startswith("not an image of the formats ")
    assert load(networks["classify"], threads=1).rows([]) == []


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_another_process_in_another_folder_opens_the_pickle(
    networks: Mapping[str, Path], images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.chdir(networks[task].parent)
    predictor = load(networks[task].name, threads=1)
    stored = pickle.dumps(predictor)
    assert len(stored) < 1000  # the path, and nothing of the network
    code = (
        "import json, pickle, sys; predictor = pickle.load(sys.stdin.buffer); "
        "print(json.dumps(predictor.rows(sys.argv[1:])))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, images)],
        input=stored,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        check=True,
    )
    assert json.loads(run.stdout) == predictor.rows(images)


def test_a_predictor_of_a_model_in_memory_is_not_pickled(networks: Mapping[str, Path]) -> None:
    network, contract = open_network(str(networks["tag"]), None)
    with pytest.raises(ArgumentError, match=r"^mine: a predictor is pickled by the path of its file, .*save_model"):
        pickle.dumps(predictor_of(network, contract, "mine"))
