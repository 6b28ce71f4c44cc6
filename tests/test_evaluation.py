"""Figures of an evaluation against counting one by one, its pictures, and the command on a model and real files."""

import csv
import io
import json
import math
import sys

import keras
import numpy as np
import pytest
from command_line import in_process
from PIL import Image

from keras_resnet.evaluation import (
    calibration,
    class_accuracy,
    confusion_matrix,
    top1_agreement_percent,
    topk_accuracy_percent,
)
from keras_resnet.evaluation.lettering import font_files, line_font, shortened
from keras_resnet.evaluation.plots import MOST_CLASSES_DRAWN, draw_calibration, draw_confusion_matrix
from keras_resnet.evaluation.tiles import captioned
from keras_resnet.export.images import synthetic_images
from keras_resnet.image_files import readable_formats
from keras_resnet.model_files import save_model
from keras_resnet.preprocessing import decode_image, load_image
from keras_resnet.tasks.classify.mistakes import draw_mistakes, worst_mistakes
from keras_resnet.variants import InputContract

ALL = ("--split", "all")
PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.4, 0.25, 0.35]])
LABELS = np.array([0, 1, 0, 1])  # ranked first, second, second and third


@pytest.mark.parametrize(("k", "percent"), [(1, 25.0), (2, 75.0), (3, 100.0)])
def test_topk_accuracy(k, percent):
    assert topk_accuracy_percent(PROBABILITIES, LABELS, k) == percent
    assert topk_accuracy_percent(PROBABILITIES[:1], LABELS[:1], k) == 100.0


def test_a_constant_network_is_not_right_everywhere():
    labels = np.arange(10)
    assert topk_accuracy_percent(np.full((10, 10), 0.1), labels, 1) == 10.0
    assert topk_accuracy_percent(np.full((10, 10), 0.1), labels, 5) == 50.0


def test_topk_accuracy_against_counting():
    generator = np.random.default_rng(0)
    probabilities, labels = generator.dirichlet(np.ones(37), size=200), generator.integers(0, 37, 200)
    for k in (1, 5):
        above = (probabilities > probabilities[np.arange(200), labels][:, None]).sum(axis=1)
        assert topk_accuracy_percent(probabilities, labels, k) == pytest.approx(100 * (above < k).mean(), abs=1e-12)


def test_top1_agreement():
    other = PROBABILITIES.copy()
    other[1] = other[1][::-1]
    assert top1_agreement_percent(PROBABILITIES, PROBABILITIES * 2 - 5) == 100.0
    assert top1_agreement_percent(PROBABILITIES, other) == 75.0


NAN = np.where(PROBABILITIES == 0.7, np.nan, PROBABILITIES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NAN, LABELS), "`probabilities` must be finite.*row 1"),
        ((PROBABILITIES[0], LABELS), r"`probabilities` must be an array \[N, classes\]"),
        ((PROBABILITIES, LABELS[:3]), r"`labels` must hold one integer for each of the 4 rows.*shape \[3\]"),
        ((PROBABILITIES, LABELS[:, None]), r"shape \[4, 1\]"),
        ((PROBABILITIES, LABELS.astype(float)), "Received: float64"),
        ((PROBABILITIES, [0, 1, 3, 0]), r"`labels` must lie in 0\.\.2. Received: 0\.\.3"),
        ((PROBABILITIES, [0, 1, -1, 0]), r"Received: -1\.\.1"),
        ((PROBABILITIES, LABELS, 4), r"`k` must be an integer in 1\.\.3.*k=4"),
        ((PROBABILITIES, LABELS, 0), "k=0"),
    ],
)
def test_wrong_arguments_of_accuracy_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        topk_accuracy_percent(*arguments)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (PROBABILITIES, PROBABILITIES[:3], r"`a` and `b` must have the same shape.*\[4, 3\] and \[3, 3\]"),
        (PROBABILITIES, PROBABILITIES[:1], r"\[1, 3\]"),  # would broadcast
        (PROBABILITIES, NAN, "must be finite"),
        (NAN, NAN, "must be finite"),
        (PROBABILITIES[:0], PROBABILITIES[:0], r"shape \[0, 3\]"),
    ],
)
def test_wrong_arguments_of_agreement_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        top1_agreement_percent(a, b)


# --- classes and calibration --------------------------------------------------------------------------------------

