"""Images of any size through a detector: places of the boxes, masks of cut boxes, and windows."""

from typing import NamedTuple

import numpy as np
import pytest

from keras_resnet.masks_in_boxes import masks_of_parts, paste_masks
from keras_resnet.preprocessing import MEAN_COLOUR
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.base import Asked
from keras_resnet.tasks.detect.view import answers
from keras_resnet.variants import WholeImage

ROWS = 12


class Rectangle(NamedTuple):
    """An object: its own value of red, a multiple of ten; its class, for which green stands; its corners."""

    red: int
    label: int
    box: tuple[int, int, int, int]


def picture(height, width, rectangles):
    pixels = np.zeros((height, width, 3), np.uint8)
    for red, label, (left, top, right, bottom) in rectangles:
        pixels[top:bottom, left:right] = (red, 20 * label, 255)
    return pixels


def run(pixels):
    """A network that finds each rectangle, with a score that grows with its area; masks are full."""
    boxes, scores = np.zeros((len(pixels), ROWS, 4), "float32"), np.zeros((len(pixels), ROWS), "float32")
    labels, counts = np.full((len(pixels), ROWS), -1, "int32"), np.zeros(len(pixels), "int32")
    masks = np.zeros((len(pixels), ROWS, 28, 28), "float32")
    for number, image in enumerate(pixels):
        found = []
        covered = image[..., 2] > 127  # at least half of the pixel, where the image was resized
        numbers = np.round(25.5 * image[..., 0] / np.maximum(image[..., 2], 1)) * covered
        for number_of_object in np.unique(numbers[covered]):
            rows, columns = np.nonzero(numbers == number_of_object)
            label = round(float(image[..., 1][numbers == number_of_object].mean()) / 20)
            found.append((len(rows) / 1e5, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), label))
        for row, (score, box, label) in enumerate(sorted(found, reverse=True)):
            boxes[number, row], scores[number, row], labels[number, row], masks[number, row] = box, score, label, 1
        counts[number] = len(found)
    return {"boxes": boxes, "scores": scores, "labels": labels, "num_detections": counts, "masks": masks}


def asked(height, width, network=run):
    return Asked("model.keras", network, WholeImage(height, width), None, 3)


RECTANGLES = [
    Rectangle(10, 0, (5, 7, 25, 20)),
    Rectangle(20, 1, (90, 30, 115, 44)),  # across the middle of the image
    Rectangle(30, 2, (170, 60, 200, 80)),
    Rectangle(40, 0, (60, 66, 95, 95)),
]


def boxes_by_label(answer):
    return sorted((int(label), *box) for label, box in zip(answer["labels"], answer["boxes"].tolist(), strict=True))


def test_windows_find_each_object_once_where_it_is():
    pixels = picture(100, 200, RECTANGLES)
    expected = sorted((r.label, *map(float, r.box)) for r in RECTANGLES)
    [whole] = answers(asked(100, 200), [pixels])
    assert boxes_by_label(whole) == expected
    blind = np.zeros_like(pixels)
    for batch in (1, 3):  # in other orders and batches
        images = [pixels, blind, pixels[:, ::-1]][:batch]
        found = answers(asked(64, 80), images, window=(64, 80))
        assert {len(each["scores"]) for each in found[1:2]} <= {0}
        assert (np.diff(found[0]["scores"]) <= 0).all()
        for box in found[0]["boxes"]:
            overlap = [np.abs(box - rectangle.box).max() for rectangle in RECTANGLES]
            assert min(overlap) <= 3  # the whole image is given at two fifths of its size
        assert sorted(found[0]["labels"].tolist()) == [0, 0, 1, 2]
    mirrored = sorted((r.label, 200.0 - r.box[2], r.box[1], 200.0 - r.box[0], r.box[3]) for r in RECTANGLES)
    np.testing.assert_allclose(boxes_by_label(found[2]), mirrored, atol=3)


