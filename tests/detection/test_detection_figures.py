"""Figures of detectors, against pycocotools run on COCO's files, and against pairs counted one by one."""

import contextlib
import io
import json
from typing import NamedTuple

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from keras_resnet.evaluation.average_precision import Found, Truth
from keras_resnet.evaluation.detection import DetectionFiguresCollector, agreeing, ious
from keras_resnet.evaluation.run_lengths import run_lengths_of_boxes, run_lengths_of_instances
from keras_resnet.masks_in_boxes import paste_masks

CLASSES = 4  # the last one has neither objects nor detections
NOTHING = (np.zeros((0, 4), "float32"), np.zeros(0, int), np.zeros(0, "float32"))


class Image(NamedTuple):
    height: int
    width: int
    truth: Truth
    found: Found
    instances: np.ndarray
    masks: np.ndarray  # [D, 28, 28]


def random_boxes(draw, count, height, width):
    corners = draw.random((count, 2)) * [0.8 * width, 0.8 * height]
    sides = np.exp(draw.uniform(np.log(6), np.log(140), (count, 2)))
    ends = np.minimum(corners + sides, [width, height])
    return np.concatenate([corners, ends], axis=1).astype("float32")


def random_images(count=12):
    """-> images of several sizes with objects, and detections near most of them; some are of another class."""
    draw = np.random.default_rng(5)
    images = []
    for number in range(count):
        height, width = (int(side) for side in draw.integers(150, 400, 2))
        objects = 0 if number == 3 else int(draw.integers(1, 9))
        boxes = random_boxes(draw, objects, height, width)
        classes = draw.integers(0, CLASSES - 1, objects)
        ignored = draw.random(objects) < 0.2
        instances = np.zeros((height, width), np.uint16)
        for place, (left, top, right, bottom) in enumerate(boxes.astype(int), start=1):
            instances[top : bottom + 1, left : right + 1] = place
        near = np.repeat(boxes, 2, axis=0) + draw.normal(0, 4, (2 * objects, 4)).astype("float32")
        far = random_boxes(draw, 5, height, width)
        shown = np.concatenate([near, far])[draw.permutation(2 * objects + 5)].clip(0, [width, height] * 2)
        shown = shown[(shown[:, 2:] - shown[:, :2] > 1).all(axis=1)].astype("float32")
        overlaps = ious(shown, boxes) if objects else np.zeros((len(shown), 1))
        own = classes[overlaps.argmax(axis=1)] if objects else np.zeros(len(shown), int)
        of = np.where(draw.random(len(shown)) < 0.5, own, draw.integers(0, CLASSES - 1, len(shown)))
        scores = (0.5 * overlaps.max(axis=1) + 0.5 * draw.random(len(shown))).astype("float32")
        masks = draw.random((len(shown), 28, 28)).astype("float32") ** 0.4
        truth = Truth(boxes, classes, ignored, run_lengths_of_instances(instances, objects))
        found = Found(shown, of, scores, run_lengths_of_boxes(masks, shown, height, width))
        images.append(Image(height, width, truth, found, instances, masks))
    return images


def encoded(mask):
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {**code, "counts": code["counts"].decode()}


def xywh(box):
    left, top, right, bottom = (float(side) for side in box)
    return [left, top, right - left, bottom - top]


def by_files(folder, images, kind, most):
    """-> average precision and recall arrays of pycocotools, from files."""
    content = {"images": [], "annotations": [], "categories": [{"id": 10 + i, "name": str(i)} for i in range(CLASSES)]}
    results = []
    for number, each in enumerate(images):
        key = 7 + 3 * number
        content["images"].append({"id": key, "height": each.height, "width": each.width})
        for place, box in enumerate(each.truth.boxes):
            mask = each.instances == place + 1
            annotation = {"id": len(content["annotations"]) + 1, "image_id": key, "bbox": xywh(box)}
            annotation |= {"category_id": 10 + int(each.truth.classes[place]), "segmentation": encoded(mask)}
            annotation |= {"iscrowd": int(each.truth.ignored[place]), "area": float(mask.sum())}
            content["annotations"].append(annotation)
        pasted = paste_masks(each.masks, each.found.boxes, each.height, each.width) >= 0.5
        for box, label, score, mask in zip(*each.found[:3], pasted, strict=True):
            shape = {"bbox": xywh(box)} if kind == "bbox" else {"segmentation": encoded(mask)}
            results.append({"image_id": key, "category_id": 10 + int(label), "score": float(score), **shape})
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        evaluator = COCOeval(truth, truth.loadRes(str(folder / "results.json")), kind)
        evaluator.params.maxDets = [1, 2, most]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval


def figures_of(images, most=100):
    collector = DetectionFiguresCollector(CLASSES, True, most)
    for each in images:
        collector.add(each.truth, each.found)
    return collector.finish()


@pytest.mark.parametrize("most", [100, 3])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_averages_are_those_of_pycocotools_on_files(kind, most, tmp_path, capsys):
    images = random_images()
    figures = figures_of(images, most)
    own = figures.boxes if kind == "bbox" else figures.masks
    theirs = by_files(tmp_path, images, kind, most)
    assert capsys.readouterr().out == ""
    precision, recall = theirs["precision"][..., -1], theirs["recall"][..., -1]
    assert (precision[..., :3, :] > -1).any()
    assert np.isnan(own.precision[:, :, 3]).all()
    np.testing.assert_allclose(np.nan_to_num(own.precision, nan=-1), precision, atol=1e-12)
    np.testing.assert_allclose(np.nan_to_num(own.recall, nan=-1), recall, atol=1e-12)

    def mean(values):
        return pytest.approx(100 * values[values > -1].mean(), abs=1e-9)

    assert own.ap_percent() == mean(precision[..., 0])
    assert own.ap_percent(iou=0.5) == mean(precision[0, ..., 0])
    assert own.ap_percent(iou=0.75) == mean(precision[5, ..., 0])
    for place, area in enumerate(("all", "small", "medium", "large")):
        assert own.ap_percent(area) == mean(precision[..., place])
        assert own.ar_percent(area) == mean(recall[..., place])
    assert own.class_ap_percent(1) == mean(precision[:, :, 1, 0])
    assert own.class_ap_percent(1, iou=0.5) == mean(precision[0, :, 1, 0])
    assert own.class_ap_percent(3) is None
    assert 5 < own.ap_percent() < 95


def test_codes_of_masks_are_those_of_pycocotools():
    for each in random_images(4):
        pasted = paste_masks(each.masks, each.found.boxes, each.height, each.width) >= 0.5
        for code, mask in zip(each.found.masks, pasted, strict=True):
            np.testing.assert_array_equal(coco_mask.decode(code), mask)
            assert code["counts"].decode() == encoded(mask)["counts"]
        for place, code in enumerate(each.truth.masks, start=1):
            assert code["counts"].decode() == encoded(each.instances == place)["counts"]


def test_an_empty_mask_and_a_full_one_have_codes():
    instances = np.full((3, 5), 2, np.uint16)
    none, full = run_lengths_of_instances(instances, 2)
    assert coco_mask.area([none, full]).tolist() == [0, 15]
    assert run_lengths_of_instances(instances * 0, 0) == []
    outside = np.array([[50, 50, 60, 60]], "float32")
    [code] = run_lengths_of_boxes(np.ones((1, 28, 28)), outside, 20, 30)
    assert coco_mask.area(code) == 0


def overlap(a, b):
    """IoU of two boxes, from their sides."""
    wide, high = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high)


def confusion_one_by_one(image):
    """-> dict from (true, predicted) to a number: detections of the own class first, then those of other classes."""
    truth, found = image.truth, image.found
    order = sorted(range(len(found.scores)), key=lambda d: -found.scores[d])
    order = [d for d in order if found.scores[d] >= 0.5]
    pairs, taken, done = {}, set(), set()
    for only_own in (True, False):
        for d in order:
            if d in done:
                continue
            candidates = []
            for g in range(len(truth.boxes)):
                own = truth.classes[g] == found.classes[d]
                if g in taken or truth.ignored[g] or (only_own and not own):
                    continue
                value = overlap(found.boxes[d].astype(float), truth.boxes[g].astype(float))
                if value >= 0.5:
                    candidates.append((value, g))
            if candidates:
                g = max(candidates)[1]
                taken.add(g)
                done.add(d)
                key = (int(truth.classes[g]), int(found.classes[d]))
                pairs[key] = pairs.get(key, 0) + 1
            elif only_own and on_a_crowd(image, d):
                done.add(d)
            elif not only_own:
                key = (CLASSES, int(found.classes[d]))
                pairs[key] = pairs.get(key, 0) + 1
    for g in range(len(truth.boxes)):
        if g not in taken and not truth.ignored[g]:
            key = (int(truth.classes[g]), CLASSES)
            pairs[key] = pairs.get(key, 0) + 1
    return pairs