GENERATOR = np.random.default_rng(4)
ANSWERS = GENERATOR.dirichlet(np.full(6, 0.4), size=300).astype("float32")
TRUE = np.where(GENERATOR.random(300) < 0.5, ANSWERS.argmax(axis=1), GENERATOR.integers(0, 5, 300))
TRUE[TRUE == 5] = 4  # the last class has no images


def counted(answers, true):
    """-> the confusion matrix, one image at a time."""
    matrix = [[0] * answers.shape[1] for _ in range(answers.shape[1])]
    for row, wanted in zip(answers.tolist(), true.tolist(), strict=True):
        matrix[wanted][row.index(max(row))] += 1
    return matrix


@pytest.mark.parametrize("count", [1, 17, 300])
def test_confusion_matrix_and_class_accuracy_against_counting(count):
    answers, true = ANSWERS[:count], TRUE[:count]
    expected = counted(answers, true)
    matrix = confusion_matrix(answers, true)
    assert (matrix.dtype, matrix.tolist()) == (np.int64, expected)
    assert 100 * np.trace(matrix) / count == pytest.approx(topk_accuracy_percent(answers, true), abs=1e-12)
    images, top1_percent = class_accuracy(answers, true)
    for index, row in enumerate(expected):
        assert images[index] == sum(row)
        if sum(row):
            assert top1_percent[index] == pytest.approx(100 * row[index] / sum(row), abs=1e-12)
        else:
            assert math.isnan(top1_percent[index])
    assert images[5] == 0


