"""The task `tag`: images with any number of classes, from a CSV file to verified artifacts."""

import csv
import json
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from command_line import in_process
from PIL import Image
from shallow import shallow_builder
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, f1_score
from small_classifier import small_classifier

from keras_resnet import models
from keras_resnet.data.pipeline import evaluation_batches, training_batches
from keras_resnet.data.problems import Problems
from keras_resnet.data.shards import read_dataset_description as read_packed
from keras_resnet.errors import AccuracyError, ArgumentError, WeightsError
from keras_resnet.export.accuracy import Examination, LabelledImages, check_drop
from keras_resnet.export.comparison import _agreement_check
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.prepare import check_prepared, prepare
from keras_resnet.facts import state
from keras_resnet.loading import load, predictor_of
from keras_resnet.model_files import MEMBER, save_model
from keras_resnet.predictor import Predictor
from keras_resnet.preprocessing import load_image
from keras_resnet.tasks import TASKS, task_of
from keras_resnet.tasks.sources import open_source, task_of_data
from keras_resnet.training.recipe import Recipe, read_recipe
from keras_resnet.variants import InputContract

TAG = TASKS["tag"]
DIGITS = [str(digit) for digit in range(10)]
TRAIN, VALIDATION = 512, 120
COUNTED = ("mean_average_precision_percent", "micro_f1_percent", "macro_f1_percent")


def write_pairs(folder: Path) -> Path:
    """Pictures of no, one or two digits -> their CSV file. No digit is in both splits."""
    digits, generator = load_digits(), np.random.default_rng(0)
    rows = [["file", "classes", "split"]]
    for number in range(TRAIN + VALIDATION):
        split = "train" if number < TRAIN else "val"
        own = np.arange(360, len(digits.target)) if split == "train" else np.arange(360)
        picture, shown = np.zeros((16, 16), np.uint8), set()
        for left in (0, 8):
            if generator.random() > 0.15:
                index = generator.choice(own)
                picture[4:12, left : left + 8] = np.round(digits.images[index] * (255 / 16))
                shown.add(str(digits.target[index]))
        Image.fromarray(picture).save(folder / f"{number:04d}.png")
        rows.append([f"{number:04d}.png", "|".join(sorted(shown)), split])
    return write_csv(folder / "pairs.csv", rows)


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Folder of a run, and what it printed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    settings = {
        "task": "tag", "loss": "binary", "network": "resnet20", "size": 16, "crop": "none", "epochs": 8,
        "batch-size": 16, "optimizer": "adamw", "learning-rate": 0.005, "warmup-epochs": 1, "weight-decay": 0.05,
        "data": data, "out": folder,
    }  # fmt: skip
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.BUILDERS, "resnet20", shallow_builder("resnet20"))
        status, out, errors = in_process("train", *flags, "--no-flip")
    assert status == 0, errors
    return folder, out