def test_an_object_larger_than_the_windows_is_found_in_the_whole_image():
    pixels = picture(100, 200, [Rectangle(10, 1, (20, 10, 150, 90)), Rectangle(20, 1, (160, 40, 180, 52))])
    [found] = answers(asked(64, 80), [pixels], window=(64, 80))
    np.testing.assert_allclose(found["boxes"], [[20, 10, 150, 90], [160, 40, 180, 52]], atol=3)


def test_objects_of_two_classes_may_overlap():
    pixels = picture(100, 200, [])

    def network(batch):
        answer = run(batch)
        answer["boxes"][:, :3] = [[10, 10, 40, 40], [11, 10, 40, 40], [10, 11, 40, 40]]
        answer["scores"][:, :3] = [0.9, 0.8, 0.7]
        answer["labels"][:, :3] = [1, 1, 2]
        answer["num_detections"][:] = 3
        return answer

    [found] = answers(asked(64, 80, network), [pixels], window=(64, 80))
    at_origin = found["boxes"][:, 0] < 15
    assert sorted(found["labels"][at_origin & (found["boxes"][:, 1] < 15)].tolist()) == [1, 2]


def test_boxes_are_scaled_by_side_and_lie_in_the_image():
    # 75 x 101 pixels become 48 x 64.635, rounded to 65 columns; below them is the filled part.
    def network(batch):
        assert (batch[0, 48:] == MEAN_COLOUR).all()
        boxes = np.zeros((1, 4, 4), "float32")
        boxes[0, :3] = [[13, 12, 65, 60], [10, 50, 20, 70], [2, 4, 26, 36]]
        scores = np.array([[0.9, 0.8, 0.7, 0]], "float32")
        return {
            "boxes": boxes,
            "scores": scores,
            "labels": np.array([[1, 0, 2, -1]]),
            "num_detections": np.array([3]),
            "masks": np.tile(np.linspace(0, 1, 28, dtype="float32")[:, None], (1, 4, 1, 28)),
        }

    [found] = answers(asked(80, 65, network), [np.zeros((75, 101, 3), np.uint8)])
    across, down = 101 / 65, 75 / 48
    expected = [[13 * across, 12 * down, 101, 75], [2 * across, 4 * down, 26 * across, 36 * down]]
    np.testing.assert_allclose(found["boxes"], expected, rtol=1e-6)
    assert found["labels"].tolist() == [1, 2]
    assert set(found) == {"boxes", "scores", "labels", "masks"}
    last_rows = found["masks"][:, -1, 3]  # three quarters of the first box remain, and all of the second one
    np.testing.assert_allclose(last_rows, [0.75, 1], atol=0.02)


def test_a_mask_stays_where_it_was_when_its_box_is_cut():
    draw = np.random.default_rng(2)
    smooth = np.outer(np.hanning(28), np.hanning(28)) + 0.1 * draw.random((28, 1))
    masks = np.stack([smooth, smooth.T]).astype("float32")
    boxes = np.array([[-20, 10, 60, 50], [10, 12, 70, 55]], "float32")
    parts = np.clip(boxes, 0, 64)
    cut = masks_of_parts(masks, boxes, parts)
    before, after = (paste_masks(*pair, 64, 64) for pair in ((masks, boxes), (cut, parts)))
    inside = (slice(None), slice(14, 48), slice(3, 60))
    np.testing.assert_allclose(after[inside], before[inside], atol=0.04)
    assert np.abs(paste_masks(masks, parts, 64, 64)[inside] - before[inside]).max() > 0.3  # of masks that are not cut
    np.testing.assert_array_equal(masks_of_parts(masks, boxes, boxes), masks)


@pytest.mark.parametrize("window", [None, (100, 200), (300, 300)])
def test_an_image_that_fits_into_a_window_is_given_once(window):
    given = []

    def network(batch):
        given.append(batch.shape)
        return run(batch)

    answers(asked(100, 200, network), [picture(100, 200, RECTANGLES)], window=window)
    assert given == [(1, 100, 200, 3)]


def test_few_images_are_given_to_a_detector_at_once():
    """The parts of the maps in all boxes of 32 images would take gigabytes."""
    contract = WholeImage(800, 800)
    assert [TASKS["detect"].batch_size(contract, wanted) for wanted in (1, 3, 32)] == [1, 3, 4]
