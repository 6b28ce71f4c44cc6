"""Arguments of `keras-resnet serve`: names, versions and paths."""

import shutil
from pathlib import Path

import pytest

from keras_resnet.errors import ArgumentError
from keras_resnet.serve.named_files import ServedFile, served_files

OLD = Path(__file__).parents[1] / "old_files"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with versions 2 and 10 of an artifact, and things that are no versions."""
    for version in ("2", "10", "010", "0", "draft"):
        (tmp_path / "flowers" / version).mkdir(parents=True)
        shutil.copy(OLD / "classifier.onnx", tmp_path / "flowers" / version / "model.onnx")
    (tmp_path / "flowers" / "7").write_text("a file")
    return tmp_path / "flowers"


def test_files_have_names_of_their_own_or_given_ones() -> None:
    path, saved = str(OLD / "classifier.onnx"), str(OLD / "classifier_saved_model")
    assert served_files([path, f"b.2={path}", saved]) == [
        ServedFile("classifier", None, path),
        ServedFile("b.2", None, path),
        ServedFile("classifier_saved_model", None, saved),
    ]


def test_versions_are_in_the_order_of_their_numbers(folder: Path) -> None:
    assert served_files([str(folder)]) == [
        ServedFile("flowers", version, str(folder / version / "model.onnx")) for version in ("2", "10")
    ]


def test_a_path_may_hold_an_equals_sign(tmp_path: Path) -> None:
    path = tmp_path / "a=b.onnx"
    shutil.copy(OLD / "classifier.onnx", path)
    assert served_files([f"c={path}"]) == [ServedFile("c", None, str(path))]
    with pytest.raises(ArgumentError, match="Give a name before the path"):
        served_files([str(path)])


@pytest.mark.parametrize("name", ["", "a b", ".a", "-a", "ä", "a" * 101, "a:predict", "a%2f", "a\n"])
def test_names_that_mean_something_in_a_url_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="the name of an artifact must begin"):
        served_files([f"{name}={OLD / 'classifier.onnx'}"])


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    path = str(OLD / "classifier.onnx")
    with pytest.raises(ArgumentError, match="Received twice: a"):
        served_files([f"a={path}", f"a={path}"])
    with pytest.raises(ArgumentError, match="no such file or folder"):
        served_files(["a=/nowhere/model.onnx"])
    with pytest.raises(ArgumentError, match=r"Export it first: keras-resnet export --model .*classifier\.keras"):
        served_files([str(OLD / "classifier.keras")])
    with pytest.raises(ArgumentError, match="this folder has neither"):
        served_files([str(tmp_path)])