def test_a_confusion_matrix_is_not_symmetric():
    matrix = confusion_matrix([[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.0, 1.0, 0.0]], np.array([0, 0, 2], "uint8"))
    assert matrix.tolist() == [[0, 2, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("count", [1, 17, 300])
def test_calibration_against_counting(count):
    """Equation 3 of the paper: bin m holds the confidences in ((m - 1) / 15, m / 15]."""
    answers, true = ANSWERS[:count].astype("float64"), TRUE[:count]
    measured = calibration(answers, true)
    error = 0.0
    for index, part in enumerate(measured.bins):
        low, high = index / 15, (index + 1) / 15
        rows = [n for n in range(count) if low < answers[n].max() <= high]
        assert (part.images, part.above_percent) == (len(rows), pytest.approx(100 * low))
        assert part.up_to_percent == pytest.approx(100 * high)
        if not rows:
            assert part.confidence_percent is part.top1_percent is None
            continue
        right = sum(answers[n].argmax() == true[n] for n in rows) / len(rows)
        sure = sum(answers[n].max() for n in rows) / len(rows)
        assert part.top1_percent == pytest.approx(100 * right, abs=1e-9)
        assert part.confidence_percent == pytest.approx(100 * sure, abs=1e-9)
        error += len(rows) / count * abs(right - sure)
    assert measured.error_percent == pytest.approx(100 * error, abs=1e-9)
    assert len(measured.bins) == 15


def test_calibration_of_plain_cases():
    sure = np.eye(4)[[0, 1, 2, 3]]
    assert calibration(sure, np.arange(4)).error_percent == 0
    assert calibration(sure, (np.arange(4) + 1) % 4).error_percent == 100
    assert calibration(sure, np.array([0, 1, 2, 0])).error_percent == 25  # right three times in four, sure four
    half = calibration(np.full((8, 2), 0.5), np.array([0, 1] * 4))
    assert half.error_percent == 0
    assert [part.images for part in half.bins] == [8 * (index == 7) for index in range(15)]
    edge = calibration([[0.6, 0.4]], np.array([0]))  # 9/15: the bin that ends there
    assert [part.images for part in edge.bins].index(1) == 8


@pytest.mark.parametrize("function", [confusion_matrix, class_accuracy, calibration, worst_mistakes])
def test_wrong_arguments_are_refused(function):
    for probabilities, labels, message in [
        (NAN, LABELS, "must be finite"),
        (PROBABILITIES, LABELS[:3], "one integer for each of the 4 rows"),
        (PROBABILITIES, LABELS + 2, r"`labels` must lie in 0\.\.2"),
        (PROBABILITIES[:0], LABELS[:0], r"shape \[0, 3\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(probabilities, labels)


def test_calibration_of_logits_is_refused():
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1. Received: -3\.\.2"):
        calibration([[-3.0, 2.0]], np.array([0]))


# --- pictures -----------------------------------------------------------------------------------------------------

NAMES = ["cat", "dog & $x_{1}$", "고양이", "a name that is much too long for any picture", "кот", "emoji 😀\n\udc80"]


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    return image


@pytest.mark.parametrize("classes", [2, 6, MOST_CLASSES_DRAWN, MOST_CLASSES_DRAWN + 1, 1000])
def test_a_confusion_matrix_is_drawn_for_any_number_of_classes(classes, recwarn):
    answers = np.random.default_rng(0).dirichlet(np.ones(classes), size=60)
    matrix = confusion_matrix(answers, np.arange(60) % classes)
    names = (NAMES + [f"class {index}" for index in range(6, classes)])[:classes]
    image = opened(draw_confusion_matrix(matrix, names))
    assert 200 < min(image.size) <= max(image.size) < 3000
    other = opened(draw_confusion_matrix(np.roll(matrix, 1, axis=1), names))
    assert np.asarray(other).tobytes() != np.asarray(image).tobytes()
    others = [
        warning for warning in recwarn.list if not issubclass(warning.category, ResourceWarning)
    ]  # of other tests
    assert not others


def test_pictures_without_a_mistake(tmp_path):
    right = np.eye(60)
    opened(draw_confusion_matrix(confusion_matrix(right, np.arange(60)), [str(index) for index in range(60)]))
    opened(draw_calibration(calibration(right, np.arange(60))))
    unread = np.zeros((8, 8, 3), "uint8")
    opened(draw_mistakes(["a.png"] * 60, lambda place: unread, right, np.arange(60), [""] * 60, InputContract()))


def test_the_worst_mistakes_come_first():
    answers = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.05, 0.95], [0.6, 0.4]], "float32")
    assert worst_mistakes(answers, np.array([0, 0, 0, 0, 1])).tolist() == [3, 1, 2, 4]
    assert worst_mistakes(answers, np.array([0, 1, 1, 1, 0])).tolist() == []


def test_the_contact_sheet_shows_what_the_network_sees(tmp_path):
    """One mistake, whose crop is found in the sheet; a file that is gone does not matter."""
    contract = InputContract(size=64, resize=80)
    path = tmp_path / "고양이 \udcff.png"
    pixels = np.kron(np.random.default_rng(1).integers(0, 256, (10, 14, 3), "uint8"), np.ones((8, 8, 1), "uint8"))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(path)
    answers = np.array([[0.1, 0.9, 0, 0, 0, 0], [0.2, 0, 0, 0, 0, 0.8], [1, 0, 0, 0, 0, 0]])
    files = [path, tmp_path / "gone.png", tmp_path / "right.png"]
    names = [file.name for file in files]
    drawn = draw_mistakes(
        names, lambda place: decode_image(files[place]), answers, np.array([3, 2, 0]), NAMES, contract
    )
    sheet = np.asarray(opened(drawn))
    crop = np.kron(load_image(path, contract), np.ones((3, 3, 1), "uint8"))  # 64 -> 192 pixels
    np.testing.assert_array_equal(sheet[42 : 42 + 192, 12 : 12 + 192], crop)
    assert (sheet[42 : 42 + 192, 216 : 216 + 192] == 220).all()
    captions = sheet[42 + 192 :]
    assert (captions[:, :204] < 128).any()
    assert (captions[:, 204:408] < 128).any()


def test_text_that_cannot_be_drawn_is_replaced_and_shortened():
    assert shortened("a\tb\n\udcffc é 고\u200d", 40) == r"a\tb\n\udcffc é 고\u200d"
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"
    assert font_files(frozenset("aé猫"))[0][0] == "DejaVu Sans"
    assert line_font("", 13).getname() == line_font("кот", 13).getname() == ("DejaVu Sans", "Book")
    narrow = captioned(np.zeros((4, 4, 3), "uint8"), ["W" * 500], 40)
    assert narrow.size == (40, 40 + 4 + 18)


# --- the command --------------------------------------------------------------------------------------------------

CONTRACT = InputContract(size=32, resize=37)
LABELS_OF_MODEL = ["고양이", "[bold]dog", "$x$", *(f"thing {index}" for index in range(3, 10))]


@pytest.fixture(scope="module")
def user(model_file, tmp_path_factory):
    """Folder with a model that names its classes, and labelled images: 23, of which one is broken."""
    root = tmp_path_factory.mktemp("user")
    model = keras.models.load_model(model_file)
    head = model.get_layer("logits")
    head.kernel.assign(np.random.default_rng(5).normal(0, 0.5, head.kernel.shape))
    save_model(model, root / "model.keras", LABELS_OF_MODEL, CONTRACT)
    for index, pixels in enumerate(synthetic_images((40, 52, 3), count=22, seed=9)):
        Image.fromarray(pixels).save(root / "image.png")
        [answer] = model.predict_on_batch(load_image(root / "image.png", CONTRACT)[None])
        ranking = np.argsort(-answer)
        folder = root / "labelled" / LABELS_OF_MODEL[ranking[(0, 0, 1, 0, 9)[index % 5]]]
        folder.mkdir(parents=True, exist_ok=True)
        (root / "image.png").rename(folder / f"{index:02}.png")
    (root / "labelled" / "thing 9").mkdir(exist_ok=True)
    (root / "labelled" / "thing 9" / "broken.png").write_bytes(b"not an image")
    return root


@pytest.fixture(scope="module")
def expected(user):
    """Readable files in the command's order, their classes, and the model's answers on them."""
    files = sorted(path for path in (user / "labelled").rglob("*.png") if path.stem != "broken")
    true = np.array([LABELS_OF_MODEL.index(path.parent.name) for path in files])
    pixels = np.stack([load_image(path, CONTRACT) for path in files])
    return files, true, np.asarray(keras.models.load_model(user / "model.keras")(pixels, training=False))


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_evaluate_prints_and_writes_the_figures(user, expected, tmp_path, batch_size):
    files, true, answers = expected
    out = tmp_path / "evaluation"
    options = ["--out", out, "--batch-size", batch_size]
    status, lines, errors = in_process("evaluate", user / "model.keras", user / "labelled", *options, *ALL)
    assert status == 1
    broken = user / "labelled" / "thing 9" / "broken.png"
    assert errors == [f"{broken}: not an image of the formats {', '.join(readable_formats())}, or incomplete"]
    top1, top5 = (topk_accuracy_percent(answers, true, k) for k in (1, 5))
    assert 0 < top1 < top5 < 100
    error = calibration(answers, true).error_percent
    assert lines[:5] == [
        "images               22",
        f"top-1 %              {top1:.2f}",
        f"top-5 %              {top5:.2f}",
        f"calibration error %  {error:.2f}",
        "",
    ]
    assert max(map(len, lines[:-1])) <= 80
    images, class_top1 = class_accuracy(answers, true)
    matrix = confusion_matrix(answers, true)
    worst = min(np.flatnonzero(images), key=lambda index: (class_top1[index], -images[index], index))
    others = [n * (index != worst) for index, n in enumerate(matrix[worst])]
    cells = [f"{class_top1[worst]:.2f}", str(images[worst]), LABELS_OF_MODEL[worst]]
    assert lines[7].split(maxsplit=2)[:2] == cells[:2]
    assert lines[7].split(maxsplit=2)[2].split("  ")[0] == cells[2]
    assert lines[7].rstrip().endswith(LABELS_OF_MODEL[int(np.argmax(others))])

    assert {path.name for path in out.iterdir()} == {
        "evaluation.json",
        "predictions.csv",
        "confusion_matrix.png",
        "calibration.png",
        "mistakes.png",
    }
    for picture in out.glob("*.png"):
        opened(picture.read_bytes())
    figures = json.loads((out / "evaluation.json").read_text())
    assert figures["unreadable"] == [str(broken)]
    assert figures["input"] == {"size": 32, "resize": 37, "interpolation": "bilinear"}
    assert (figures["images"], figures["top1_percent"], figures["top5_percent"]) == (22, top1, top5)
    assert figures["expected_calibration_error_percent"] == pytest.approx(error, abs=1e-4)
    assert sum(part["images"] for part in figures["calibration"]) == 22
    assert [entry["label"] for entry in figures["classes"]] == LABELS_OF_MODEL
    assert [entry["images"] for entry in figures["classes"]] == images.tolist()
    assert [entry["top1_percent"] for entry in figures["classes"]] == [
        None if math.isnan(percent) else percent for percent in class_top1
    ]
    assert figures["confusion_matrix"] == matrix.tolist()
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows] == [str(path) for path in files]
    for row, label, answer in zip(rows, true, answers, strict=True):
        best = int(answer.argmax())
        assert (row["index"], row["label"]) == (str(label), LABELS_OF_MODEL[label])
        assert (row["predicted_index"], row["predicted_label"]) == (str(best), LABELS_OF_MODEL[best])
        assert float(row["confidence"]) == pytest.approx(answer[best], abs=2e-6)
        assert float(row["label_probability"]) == pytest.approx(answer[label], abs=2e-6)


