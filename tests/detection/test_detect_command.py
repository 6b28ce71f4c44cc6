"""`keras-resnet evaluate` and `predict` with detectors."""

import csv
import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
from boxed_pictures import coco, write_coco
from command_line import in_process
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from small_detector import small_detector

from keras_resnet.data.reading import Reading
from keras_resnet.facts import state
from keras_resnet.loading import load
from keras_resnet.model_files import save_model
from keras_resnet.tasks.detect.sources import open_detected
from keras_resnet.variants import WholeImage

NAMES = ["bee", "ant", "cow"]  # in the order of the ids in COCO's file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with pictures, their boxes, and a network with masks."""
    folder = tmp_path_factory.mktemp("detect")
    model = small_detector(3, masks=True)
    state(model, task="detect")
    save_model(model, folder / "detect.keras", NAMES, WholeImage(96, 96))
    write_coco(folder, masks=True)
    return folder


@pytest.fixture(scope="module")
def predictor(folder):
    return load(folder / "detect.keras")


@pytest.fixture
def opened(predictor, monkeypatch):
    """The network is opened already, which takes seconds."""
    monkeypatch.setattr("keras_resnet.loading.open_predictor", lambda *_, **__: predictor)


def files(folder):
    return [str(path) for path in sorted((folder / "images").iterdir())]