def history_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open() as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def evaluated(run, data):
    """What `evaluate` printed, its record, and true classes and probabilities out of its predictions."""
    folder = run[0]
    status, lines, errors = in_process("evaluate", folder / "model.keras", data, "--out", folder / "evaluation")
    assert status == 0, errors
    record = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    with (folder / "evaluation" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    tags = np.array([[digit in row["classes"].split("|") for digit in DIGITS] for row in rows]).astype(int)
    probabilities = np.array([row["probabilities"].split("|") for row in rows]).astype(float)
    return lines, record, rows, tags, probabilities


@pytest.fixture(scope="module")
def exported(run, data):
    """Folder of artifacts, what the command printed."""
    folder = run[0] / "export"
    status, lines, errors = in_process(
        "export", "--model", run[0] / "model.keras", "--formats", "tflite,tflite-int8,onnx", "--out", folder,
        "--calibration", data.parent / "00*.png", "--data", data,
    )  # fmt: skip
    assert status == 0, errors
    return folder, lines


# --- the whole way ------------------------------------------------------------------------------------------------


def test_the_data_are_counted_by_class(data):
    status, lines, errors = in_process("data", "check", data)
    assert (status, errors) == (1, [])
    alike = [data.parent / name for name in ("0007.png", "0530.png")]  # images without a digit, four of them in val
    assert alike[0].read_bytes() == alike[1].read_bytes()
    assert lines[lines.index("looks wrong: 1") + 1] == (
        "  images of val that are training images, too: 4 (such as 0007.png = 0530.png)"
    )
    assert lines[0] == f"data: {data}: CSV file with the columns file, classes, split"
    lines = lines[lines.index("") + 1 :]
    source = open_source(data, "train")
    assert (source.target.task, source.classes, source.count) == ("tag", tuple(DIGITS), TRAIN)
    assert lines[1].split() == ["0", str(source.class_counts[0]), str(open_source(data, "val").class_counts[0])]
    assert lines[11].split() == ["all", "images", str(TRAIN), str(VALIDATION)]
    assert source.class_counts.sum() > TRAIN


def test_a_run_learns_and_its_best_file_has_the_threshold_of_its_epoch(run):
    folder, out = run
    history = history_of(folder)
    assert max(row["val_mean_average_precision_percent"] for row in history) > 80
    assert history[-1]["mean_average_precision_percent"] > history[0]["mean_average_precision_percent"] + 30
    best = int(re.match(r".*model\.keras: epoch (\d+), validation mAP", out[0])[1])
    for file, row in (("model.keras", history[best - 1]), ("model-last.keras", history[-1])):
        with zipfile.ZipFile(folder / file) as archive:
            member = json.loads(archive.read(MEMBER))
        assert (member["task"], member["labels"]) == ("tag", DIGITS)
        assert member["task_facts"] == {"threshold": pytest.approx(row["val_threshold"], abs=1e-6)}
    low, high = (history[-1][f"val_mean_average_precision_{end}_percent"] for end in ("low", "high"))
    assert 0 < low < history[-1]["val_mean_average_precision_percent"] < high < 100


def test_the_figures_of_an_evaluation_are_those_of_scikit_learn(run, evaluated):
    lines, record, rows, tags, probabilities = evaluated
    threshold = load(run[0] / "model.keras").task_facts["threshold"]
    decided = (probabilities >= threshold).astype(int)
    assert (record["images"], record["threshold"], len(rows)) == (VALIDATION, threshold, VALIDATION)
    expected = {
        "mean_average_precision_percent": average_precision_score(tags, probabilities, average="macro"),
        "micro_f1_percent": f1_score(tags, decided, average="micro"),
        "macro_f1_percent": f1_score(tags, decided, average="macro"),
    }
    for name, share in expected.items():
        assert record[name] == pytest.approx(100 * share, abs=0.02), name  # of rounded probabilities
    for index, entry in enumerate(record["classes"]):
        assert (entry["label"], entry["images"]) == (DIGITS[index], tags[:, index].sum())
        assert entry["found"] == decided[:, index].sum()
        assert entry["f1_percent"] == pytest.approx(100 * f1_score(tags[:, index], decided[:, index]))
    assert [line.split()[-1] for line in lines[:5]] == [
        str(VALIDATION), *(f"{record[name]:.2f}" for name in COUNTED), f"{threshold:.4f}"
    ]  # fmt: skip
    assert [row["predicted"].split("|") for row in rows if row["predicted"]] == [
        [digit for digit, found in zip(DIGITS, row, strict=True) if found] for row in decided if row.any()
    ]
    assert any(not row["classes"] for row in rows)  # an image without a digit


def test_the_run_and_the_evaluation_agree(run, evaluated):
    best = int(re.match(r".*: epoch (\d+)", run[1][0])[1])
    row = history_of(run[0])[best - 1]
    assert row["val_mean_average_precision_percent"] == pytest.approx(evaluated[1][COUNTED[0]], abs=0.2)
    assert row["val_micro_f1_percent"] == pytest.approx(evaluated[1]["micro_f1_percent"], abs=0.01)
    _, _, _, tags, probabilities = evaluated
    for other in np.linspace(0.02, 0.98, 49):  # no threshold is better
        assert 100 * f1_score(tags, probabilities >= other, average="micro") <= row["val_micro_f1_percent"] + 0.01


def test_predict_names_the_classes_from_the_threshold_on(run, data, evaluated):
    model, files = run[0] / "model.keras", [data.parent / f"{TRAIN + n:04d}.png" for n in range(3)]
    _, record, _, _, probabilities = evaluated
    for options, threshold, most in (
        ([], record["threshold"], 5),
        (["--threshold", 0.001], 0.001, 5),
        (["--threshold", 0.001, "--top", 1], 0.001, 1),
        (["--threshold", 1], 1, 5),
    ):
        status, lines, errors = in_process("predict", *files, "--model", model, *options)
        assert status == 0, errors
        expected = []
        for file, row in zip(files, probabilities[:3], strict=True):
            found = [index for index in np.argsort(-row) if row[index] >= threshold]
            expected.append(str(file))
            expected += [f"  {100 * row[index]:6.2f} %  {index}" for index in found[:most]]
            expected += [] if found else [f"  no class with at least {100 * threshold:.2f} %"]
            expected += [f"  and {len(found) - most} more (--top)"] if len(found) > most else []
        assert [without_digits_behind(line) for line in lines] == [without_digits_behind(line) for line in expected]
    status, _, errors = in_process("evaluate", model, data, "--void-label", 3)
    assert (status, errors[-1]) == (
        1,
        f"error: `void_labels` (--void-labels) is for segmentation, and the images of {data} are for tagging. Leave it "
        "out. Received: void_labels=(3,)",
    )


def without_digits_behind(line: str) -> str:
    """A percentage without its last digit, which the six digits of the file may round otherwise."""
    return re.sub(r"(\d)\d %", r"\1 %", line)


def test_artifacts_are_proved_and_have_the_threshold_inside(run, data, evaluated, exported):
    folder, lines = exported
    manifest = json.loads((folder / "manifest.json").read_text())
    model = load(run[0] / "model.keras")
    assert lines[0].split() == ["artifact", "size", "images", "largest", "agreement", "mAP", "micro", "F1", "drop"]
    assert {*manifest["artifacts"]} == {"tflite", "tflite-int8", "onnx"}
    for entry in manifest["artifacts"].values():
        description, accuracy = entry["description"], entry["accuracy"]
        assert (description["task"], description["task_facts"]) == ("tag", {"threshold": model.task_facts["threshold"]})
        assert description["output"]["kind"] == "probability of each class on its own"
        assert (accuracy["images"], abs(accuracy["drop_points"]) < 0.5) == (VALIDATION, True)
        assert accuracy["mean_average_precision_percent"] == pytest.approx(evaluated[1][COUNTED[0]], abs=0.5)
        assert accuracy["agreement_percent"] >= 99
        artifact = load(folder / entry["file"])
        assert (artifact.task.name, artifact.task_facts) == ("tag", model.task_facts)
        assert (artifact.class_names, artifact.contract) == (DIGITS, InputContract(16, 16))
        image = data.parent / f"{TRAIN + 3:04d}.png"
        expected, received = (each.predict([image])[0]["probabilities"] for each in (model, artifact))
        np.testing.assert_allclose(received, expected, atol=0.06 if "int8" in entry["file"] else 1e-5)
        assert not np.isclose(received.sum(), 1, atol=1e-3) or received.max() < 0.9  # no softmax
    assert b"tagging, 10 classes" in (folder / "model.tflite").read_bytes()
    status, lines, _ = in_process("info", folder / "model.tflite")
    assert status == 0
    assert any("task_facts.threshold" in line for line in lines)


def test_other_commands_know_the_task(run, data, exported, tmp_path):
    folder, model = exported[0], run[0] / "model.keras"
    status, lines, errors = in_process("verify", folder / "model.onnx", "--model", model)
    assert status == 0, errors
    assert any("top-1 agreement" in line and "ok" in line for line in lines)
    status, lines, errors = in_process(
        "benchmark", folder / "model.tflite", "--data", data, "--rounds", 1, "--out", tmp_path
    )
    assert status == 0, errors
    figures = json.loads((tmp_path / "benchmark.json").read_text())["results"]["contenders"]["model.tflite"]
    accuracy = json.loads((folder / "manifest.json").read_text())["artifacts"]["tflite"]["accuracy"]
    assert figures[COUNTED[0]] == pytest.approx(accuracy[COUNTED[0]], abs=1e-3)
    for command in (
        ("explain", data.parent / "0000.png", "--model", model, "--out", tmp_path),
        ("export", "--model", model, "--formats", "tflite", "--out", tmp_path, "--report"),
    ):
        status, _, errors = in_process(*command)
        assert (status, "tagging" in errors[-1]) == (1, True), errors


# --- data ---------------------------------------------------------------------------------------------------------


def rows_of(source) -> list[list[str]]:
    """Source -> names of the classes of each image."""
    decoded = [source.tags[index] for index in range(source.count)]
    return [[name for name, there in zip(source.classes, tags, strict=True) if there] for tags in decoded]


def pictures(folder: Path, count: int) -> list[str]:
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        Image.fromarray(np.full((20, 20, 3), 10 * number, np.uint8)).save(folder / name)
    return names


@pytest.mark.parametrize("column", ["classes", "tags", "labels"])
def test_names_in_one_cell(column, tmp_path):
    names = pictures(tmp_path, 4)
    cells = ["dog | cat", "", "cat|cat", "bird"]
    splits = ["train", "train", "val", "train"]
    file = write_csv(
        tmp_path / "a.csv", [["path", column, "split"], *map(list, zip(names, cells, splits, strict=True))]
    )
    train, val = open_source(file, "train"), open_source(file, "val")
    assert (task_of_data(str(file)), train.classes) == (TAG, ("bird", "cat", "dog"))
    assert (rows_of(train), rows_of(val)) == ([["cat", "dog"], [], ["bird"]], [["cat"]])
    assert (train.tags.dtype, train.decode(0).target.tolist()) == (np.uint8, [0, 1, 1])
    assert train.class_counts.tolist() == [1, 1, 1]
    ordered = open_source(file, "train", class_names=["dog", "fish", "cat", "bird"])
    assert ordered.tags.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_a_column_for_each_class(tmp_path):
    names = pictures(tmp_path, 3)
    rows = [[names[0], "1", "0"], [names[1], "0", " 1"], [names[2], "0", "0"]]
    file = write_csv(tmp_path / "a.csv", [["file", "sea", "boat"], *rows])
    source = open_source(file, "train", class_names=["boat", "sea"])
    assert source.held_out
    assert sorted(rows_of(source) + rows_of(open_source(file, "val", class_names=["boat", "sea"]))) == [
        [], ["boat"], ["sea"],
    ]  # fmt: skip
    assert open_source(file, "train").classes == ("sea", "boat")


def test_a_tenth_of_the_images_is_held_out_whatever_their_classes(tmp_path):
    names = [f"{number}.png" for number in range(40)]
    for name in names:
        (tmp_path / name).touch()
    rows = [[name, "rare" if number == 3 else "common"] for number, name in enumerate(names)]
    file = write_csv(tmp_path / "a.csv", [["file", "tags"], *rows])
    train, val = open_source(file, "train"), open_source(file, "val")
    assert (train.count, val.count, train.classes == val.classes) == (36, 4, True)
    assert sorted([*train.names, *val.names]) == sorted(names)


@pytest.mark.parametrize(
    ("header", "rows", "labels", "message"),
    [
        (["file", "tags"], [["a", "cat"], ["b", "cat|dgo"]], ["cat", "dog"], "row 3: 'dgo' (did you mean dog?)"),
        (["file", "tags"], [["a", "cat||dog"]], None, "row 2: ''"),
        (["file", "tags"], [["a", ""]], None, "no image has a class"),
        (["file", "tags"], [["a", "x"], ["b", "y"], ["a", "z"]], None, "row 4 repeats the image of row 2, a"),
        (["file", "tags"], [["a", "x", "y"]], None, "row 2 has more cells than the header: ['y']"),
        (["file", "cat", "dog"], [["a", "0", "1"], ["b", "2", "0"]], None, "row 3, column cat: must be 0 or 1. Rec"
         "eived: '2'"),
        (["file", "cat", "dog"], [["a", "0"]], None, "row 2, column dog: must be 0 or 1. Received: ''"),
        (["file", "cat", "cow"], [["a", "0", "1"]], ["cat", "dog"], "row 1: 'cow'"),
        (["file", "cat"], [["a", "0"]], ["cat", "dog"], "columns are missing for 1 of the model's 2 classes: dog"),
        (["file", "cat|dog"], [["a", "0"]], None, "must not be empty or contain |. Received: 'cat|dog'"),
        (["file", "tags", "split"], [["a", "x", "val"]], None, "no row has train in the column 'split'. Received: val"),
        (["file", "tags", "split"], [["a", "x", "trian"]], None, "Received: trian"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_file_row_and_value(header, rows, labels, message, tmp_path):
    file = write_csv(tmp_path / "a.csv", [header, *rows])
    with pytest.raises(ArgumentError) as raised:
        open_source(file, "val", class_names=labels)
    assert str(raised.value).startswith(f"{file}: ")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("header", "row", "task"),
    [
        (["file", "label"], ["a", "1"], "classify"),
        (["file", "label", "tags"], ["a", "1", "x"], "classify"),
        (["file", "mask"], ["a", "1"], "segment"),
        (["file", "other"], ["a", "text"], "classify"),  # which says what it takes
        (["file", "sea", "boat"], ["a", "0", "?"], "tag"),
        (["file", "classes", "predicted", "probabilities"], ["a", "", "", "0.5"], "tag"),
        (["name", "tags"], ["a", "x"], "classify"),
    ],
)
def test_the_columns_tell_the_tasks_apart(header, row, task, tmp_path):
    assert task_of_data(str(write_csv(tmp_path / "a.csv", [header, row]))).name == task


def test_the_table_of_predictions_is_data_again(run, evaluated):
    source = open_source(run[0] / "evaluation" / "predictions.csv", "train", class_names=DIGITS)
    assert rows_of(source)[0] == [name for name, there in zip(DIGITS, tags_of(source, evaluated), strict=True) if there]


def tags_of(source, evaluated) -> np.ndarray:
    _, _, rows, tags, _ = evaluated
    return tags[[row["file"] for row in rows].index(source.names[0])]


def test_packed_sets_have_the_same_classes(data, tmp_path):
    status, _, errors = in_process("data", "pack", data, tmp_path / "packed", "--shards", 2)
    assert status == 0, errors
    description = read_packed(tmp_path / "packed")
    assert (description["task"], description["classes"]) == ("tag", DIGITS)
    for split in ("train", "val"):
        files, packed = open_source(data, split), open_source(tmp_path / "packed", split)
        assert description["splits"][split]["class_counts"] == files.class_counts.tolist()
        assert description["splits"][split]["fingerprint"] == packed.fingerprint
        by_name = dict(zip(packed.names, packed.tags.tolist(), strict=True))
        assert [by_name[name] for name in files.names] == files.tags.tolist()
    reordered = open_source(tmp_path / "packed", "val", class_names=["more", *reversed(DIGITS)])
    assert (reordered.tags[:, :0:-1] == open_source(tmp_path / "packed", "val").tags).all()
    with pytest.raises(ArgumentError, match="its classes: '9'"):
        open_source(tmp_path / "packed", "val", class_names=DIGITS[:9])


def test_batches_have_the_classes_of_their_images(data):
    source, shown = open_source(data, "train"), {}
    for name, tags in zip(source.names, source.tags, strict=True):
        shown.setdefault(np.asarray(Image.open(data.parent / name)).tobytes(), []).append(tags.tolist())
    keys = {"size": 16, "batch_size": 32, "seed": 0, "epoch": 0, "problems": Problems(9)}
    plain = Recipe(task="tag", loss="binary", network="resnet20", size=16, crop="none", flip=False)
    for pixels, shares in training_batches(source, plain, **keys).take(3):
        assert shares.dtype == "float32"
        for image, row in zip(pixels.numpy(), shares.numpy(), strict=True):
            assert row.astype(int).tolist() in shown[image[..., 0].tobytes()]
    mixed = Recipe(
        task="tag", loss="binary", network="resnet20", size=16, crop="resized", mixup_alpha=1.0, cutmix_alpha=1.0,
        erasing_probability=0.5,
    )  # fmt: skip
    for pixels, shares in training_batches(source, mixed, **keys).take(2):
        assert pixels.shape == (32, 16, 16, 3)
        assert np.logical_and(shares > 0, shares < 1).any()
        assert 0 <= shares.numpy().min() <= shares.numpy().max() <= 1
    [(pixels, shares)] = evaluation_batches(source, plain.contract, batch_size=TRAIN, problems=Problems(9))
    assert (shares.numpy() == source.tags).all()


# --- recipe, files and runtimes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "`loss` must be one of binary, focal, asymmetric for task = tag. Received: loss = 'cross_entropy'"),
        ({"loss": "focal", "label_smoothing": 0.1}, "`label_smoothing` must be left out for task = tag"),
        ({"loss": "focal", "class_weights": "balanced"}, "`class_weights` must be left out for task = tag"),
        ({"loss": "focal", "void_labels": [3]}, "`void_labels` must be left out unless task = segment"),
        ({"loss": "focal", "architecture": "unet"}, "`architecture` must be left out unless task = segment"),
    ],
)
def test_settings_that_have_no_meaning_are_refused(keys, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        read_recipe(None, {"task": "tag", **keys})


def tagger(activation: str | None, randomise) -> keras.Model:
    model = randomise(small_classifier(activation, size=16, classes=3), seed=2)
    state(model, task="tag", task_facts={"threshold": 0.25})
    return model


def test_logits_get_a_sigmoid_wherever_probabilities_are_made(randomise):
    logits, probabilities = tagger(None, randomise), tagger("sigmoid", randomise)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    expected = np.asarray(probabilities(pixels.astype("float32")))
    prepared = prepare(logits)
    check_prepared(logits, prepared, pixels)
    predictor = predictor_of(logits, InputContract(16, 16), "m")
    np.testing.assert_allclose(prepared(pixels.astype("float32")), expected, atol=1e-6)
    np.testing.assert_allclose(predictor.run(pixels)["probabilities"], expected, atol=1e-6)
    assert (predictor.task, predictor.task_facts, task_of(prepared)) == (TAG, {"threshold": 0.25}, TAG)
    assert task_of(small_classifier("sigmoid", size=16, classes=3)).name == "tag"  # its activation tells


def test_what_a_file_says_of_the_threshold_is_not_trusted(randomise, tmp_path):
    model = tagger("sigmoid", randomise)
    save_model(model, tmp_path / "m.keras", None, InputContract(16, 16))
    assert load(tmp_path / "m.keras").task_facts == {"threshold": 0.25}
    save_model(model, tmp_path / "m.keras", None, InputContract(16, 16), task_facts={})
    assert load(tmp_path / "m.keras").task_facts == {}
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for facts in ({"threshold": 1.5}, {"threshold": True}, {"threshold": "0.5"}, [], {"threshold": float("nan")}):
        members[MEMBER] = json.dumps({**json.loads(members[MEMBER]), "task_facts": facts}).encode()
        with zipfile.ZipFile(tmp_path / "wrong.keras", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        with pytest.raises(
            WeightsError, match=r"'threshold' must be a number in 0\.\.1|'task_facts' must be an object"
        ):
            load(tmp_path / "wrong.keras")
    with pytest.raises(ValueError, match="threshold"):
        save_model(model, tmp_path / "m.keras", None, InputContract(16, 16), task_facts={"threshold": -1})


def test_each_class_of_an_image_is_a_decision():
    answers = np.array([[0.99, 0.97, 0.1]])
    swapped = answers[:, [1, 0, 2]]  # two classes that are both there: their order is none
    check = _agreement_check(TAG.decisions(swapped), TAG.decisions(answers), FORMATS["tflite"])
    assert (check.measured, check.passed) == ("100.00 % of 3", True)
    check = _agreement_check(TAG.decisions(1 - answers), TAG.decisions(answers), FORMATS["tflite"])
    assert (check.measured, check.passed) == ("0.00 % of 3", False)


def test_the_gate_compares_the_mean_average_precision(data):
    source = open_source(data, "val")
    answers = {load_image(data.parent / name, InputContract(16, 16)).tobytes(): tags
               for name, tags in zip(source.names, source.tags, strict=True)}  # fmt: skip

    def network(share: float) -> Predictor:
        """-> one that knows the classes, but for that share of what it says."""

        def run(pixels):
            known = np.stack([answers[image.tobytes()] for image in pixels]).astype(float)
            return {"probabilities": (1 - share) * known + share * np.random.default_rng(0).random(known.shape)}

        return Predictor("m", TAG, DIGITS, InputContract(16, 16), 10, run)

    examination = Examination(network(0.0), LabelledImages(data), (16, 16, 3))
    accuracy, _ = examination.of(network(0.7))
    assert examination.model.figures[COUNTED[0]] == 100
    assert accuracy.drop_points == pytest.approx(100 - accuracy.figures[COUNTED[0]])
    with pytest.raises(AccuracyError, match=r"m has a mAP of [\d.]+ % on 120 images"):
        check_drop("m", accuracy, TAG.largest_drop_points.integers)
    pixels = np.stack([load_image(data.parent / name, InputContract(16, 16)) for name in source.names])
    given = Examination(network(0.0), LabelledImages((pixels, source.tags)), (16, 16, 3))
    assert given.model.figures[COUNTED[0]] == 100


def test_data_of_another_task_is_named(run, data, tmp_path, randomise):
    names = pictures(tmp_path, 2)
    file = write_csv(tmp_path / "a.csv", [["file", "label"], *([name, "1"] for name in names)])
    status, _, errors = in_process("evaluate", run[0] / "model.keras", file, "--split", "all")
    assert (status, "is for tagging, but these images are for image classification" in errors[-1]) == (1, True)
    save_model(randomise(small_classifier(size=16)), tmp_path / "c.keras", DIGITS, InputContract(16, 16))
    status, _, errors = in_process("evaluate", tmp_path / "c.keras", data)
    assert (status, "is for image classification, but these images are for tagging" in errors[-1]) == (1, True)