def test_a_csv_of_files_and_the_predictions_of_an_evaluation_are_labelled_images(user, expected, tmp_path):
    """The CSV file that an evaluation writes has the columns that one reads."""
    files, true, answers = expected
    rows = [f"{path},{label}" for path, label in zip(files[:9], true[:9], strict=True)]
    (tmp_path / "some.csv").write_text("\n".join(["file,index", *rows]))
    first = in_process("evaluate", user / "model.keras", tmp_path / "some.csv", "--out", tmp_path / "out", *ALL)
    assert (first[0], first[2]) == (0, [])
    assert first[1][1] == f"top-1 %              {topk_accuracy_percent(answers[:9], true[:9]):.2f}"
    second = in_process("evaluate", user / "model.keras", tmp_path / "out" / "predictions.csv", *ALL)
    assert second == (0, first[1][:-2], [])


def test_predictions_name_their_files_wherever_the_data_was_named_from(user, expected, tmp_path, monkeypatch):
    (tmp_path / "photos" / "ant").mkdir(parents=True)
    file = expected[0][0]
    (tmp_path / "photos" / "ant" / "one.png").write_bytes(file.read_bytes())
    (tmp_path / "photos.csv").write_text("file,index\nphotos/ant/one.png,0\n")
    monkeypatch.chdir(tmp_path)
    assert in_process("evaluate", user / "model.keras", "photos.csv", "--out", "out", *ALL)[0] == 0
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["file"] for row in csv.DictReader(stream)] == [str(tmp_path / "photos" / "ant" / "one.png")]
    assert in_process("evaluate", user / "model.keras", "out/predictions.csv", *ALL)[0] == 0