def test_evaluate_writes_the_figures_of_pycocotools(folder, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "evaluation"
    arguments = ("evaluate", folder / "detect.keras", folder / "boxes.json", "--split", "all", "--out", out)
    status, lines, _ = in_process(*arguments, "--max-detections", "5")
    assert status == 0
    assert lines[0] == "images   3"
    record = json.loads((out / "evaluation.json").read_text())
    truth = coco(masks=True)
    places = {image["id"]: number for number, image in enumerate(truth["images"], start=1)}
    new = {3: 1, 7: 2, 90: 3}  # ids of the classes
    for number, each in enumerate(truth["annotations"], start=1):
        box = each["bbox"]
        each |= {"id": number, "image_id": places[each["image_id"]], "category_id": new[each["category_id"]]}
        each |= {"area": box[2] * box[3]}
    truth["images"] = [{**image, "id": places[image["id"]]} for image in truth["images"]]
    truth["categories"] = [{"id": new[each["id"]], "name": each["name"]} for each in truth["categories"]]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with redirect_stdout(io.StringIO()):
        read = COCO(str(tmp_path / "truth.json"))
        evaluator = COCOeval(read, read.loadRes(str(out / "detections.json")), "bbox")
        evaluator.params.maxDets = [1, 2, 5]
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"][..., 0, -1], evaluator.eval["recall"][..., 0, -1]
    assert record["ap_percent"] == pytest.approx(100 * precision[precision > -1].mean(), abs=1e-9)
    assert record["ar_percent"] == pytest.approx(100 * recall[recall > -1].mean(), abs=1e-9)
    assert (record["max_detections"], record["objects"], record["images"]) == (5, 3, 3)
    assert {path.name for path in out.iterdir()} == {
        "precision_recall.png", "confusion_matrix.png", "calibration.png", "worst.png", "detections.json",
        "evaluation.json",
    }  # fmt: skip


def test_tables_hold_what_the_network_answers(folder, predictor, tmp_path):
    paths = files(folder)
    arguments = ("predict", *paths, tmp_path / "missing.png", "--model", folder / "detect.keras")
    status, _, _ = in_process(*arguments, "--csv", tmp_path / "o.csv", "--json", tmp_path / "o.json")
    assert status == 1
    answers = predictor.predict(paths)
    rows = [*csv.DictReader((tmp_path / "o.csv").open(encoding="utf-8"))]
    assert (rows[0]["file"], bool(rows[0]["error"])) == (str(tmp_path / "missing.png"), True)
    results = json.loads((tmp_path / "o.json").read_text())
    assert len(rows) - 1 == len(results) == sum(len(answer["scores"]) for answer in answers) > 10
    place = 0
    for number, (path, answer) in enumerate(zip(paths, answers, strict=True), start=1):
        width, height = Image.open(path).size
        for box, score, label, _ in zip(*(answer[n] for n in ("boxes", "scores", "labels", "masks")), strict=True):
            row, result = rows[place + 1], results[place]
            assert (row["file"], row["predicted"], int(row["image_id"])) == (path, NAMES[label], number)
            corners = [float(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
            np.testing.assert_allclose(corners, box, atol=1e-3)
            assert (result["image_id"], result["category_id"]) == (number, label + 1)
            left, top, wide, high = result["bbox"]
            np.testing.assert_allclose([left, top, left + wide, top + high], box, atol=1e-3)
            assert float(row["score"]) == pytest.approx(result["score"]) == pytest.approx(float(score))
            assert coco_mask.decode(result["segmentation"]).shape == (height, width)
            place += 1


def test_the_csv_file_is_data_only_if_its_column_of_classes_is_named(folder, predictor, opened, tmp_path):
    status, _, _ = in_process(
        "predict", *files(folder), "--model", folder / "detect.keras", "--csv", tmp_path / "o.csv", "--threshold", "0.4"
    )
    status, _, [error] = in_process("data", "check", tmp_path / "o.csv")
    assert (status, "no column names the class of each box" in error) == (1, True)
    source = open_detected(str(tmp_path / "o.csv"), "all", NAMES, Reading(label_column="predicted"))
    for found, answer in zip(source.objects, predictor.predict(files(folder)), strict=True):
        shown = answer["scores"] >= 0.4
        np.testing.assert_allclose(found.boxes, answer["boxes"][shown], atol=1e-3)
        np.testing.assert_array_equal(found.classes, answer["labels"][shown])


def test_top_and_threshold_bound_the_rows(folder, predictor, opened, tmp_path):
    [path, *_] = files(folder)
    [answer] = predictor.predict([path])
    middle = float(np.median(answer["scores"]))
    model = ("--model", folder / "detect.keras", "--json", "-")
    _, lines, _ = in_process("predict", path, *model, "--threshold", middle)
    found = json.loads("\n".join(lines))
    assert len(found) == (answer["scores"] >= middle).sum() < len(answer["scores"])
    _, lines, _ = in_process("predict", path, *model, "--top", "2")
    assert [each["score"] for each in json.loads("\n".join(lines))] == found_scores(answer)[:2]
    _, lines, _ = in_process("predict", path, *model, "--threshold", "1")
    assert json.loads("\n".join(lines)) == []


def found_scores(answer):
    return answer["scores"].astype(float).tolist()


def test_objects_are_printed_and_drawn(folder, predictor, opened, tmp_path):
    pytest.importorskip("matplotlib")
    path = files(folder)[1]
    [answer] = predictor.predict([path])
    threshold = float(answer["scores"][3])
    arguments = ("predict", path, "--model", folder / "detect.keras", "--threshold", threshold)
    status, lines, _ = in_process(*arguments, "--top", "3", "--out", tmp_path)
    assert status == 0
    assert lines[0] == path
    assert len(lines) == 6
    assert lines[1].split()[-1] in NAMES
    assert float(lines[1].split()[0]) == pytest.approx(100 * answer["scores"][0], abs=0.01)
    assert lines[4] == "  and 1 more"
    drawn = Image.open(tmp_path / "1_objects.png")
    assert drawn.width == 41 * 15  # enlarged until its longer side has 960 pixels
    _, lines, _ = in_process(*arguments[:4], "--threshold", "1")
    assert lines[1] == "  no object with a score of 100 % or more"


def test_windows_find_more_in_a_large_image(folder, opened, tmp_path):
    draw = np.random.default_rng(1)
    large = Image.fromarray(draw.integers(0, 256, (150, 260, 3), np.uint8))
    large.save(tmp_path / "large.png")
    model = ("--model", folder / "detect.keras", "--json", "-")
    _, whole, _ = in_process("predict", tmp_path / "large.png", *model)
    _, tiled, _ = in_process("predict", tmp_path / "large.png", *model, "--window", "96")
    assert len(tiled) > 2 * len(whole)
    boxes = np.array([each["bbox"] for each in json.loads("\n".join(tiled))])
    assert (boxes[:, :2].min() >= 0) & ((boxes[:, :2] + boxes[:, 2:]).max(axis=0) <= [260.001, 150.001]).all()
    status, _, [error] = in_process("predict", tmp_path / "large.png", *model, "--window", "8")
    assert (status, "--window takes a height and a width of at least 32" in error) == (1, True)


def test_data_without_an_object_of_the_network_is_refused(folder, opened):
    content = coco()
    for each in content["categories"]:
        each["name"] += "s"
    (folder / "others.json").write_text(json.dumps(content))
    status, _, errors = in_process("evaluate", folder / "detect.keras", folder / "others.json", "--split", "all")
    assert status == 1
    assert "has no object of the classes of" in errors[-1]
