"""The files of `predict --csv` and `--json`, and the lists of images of `--files-from`."""

import csv
import io
import json
import os
import sys

import numpy as np
import pytest
from command_line import in_process
from pictures import jpeg, picture
from small_classifier import small_classifier
from small_segmenter import small_segmenter

from keras_resnet.facts import state
from keras_resnet.loading import load
from keras_resnet.model_files import save_model
from keras_resnet.variants import InputContract, WholeImage

NAMES = ["cat", "dog", "고양이", "thing <&>", "e", "f", "g"]
HEADER = "file,predicted,predicted_indices,probabilities,pixels_percent,values,error"
ODD = 'odd\x1b[31m\n,"é.jpg'  # a terminal would turn red


@pytest.fixture(scope="module")
def models(randomise, tmp_path_factory):
    """Folder with a network of each task."""
    folder = tmp_path_factory.mktemp("models")
    classifier = randomise(small_classifier(size=32, classes=7), seed=4)
    save_model(classifier, folder / "classify.keras", NAMES, InputContract(32, 36))
    tagger = randomise(small_classifier("sigmoid", size=32, classes=7), seed=5)
    state(tagger, task="tag", task_facts={"threshold": 0.25})
    save_model(tagger, folder / "tag.keras", NAMES, InputContract(32, 36))
    save_model(randomise(small_segmenter(7), seed=6), folder / "segment.keras", NAMES, WholeImage())
    return folder


@pytest.fixture
def images(tmp_path, monkeypatch):
    """The current folder, with two images, a broken one and one with an odd name."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a.jpg", "b.jpg", ODD)):
        (tmp_path / name).write_bytes(jpeg(picture(40, 48, seed)))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    return ["a.jpg", "broken.jpg", "b.jpg", ODD]


def give_stdin(monkeypatch, content: bytes):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def expected_classes(models, task, image):
    """-> indices and numbers of a row, computed from the network's own answer."""
    [answer] = load(models / f"{task}.keras").predict([image])
    scores = answer["probabilities"]
    if task == "segment":
        shares = 100 * np.bincount(scores.argmax(axis=-1).ravel(), minlength=7) / scores[..., 0].size
        return [index for index in np.argsort(-shares, kind="stable") if shares[index]], shares
    order = np.argsort(-scores, kind="stable")
    return list(order[:5]) if task == "classify" else [index for index in order if scores[index] >= 0.25], scores


@pytest.mark.parametrize(
    ("task", "column"), [("classify", "probabilities"), ("tag", "probabilities"), ("segment", "pixels_percent")]
)
def test_one_table_for_every_task(models, images, task, column):
    command = ("predict", *images, "--model", models / f"{task}.keras", "--csv", "out.csv", "--json", "out.json")
    status, lines, errors = in_process(*command)
    assert (status, lines) == (1, ["written: out.csv, out.json"])
    assert [error.partition(":")[0] for error in errors] == ["broken.jpg"]
    with open("out.json", encoding="utf-8") as stream:
        rows = json.load(stream)
    assert [row["file"] for row in rows] == images
    for row, line in zip(rows, rows_of("out.csv"), strict=True):
        assert list(row) == list(line) == HEADER.split(",")
        if row["file"] == "broken.jpg":
            assert row["error"].startswith("not an image of the formats")
            assert line["error"] == row["error"]
            assert [row[name] for name in HEADER.split(",")[1:5]] == 4 * [None]
            continue
        indices, numbers = expected_classes(models, task, row["file"])
        assert row["predicted_indices"] == indices
        assert row["predicted"] == [NAMES[index] for index in indices]
        np.testing.assert_allclose(row[column], [numbers[index] for index in indices], atol=2e-6)
        other = {"probabilities", "pixels_percent"} - {column}
        assert [row["error"], *(row[name] for name in other)] == [None, None]
        assert line["predicted"] == "|".join(row["predicted"])
        assert line["predicted_indices"] == "|".join(map(str, indices))
        assert line[column] == "|".join(f"{number:.6f}" for number in row[column])
        assert (line["error"], *(line[name] for name in other)) == ("", "")


def test_top_limits_the_classes_of_a_table(models, images):
    for task in ("classify", "tag", "segment"):
        status, *_ = in_process("predict", "a.jpg", "--model", models / f"{task}.keras", "--csv", "1.csv", "--top", 1)
        [row] = rows_of("1.csv")
        [first, *_], _ = expected_classes(models, task, "a.jpg")
        assert (status, row["predicted"], row["predicted_indices"]) == (0, NAMES[first], str(first))
    in_process("predict", "a.jpg", "--model", models / "classify.keras", "--json", "7.json", "--top", 7)
    with open("7.json", encoding="utf-8") as stream:
        [row] = json.load(stream)
    assert sorted(row["predicted_indices"]) == list(range(7))


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_on_stdout_nothing_stands_beside_the_table(models, images, option):
    command = ("predict", "absent*.jpg", *images[:3], "--model", models / "classify.keras", option)
    written, printed = in_process(*command, "file"), in_process(*command, "-")
    assert (written[0], printed[0]) == (1, 1)
    with open("file", encoding="utf-8") as stream:
        assert stream.read().splitlines() == printed[1]
    assert printed[2][0] == "absent*.jpg: no such file or folder, and no file matches this glob"
    assert printed[2][1].startswith("broken.jpg: not an image of the formats ")
    assert len(printed[2]) == 2
    assert len(printed[1]) == {"--csv": 1 + 4, "--json": 1 + 4 + 1}[option]