def test_classes_of_a_model_without_names_are_called_by_their_folders(model_file, tmp_path):
    for name in ("zebra", "ant"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for seed in range(3):
            pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{seed}.png")
    status, _, errors = in_process("evaluate", model_file, tmp_path / "data", "--out", tmp_path / "out", *ALL)
    assert (status, errors) == (0, [])
    classes = json.loads((tmp_path / "out" / "evaluation.json").read_text())["classes"]
    assert [entry["label"] for entry in classes[:3]] == ["ant", "zebra", "class 2"]
    assert [entry["images"] for entry in classes[:3]] == [3, 3, 0]


def test_a_class_that_the_model_lacks_is_an_error(model_file, image_folder, tmp_path):
    [path, *_] = sorted(image_folder.iterdir())
    (tmp_path / "wrong.csv").write_text(f"file,index\n{path},10\n")
    status, lines, errors = in_process("evaluate", model_file, tmp_path / "wrong.csv", *ALL)
    message = (
        f"error: {tmp_path / 'wrong.csv'}: the index of a class must be at most 9, since the model has 10 classes. "
        "Received: 10"
    )
    assert (status, lines, errors) == (1, [], [message])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_model_that_yields_no_probabilities_is_an_error(user, tmp_path, activation):
    model = keras.models.load_model(user / "model.keras")
    other = keras.Model(model.input, keras.layers.Activation(activation)(model.get_layer("logits").output * 5))
    with pytest.raises(ValueError, match="the kind of its output is unknown"):
        save_model(other, tmp_path / "other.keras", LABELS_OF_MODEL, CONTRACT)
    save_model(other, tmp_path / "other.keras", LABELS_OF_MODEL, CONTRACT, task="classify")
    command = ("evaluate", tmp_path / "other.keras", user / "labelled", *ALL)
    status, lines, errors = in_process(*command)
    assert (status, lines) == (1, [])
    assert "the kind of its output is unknown" in errors[-1]
    status, lines, errors = in_process(*command, "--output-kind", "probabilities")
    assert (status, lines) == (1, [])
    assert errors[-1].startswith(f"error: {tmp_path / 'other.keras'}: must yield probabilities in 0..1. Received: ")


def test_a_picture_without_matplotlib_names_the_extra(monkeypatch, model_file, image_folder, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, lines, errors = in_process("evaluate", model_file, image_folder, "--out", tmp_path / "out", *ALL)
    assert (status, lines, len(errors)) == (1, [], 1)
    assert "pip install 'keras-resnet-kit[plots]'" in errors[0]
    assert not (tmp_path / "out").exists()
