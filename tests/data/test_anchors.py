"""Anchors against the objects of a set, and the contact sheet."""

import numpy as np
import pytest
from boxed_pictures import PICTURES, Drawn, Rectangle, write_coco, write_rows

from keras_resnet.data.reading import PLAIN
from keras_resnet.tasks.detect.anchors import best_ious, fit_of, proposed_sizes, taught_boxes
from keras_resnet.tasks.detect.contact_sheet import TILE_PIXELS, chosen_for_sheet, contact_sheet
from keras_resnet.tasks.detect.overlay import COLOURS
from keras_resnet.tasks.detect.sources import open_detected
from keras_resnet.variants import ANCHOR_SIZES, WholeImage

FEW = (10, 24, 50)


def boxes_of(seed, count=60):
    draw = np.random.default_rng(seed)
    corners = draw.uniform(0, 90, (count, 2))
    return np.concatenate([corners, corners + draw.uniform(3, 70, (count, 2))], axis=1)


def test_the_best_anchor_of_each_box_equals_a_search_over_all_anchors():
    boxes, best = boxes_of(1), np.zeros(60)
    for level, size in enumerate(FEW):
        for ratio in (0.5, 1, 2):
            half = np.array([size / ratio**0.5, size * ratio**0.5]) / 2  # width, height
            for x in range(-64, 256, 4 << level):
                for y in range(-64, 256, 4 << level):
                    low, high = np.subtract((x, y), half), np.add((x, y), half)
                    overlap = np.clip(np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low), 0, None).prod(1)
                    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (high - low).prod() - overlap
                    best = np.maximum(best, overlap / union)
    np.testing.assert_allclose(best_ious(boxes, FEW), best, rtol=1e-12)


def test_recall_by_its_numbers():
    boxes = np.array([[-16, -16, 16, 16], [-16, -12, 16, 12], [-8, -8, 8, 8], [0, 0, 4, 4.0]])
    fit = fit_of(boxes, (32,))
    # The second is met by the square, of which it is 3/4. The centre of each lies where an anchor lies, or inside it.
    ious = [1, 0.75, 0.25, 1 / 64]
    assert fit.recall_percent == {0.5: 50.0, 0.7: 50.0}
    assert fit.mean_iou_percent == pytest.approx(100 * np.mean(ious))
    assert np.isnan(fit_of(boxes[:0], ANCHOR_SIZES).mean_iou_percent)


def test_the_boxes_are_those_of_the_resized_images_without_ignored_objects(tmp_path):
    source = open_detected(str(write_coco(tmp_path)), "all", None, PLAIN)
    source.objects[0].ignored[1] = True
    boxes = taught_boxes([source], WholeImage(100, 140))
    np.testing.assert_allclose(boxes, [[20, 10, 60, 90], [3 * 64 / 41, 7 * 100 / 64, 20 * 64 / 41, 60 * 100 / 64]])


def test_proposed_anchors_fit_better_and_rise():
    draw = np.random.default_rng(2)
    centres = draw.uniform(40, 200, (300, 2))
    sides = np.where(draw.random((300, 1)) < 0.4, [14, 20], [90, 60]) * draw.uniform(0.9, 1.1, (300, 2))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    proposed = proposed_sizes(boxes)
    assert proposed == proposed_sizes(boxes)
    assert list(proposed) == sorted(proposed)
    before, after = (fit_of(boxes, sizes) for sizes in (ANCHOR_SIZES, proposed))
    assert before.recall_percent[0.7] < 45
    assert after.recall_percent[0.7] > 75
    assert proposed_sizes(boxes[:0]) == ANCHOR_SIZES
    assert len(proposed_sizes(boxes[:1], levels=3)) == 3


def test_the_contact_sheet_shows_boxes_masks_and_reasons(tmp_path):
    pytest.importorskip("matplotlib")
    pictures = (*PICTURES, Drawn("3.png", 20, 320, (Rectangle("ant", (100, 4, 200, 16)),)))
    source = open_detected(str(write_coco(tmp_path, pictures, masks=True)), "all", None, PLAIN)
    (tmp_path / "images" / "2.png").write_bytes(b"no image")
    sheet = np.asarray(contact_sheet(source, [3, 2]))
    assert sheet.shape[1] == 4 * (TILE_PIXELS + 8) + 8
    [top] = np.flatnonzero((sheet[:, 8 + 150] == COLOURS[1]).all(axis=1))[[0]]  # above the box of the ant, class 1
    tile = sheet[top - 4 : top + 16, 8 : 8 + TILE_PIXELS]  # shown at its own size
    edge = np.zeros((20, 320), bool)
    edge[4:16, 100:200] = True
    edge[6:14, 102:198] = False
    np.testing.assert_array_equal((tile == COLOURS[1]).all(axis=2), edge)
    inside = pictures[3].pixels()[6:14, 102:198]
    np.testing.assert_array_equal(tile[6:14, 102:198], (0.65 * inside + 0.35 * COLOURS[1]).astype(np.uint8))
    other = sheet[top + 40 :, 8 + TILE_PIXELS + 8 : 8 + 2 * TILE_PIXELS + 8]
    assert ((other == 230).all(axis=2).sum() > TILE_PIXELS * 50) & (other.min() < 60)  # grey, with a reason below


def test_the_images_of_the_sheet_are_spread_over_the_set(tmp_path):
    source = open_detected(str(write_rows(tmp_path)), "all", None, PLAIN)
    assert (chosen_for_sheet(source, 2), chosen_for_sheet(source, 9)) == ([0, 1], [0, 1, 2])