def test_a_table_of_nothing_but_errors_needs_no_model(images):
    status, lines, _ = in_process("predict", "absent.jpg", "--csv", "-")
    assert (status, lines) == (1, [HEADER, 'absent.jpg,,,,,,"no such file or folder, and no file matches this glob"'])


def test_names_are_escaped_on_the_terminal_and_true_in_the_files(models, images):
    model = ("--model", models / "classify.keras")
    status, lines, _ = in_process("predict", ODD, *model)
    assert (status, lines[0]) == (0, r'odd\x1b[31m\n,"é.jpg')
    os.rename(ODD, b"byte\xff.jpg")
    status, lines, _ = in_process("predict", "byte*.jpg", *model)
    assert (status, lines[0]) == (0, r"byte\udcff.jpg")
    status, *_ = in_process("predict", "byte*.jpg", *model, "--csv", "out.csv", "--json", "out.json")
    assert (status, rows_of("out.csv")[0]["file"]) == (0, r"byte\udcff.jpg")
    with open("out.json", encoding="utf-8") as stream:
        assert os.fsencode(json.load(stream)[0]["file"]) == b"byte\xff.jpg"


def test_class_names_are_escaped_on_the_terminal(randomise, images):
    names = ["red\x1b[31m", *NAMES[1:]]
    save_model(randomise(small_classifier(size=32, classes=7), seed=4), "own.keras", names, InputContract(32, 36))
    status, lines, _ = in_process("predict", "a.jpg", "--model", "own.keras", "--top", 7)
    assert status == 0
    assert next(line for line in lines if "red" in line).endswith(r" %  red\x1b[31m")
    assert "\x1b" not in "".join(lines)
    status, lines, _ = in_process("info", "own.keras")
    assert (status, r"red\x1b[31m, dog" in "\n".join(lines)) == (0, True)


@pytest.mark.parametrize(
    "content",
    [
        "./a.jpg\nb.jpg\n",
        "./a.jpg\r\n\r\nb.jpg",
        "\ufeff./a.jpg\nb.jpg\n",
        "./a.jpg\0b.jpg\0",
    ],
)
def test_paths_come_from_a_file_or_from_stdin(models, images, monkeypatch, content):
    with open("list.txt", "w", encoding="utf-8", newline="") as stream:
        stream.write(content)
    command = ("predict", "--model", models / "classify.keras", "--csv", "-", "--files-from")
    status, lines, errors = in_process(*command, "list.txt")
    assert (status, errors) == (0, [])
    assert [line.partition(",")[0] for line in lines] == ["file", "./a.jpg", "b.jpg"]
    give_stdin(monkeypatch, content.encode())
    assert in_process(*command, "-") == (status, lines, errors)


def test_paths_of_a_list_are_no_patterns_and_follow_the_named_images(models, images, monkeypatch):
    os.rename("a.jpg", "[a] *.jpg")
    give_stdin(monkeypatch, f"[a] *.jpg\0{ODD}\0missing.jpg\0".encode())
    status, *_ = in_process(
        *("predict", "b.jpg", "--files-from", "-", "--model", models / "classify.keras", "--csv", "out.csv")
    )
    rows = rows_of("out.csv")
    assert (status, [row["file"] for row in rows]) == (1, ["b.jpg", "[a] *.jpg", ODD, "missing.jpg"])
    assert [row["error"] for row in rows] == ["", "", "", "No such file or directory"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "predict needs images: name files or folders, or give --files-from FILE"),
        (["--files-from", "empty"], "--files-from must name a file with one path a line. Received: empty, which "),
        (["--files-from", "utf16"], "--files-from must name a text file in UTF-8. Received: utf16, which is in UTF-16"),
        (["--files-from", "unmarked"], "--files-from must name a text file in UTF-8. Received: unmarked, which is in "),
        (["a.jpg", "--csv", "-", "--json", "-"], "--csv and --json must name different files. Received twice: -"),
        (["a.jpg", "--csv", "."], "--csv must name a file, or - for stdout. Received: ., which is a folder"),
        (["a.jpg", "--json", "no/a.json"], "--json: the folder no does not exist. Make it first"),
    ],
)
def test_wrong_options_are_refused_before_a_model_is_opened(images, arguments, message):
    with open("empty", "w"), open("utf16", "w", encoding="utf-16") as stream:
        stream.write("a.jpg")
    with open("unmarked", "w", encoding="utf-16-le") as stream:
        stream.write("/a.jpg\n/b.jpg\n")
    status, lines, [error] = in_process("predict", *arguments, "--model", "missing.onnx")
    assert (status, lines) == (1, [])
    assert error.startswith(f"error: {message}")


def test_a_file_is_written_whole_or_not_at_all(models, images, monkeypatch):
    with open("out.csv", "w") as stream:
        stream.write("older")
    monkeypatch.setattr("keras_resnet.tasks.classify.Classify.ranked", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        in_process("predict", "a.jpg", "--model", models / "classify.keras", "--csv", "out.csv", "--json", "out.json")
    with open("out.csv") as stream:
        assert stream.read() == "older"
    assert not [name for name in os.listdir() if "json" in name or "partial" in name]


def test_a_table_is_no_data_whose_classes_are_known(models, images):
    in_process("predict", "a.jpg", "b.jpg", "--model", models / "classify.keras", "--csv", "out.csv")
    status, _, [error] = in_process("data", "check", "out.csv")
    assert (status, error.partition(". ")[0]) == (1, "error: out.csv: no column tells the classes")
