"""Evaluation of detectors on images with known objects: figures, files, prints; and objects drawn on pictures."""

import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
from boxed_pictures import BRIGHT, PICTURES, Drawn, Rectangle, coco, write_coco
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from keras_resnet.data.reading import PLAIN
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.base import Asked
from keras_resnet.tasks.detect.evaluation import DetectionCollector
from keras_resnet.tasks.detect.overlay import COLOURS, draw_detections, draw_marks, marks_of_objects
from keras_resnet.tasks.detect.sources import open_detected
from keras_resnet.variants import WholeImage

MORE = (
    *PICTURES,
    Drawn("3.png", 60, 80, (Rectangle("bee", (4, 6, 24, 30)), Rectangle("bee", (40, 8, 70, 40)))),
    Drawn("4.png", 44, 60, (Rectangle("ant", (5, 5, 30, 25)), Rectangle("bee", (35, 20, 55, 40)))),
)
NAMES = ("bee", "ant", "cow")  # in the order of their ids


def asked(classes=3):
    return Asked("model.keras", lambda pixels: {}, WholeImage(96, 96), None, classes)


def answer_of(source, index, masks, change):
    """-> answer with a detection for each object, from its box, class and place -> score, shift, class."""
    objects = source.objects[index]
    rows = [change(index, place) for place in range(len(objects.boxes))]
    order = np.argsort([-score for score, _, _ in rows], kind="stable")
    boxes = np.array([objects.boxes[i] + rows[i][1] for i in order], "float32").reshape(-1, 4)
    answer = {
        "boxes": boxes,
        "scores": np.array([rows[i][0] for i in order], "float32"),
        "labels": np.array([(objects.classes[i] + rows[i][2]) % 2 for i in order], "int32"),
    }
    return {**answer, "masks": np.ones((len(boxes), 28, 28), "float32")} if masks else answer


def evaluated(folder, change, pictures=MORE, masks=False, network_masks=None):
    source = open_detected(str(write_coco(folder, pictures, masks)), "all", None, PLAIN)
    collector = DetectionCollector(asked(), [source])
    for index in range(source.count):
        decoded = source.decode(index)
        answer = answer_of(source, index, masks if network_masks is None else network_masks, change)
        collector.add(source, index, decoded.pixels, decoded.target, answer)
    return collector.finish()


def right(index, place):
    return 0.9 - 0.08 * index - 0.01 * place, 0, 0


def poor(index, place):
    """Image 3 has one object of another class and one that is missed; image 4 has a box on the background."""
    return [(0.9 - 0.1 * place, 1, 0), (0.8, 0, 0), (0, 0, 0), (0.85 - 0.5 * place, 2, 1), (0.7, 14 * place, 0)][index]


def by_files(folder, evaluation, kind, masks):
    """-> AP of pycocotools from detections.json, and from the file that the images were read from."""
    truth = coco(MORE, masks)
    for number, image in enumerate(truth["images"], start=1):
        for annotation in truth["annotations"]:
            if annotation["image_id"] == image["id"]:
                annotation["image_id"] = number
        image["id"] = number
    places = {name: index + 1 for index, name in enumerate(NAMES)}
    new = {category["id"]: places[category["name"]] for category in truth["categories"]}
    for number, annotation in enumerate(truth["annotations"], start=1):
        box = annotation["bbox"]
        annotation |= {"id": number, "area": box[2] * box[3], "category_id": new[annotation["category_id"]]}
    truth["categories"] = [{"id": new[category["id"]], "name": category["name"]} for category in truth["categories"]]
    results = json.loads(evaluation.documents({})["detections.json"]())
    if kind == "segm":
        results = [{name: value for name, value in row.items() if name != "bbox"} for row in results]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    with redirect_stdout(io.StringIO()):
        read = COCO(str(folder / "truth.json"))
        evaluator = COCOeval(read, read.loadRes(str(folder / "results.json")), kind)
        for step in (evaluator.evaluate, evaluator.accumulate, evaluator.summarize):
            step()
    return 100 * evaluator.stats