def on_a_crowd(image, d):
    box = image.found.boxes[d].astype(float)
    area = (box[2] - box[0]) * (box[3] - box[1])
    for g in np.flatnonzero(image.truth.ignored & (image.truth.classes == image.found.classes[d])):
        other = image.truth.boxes[g].astype(float)
        wide, high = (max(0.0, min(box[i + 2], other[i + 2]) - max(box[i], other[i])) for i in (0, 1))
        if wide * high / area >= 0.5:
            return True
    return False


def test_the_confusion_counts_pairs():
    images = random_images(30)
    expected = np.zeros((CLASSES + 1, CLASSES + 1), int)
    for each in images:
        for pair, count in confusion_one_by_one(each).items():
            expected[pair] += count
    figures = figures_of(images)
    np.testing.assert_array_equal(figures.confusion, expected)
    assert min(np.trace(expected) / 4, expected[CLASSES, :3].min(), expected[:3, CLASSES].min()) > 2
    assert expected[:3, :3].sum() - np.trace(expected) > 3
    objects = sum(np.bincount(each.truth.classes[~each.truth.ignored], minlength=CLASSES) for each in images)
    np.testing.assert_array_equal(figures.objects, objects)
    np.testing.assert_array_equal(figures.confusion[:CLASSES].sum(axis=1), objects)


def test_the_calibration_is_the_share_of_right_detections_by_score():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 80, 90]], "float32")
    truth = Truth(boxes, np.array([0, 1, 0]), np.array([False, False, True]), None)
    shown = np.concatenate([boxes, boxes[:2], boxes[2:]])
    scores = np.array([0.95, 0.94, 0.9, 0.31, 0.32, 0.94])
    collector = DetectionFiguresCollector(2, False)
    # The first and the second are right, the third and the last lie on an ignored object of their class or of another.
    collector.add(truth, Found(shown, np.array([0, 1, 0, 0, 0, 1]), scores, None))
    calibration = collector.finish().calibration
    filled = [(part.images, part.top1_percent, part.confidence_percent) for part in calibration.bins if part.images]
    assert filled == [(2, 0, pytest.approx(31.5)), (3, pytest.approx(200 / 3), pytest.approx(94 + 1 / 3))]
    error = 2 / 5 * 31.5 + 3 / 5 * (94 + 1 / 3 - 200 / 3)
    assert calibration.error_percent == pytest.approx(error, abs=1e-9)


def test_images_without_objects_or_detections_count():
    empty = Truth(*NOTHING[:2], np.zeros(0, bool), None)
    one = Found(np.array([[1, 2, 5, 6]], "float32"), np.array([1]), np.array([0.9]), None)
    collector = DetectionFiguresCollector(2, False)
    collector.add(empty, Found(*NOTHING, None))
    figures = collector.finish()
    assert (figures.boxes.ap_percent(), figures.calibration, figures.confusion.sum()) == (None, None, 0)
    collector.add(empty, one)
    assert collector.finish().confusion[2].tolist() == [0, 1, 0]


def test_agreement_pairs_detections_of_one_class():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 50, 50]], "float32")
    a = Found(boxes, np.array([0, 0, 1]), np.array([0.9, 0.8, 0.7]), None)
    b = Found(boxes[[0, 2, 1]], np.array([0, 0, 1]), np.array([0.9, 0.8, 0.7]), None)
    assert agreeing(a, a) == 3
    assert agreeing(a, b) == agreeing(b, a) == 1  # a class differs at the two other places
    assert agreeing(a, Found(*NOTHING, None)) == 0


def test_all_detections_count_unless_a_number_is_stated():
    corners = 20.0 * np.stack(np.meshgrid(np.arange(15), np.arange(10)), axis=-1).reshape(-1, 2)
    boxes, classes = np.concatenate([corners, corners + 9], axis=1), np.zeros(150, int)
    truth, found = Truth(boxes, classes, classes > 0, None), Found(boxes, classes, np.linspace(1, 0.1, 150), None)
    recall, limits = {}, {}
    for most in (None, 100, 120):
        collector = DetectionFiguresCollector(1, False, most)
        collector.add(
            Truth(boxes[:3], classes[:3], classes[:3] > 0, None), Found(*(each[:3] for each in found[:3]), None)
        )
        collector.add(truth, found)
        figures = collector.finish()
        recall[most], limits[most] = figures.boxes.ar_percent(), figures.max_detections
    assert recall == {None: 100, 100: pytest.approx(100 * 103 / 153), 120: pytest.approx(100 * 123 / 153)}
    assert limits == {None: 150, 100: 100, 120: 120}