@pytest.mark.parametrize("masks", [False, True])
def test_figures_are_those_of_the_files_that_are_written(masks, tmp_path):
    evaluation = evaluated(tmp_path, poor, masks=masks)
    names = ("ap", "ap50", "ap75", "ap_small")
    kinds = {"": "bbox", "mask_": "segm"} if masks else {"": "bbox"}
    for prefix, kind in kinds.items():
        stats = by_files(tmp_path, evaluation, kind, masks)
        figures = [evaluation.figures[f"{prefix}{name}_percent"] for name in names]
        assert figures == pytest.approx(stats[:4].tolist(), abs=1e-9)
        assert evaluation.figures[f"{prefix}ar_percent"] == pytest.approx(stats[8], abs=1e-9)
        for place, area in ((4, "medium"), (5, "large")):
            assert (evaluation.figures[f"{prefix}ap_{area}_percent"], stats[place]) == (None, -100)  # there are none
    assert 30 < evaluation.figures["ap_percent"] < 80
    assert len(evaluation.figures) == 7 * len(kinds)


def test_right_answers_have_full_figures_and_agree(tmp_path):
    full = evaluated(tmp_path / "a", right, masks=True)
    assert full.figures["ap_percent"] == full.figures["mask_ap50_percent"] == pytest.approx(100)
    other = evaluated(tmp_path / "b", poor, masks=True)
    # Of 7 objects with a score of 0.5 or more in both, 4 agree; each has 6 or 7 such detections.
    counts = [sum((each.scores >= 0.5).sum() for each in of.found) for of in (full, other)]
    assert full.agreement_percent(full) == 100
    assert counts == [7, 6]
    assert full.agreement_percent(other) == other.agreement_percent(full) == pytest.approx(200 * 4 / 13)


def test_masks_count_only_where_both_sides_have_them(tmp_path):
    boxes = evaluated(tmp_path / "a", right, masks=True, network_masks=False)
    assert not any(name.startswith("mask") for name in boxes.figures)
    masks = evaluated(tmp_path / "b", right, masks=False, network_masks=True)
    assert not any(name.startswith("mask") for name in masks.figures)
    assert "segmentation" in json.loads(masks.documents({})["detections.json"]())[0]


def test_documents_and_the_record(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", "200")
    evaluation = evaluated(tmp_path, poor, masks=True)
    documents = {name: content() for name, content in evaluation.documents({"model": "m"}).items()}
    pictures = {"precision_recall.png", "confusion_matrix.png", "calibration.png", "worst.png"}
    assert {*documents} == {*pictures, "detections.json", "evaluation.json"}
    for name in pictures:
        assert Image.open(io.BytesIO(documents[name])).width > 300
    record = json.loads(documents["evaluation.json"])
    assert (record["model"], record["images"], record["objects"], record["max_detections"]) == ("m", 5, 7, 100)
    assert record["decided"] == {
        "score": 0.5, "iou": 0.5, "right": 4, "wrong_class": 1, "background": 1, "missed": 2,
    }  # fmt: skip
    assert record["confusion_matrix"] == [[1, 1, 0, 2], [0, 3, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert [each["label"] for each in record["classes"]] == [*NAMES]
    assert record["classes"][2]["ap_percent"] is None
    assert [row["detections"] for row in record["calibration"]].count(0) < 15
    names = [example.source.name_of(example.place) for example in evaluation.worst]
    assert [name.removeprefix("images/") for name in names] == ["3.png", "4.png"]
    evaluation.show()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "At a score of 0.5 and IoU 0.5: 4 right, 1 of a wrong class, 1 on background," in lines


def test_data_of_other_classes_is_refused(tmp_path):
    source = open_detected(str(write_coco(tmp_path)), "all", None, PLAIN)
    collector = DetectionCollector(asked(classes=5), [source])
    decoded = source.decode(0)
    with pytest.raises(ArgumentError, match=r"has 3 classes, and model\.keras has 5"):
        collector.add(source, 0, decoded.pixels, decoded.target, {})


def png_pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_picture_has_boxes_names_and_a_legend():
    pytest.importorskip("matplotlib")
    pixels = np.full((1200, 1000, 3), 255, np.uint8)
    answer = {
        "boxes": np.array([[100, 200, 400, 500], [500, 600, 900, 1000]], "float32"),
        "scores": np.array([0.9, 0.4], "float32"),
        "labels": np.array([1, 0], "int32"),
    }
    drawn = png_pixels(draw_detections(pixels, answer, ("ant", "bee")))
    assert drawn.shape[1] == 1000
    assert drawn.shape[0] > 1200
    inside = drawn[:1200]
    np.testing.assert_array_equal(inside[200, 100:400], np.broadcast_to(COLOURS[1], (300, 3)))
    np.testing.assert_array_equal(inside[600:1000, 899], np.broadcast_to(COLOURS[0], (400, 3)))
    assert (inside[300:400, 110:390] == 255).all()  # without masks, the object stays visible
    rows, columns = np.nonzero((inside == COLOURS[1]).all(axis=2))
    assert rows.min() < 195  # the name stands above its box
    assert columns.min() == 100
    legend = drawn[1200:].reshape(-1, 3)
    assert all((legend == colour).all(axis=1).sum() > 50 for colour in COLOURS[:2])


@pytest.mark.parametrize(("side", "shown"), [(200, 1000), (960, 960), (1500, 1500)])
def test_small_pictures_are_enlarged_and_texts_grow_with_large_ones(side, shown):
    pytest.importorskip("matplotlib")
    answer = {
        "boxes": np.array([[0.2, 0.3, 0.7, 0.9]], "float32") * side,
        "scores": np.array([0.9]),
        "labels": np.array([0]),
    }
    drawn = png_pixels(draw_detections(np.full((side, side, 3), 255, np.uint8), answer, ("ant",)))
    assert drawn.shape[1] == shown
    column = (drawn[:shown, round(0.45 * shown)] == COLOURS[0]).all(axis=1)  # beside the text
    line = max(2, round(shown / 500))
    assert column.sum() == 2 * line
    text = (drawn[: round(0.3 * shown), round(0.2 * shown) + 1] == COLOURS[0]).all(axis=1).sum()
    assert text == pytest.approx(1.4 * max(13, shown / 75), abs=2)


def test_masks_are_drawn_by_their_pixels_and_the_best_is_on_top():
    pytest.importorskip("matplotlib")
    pixels = np.full((1000, 1000, 3), 200, np.uint8)
    left = np.zeros((28, 28), "float32")
    left[:, :14] = 1
    answer = {
        "boxes": np.array([[100, 100, 500, 500], [300, 100, 700, 500]], "float32"),
        "scores": np.array([0.9, 0.8], "float32"),
        "labels": np.array([0, 1], "int32"),
        "masks": np.stack([np.ones((28, 28), "float32"), left]),
    }
    drawn = png_pixels(draw_detections(pixels, answer, ("ant", "bee")))
    mixed = [(0.65 * 200 + 0.35 * colour).astype(np.uint8) for colour in COLOURS[:2].astype(float)]
    assert (drawn[300, 400] == mixed[0]).all()  # both masks lie here
    assert (drawn[300, 495] == mixed[0]).all()
    answer = {name: values[::-1] for name, values in answer.items()}
    drawn = png_pixels(draw_detections(pixels, answer, ("ant", "bee")))
    assert (drawn[300, 400] == mixed[1]).all()
    assert (drawn[300, 600] == 200).all()  # the mask fills the left half of its box


def test_many_texts_cover_neither_each_other_nor_an_object():
    pytest.importorskip("matplotlib")
    draw = np.random.default_rng(3)
    corners = draw.integers(0, 900, (150, 2))
    boxes = np.concatenate([corners, corners + 60], axis=1).astype("float32")
    pixels = np.full((1000, 1000, 3), BRIGHT, np.uint8)
    answer = {"boxes": boxes, "scores": np.full(150, 0.8), "labels": np.zeros(150, int)}
    drawn = png_pixels(draw_detections(pixels, answer, ("ant",)))[:1000]
    empty = np.asarray(draw_marks(pixels, marks_of_objects(boxes, np.zeros(150), np.zeros(150, bool), None), 1000))
    changed = (drawn != empty).any(axis=2)
    assert changed.sum() > 20_000
    centres = (corners + 30).astype(int)
    assert not changed[centres[:, 1], centres[:, 0]].any()
