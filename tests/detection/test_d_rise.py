"""D-RISE against its definition, on detectors whose scores are known functions of the pixels; and the command."""

import numpy as np
import pytest
from command_line import in_process
from PIL import Image
from small_detector import small_detector

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, NUM_DETECTIONS
from keras_resnet.evaluation.detection import ious
from keras_resnet.explain import d_rise
from keras_resnet.explain.random_masks import BATCH, CELLS
from keras_resnet.model_files import save_model
from keras_resnet.preprocessing import MEAN_COLOUR
from keras_resnet.tasks.base import Asked
from keras_resnet.variants import WholeImage

HEIGHT, WIDTH = 96, 128
# An image of 120 x 200 fills 77 x 128 pixels of the network's input.
AREA = np.s_[:77, :128]
# Left, top, right, bottom of the boxes, by class; the pixels by which the detector scores them are a small part.
PLACES = {0: ((20, 10, 60, 60), np.s_[20:34, 30:44]), 2: ((70, 5, 120, 70), np.s_[40:60, 95:115])}


class Detector:
    """A detector with one object of each class in `PLACES`, whose score is the share of its pixels that are white."""

    def __init__(self, boxes=PLACES):
        self.boxes, self.given = boxes, []

    def __call__(self, pixels):
        assert pixels.dtype == np.uint8
        self.given.append(pixels)
        count, classes = len(pixels), len(self.boxes)
        found = {
            BOXES: np.zeros((count, 5, 4), "float32"),
            BOX_SCORES: np.zeros((count, 5), "float32"),
            LABELS: np.full((count, 5), -1),
            NUM_DETECTIONS: np.full(count, classes),
        }
        for row, image in enumerate(pixels):
            scores = [image[part].astype(float).mean() / 255 for _, part in self.boxes.values()]
            for place, index in enumerate(np.argsort(scores)[::-1]):
                label = [*self.boxes][index]
                found[BOXES][row, place] = self.boxes[label][0]
                found[BOX_SCORES][row, place], found[LABELS][row, place] = scores[index], label
        return found


def asked_of(run):
    return Asked("detector", run, WholeImage(HEIGHT, WIDTH), None, 3)


@pytest.fixture(scope="module")
def pixels():
    """Grey, and brighter where the scores come from; the second place is the brightest."""
    image = np.full((120, 200, 3), 120, np.uint8)
    scale = 200 / 128
    for brightness, (_, (rows, columns)) in zip((180, 250), PLACES.values(), strict=True):
        (top, bottom), (left, right) = ((round(scale * edge) for edge in (s.start, s.stop)) for s in (rows, columns))
        image[top - 2 : bottom + 2, left - 2 : right + 2] = brightness
    return image


def test_the_heat_lies_where_the_score_comes_from(pixels):
    found = d_rise(asked_of(Detector()), pixels, top=5, masks=1000)
    assert found.labels.tolist() == [2, 0]
    np.testing.assert_allclose(found.scores, [250 / 255, 180 / 255], atol=0.01)
    np.testing.assert_array_equal(found.boxes, [PLACES[2][0], PLACES[0][0]])
    assert (found.heat.shape, found.heat.dtype, found.pixels.shape) == ((2, 77, 128), np.float32, (77, 128, 3))
    np.testing.assert_array_equal(found.heat.max(axis=(1, 2)), 1)
    assert found.heat.min() >= 0
    for label, heat in zip(found.labels, found.heat, strict=True):
        rows, columns = PLACES[int(label)][1]
        cell = HEIGHT // CELLS, WIDTH // CELLS  # a mask hides no less
        near = np.s_[rows.start - cell[0] : rows.stop + cell[0], columns.start - cell[1] : columns.stop + cell[1]]
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        assert rows.start <= row < rows.stop
        assert columns.start <= column < columns.stop
        strong = np.where(heat > 0.25, heat, 0)
        assert strong[near].sum() / strong.sum() > 0.99
        area = heat[near].size / heat.size
        assert heat[near].mean() > 10 * (heat.sum() - heat[near].sum()) / (heat.size * (1 - area))


def test_it_is_the_covariance_of_masks_and_similarities(pixels):
    """The masks are read off the images that the detector was given."""
    boxes = {0: ((20, 10, 60, 60), np.s_[20:34, 30:44]), 1: ((21, 12, 64, 58), np.s_[0:30, 0:90])}
    white, detector = np.full_like(pixels, 255), Detector(boxes)
    count = 2 * BATCH + 3
    found = d_rise(asked_of(detector), white, top=2, masks=count)
    batches = detector.given[1:]  # behind the whole image
    assert [len(batch) for batch in batches] == [BATCH, BATCH, 3]
    masked = np.concatenate(batches).astype(float)
    mean = np.array(MEAN_COLOUR)
    np.testing.assert_array_equal(masked[:, 77:], np.broadcast_to(mean, masked[:, 77:].shape))  # beside the image
    masks = ((masked[:, *AREA] - mean) / (255 - mean)).mean(axis=3)
    assert masks.min() == 0
    assert masks.max() == 1
    assert abs(masks.mean() - 0.5) < 0.02
    corner = masks[:, 0, 0]
    assert ((corner > 0.05) & (corner < 0.95)).any()  # the cells are moved: their edges lie elsewhere in each mask
    for box, label, heat in zip(found.boxes, found.labels, found.heat, strict=True):
        similar = []
        for image in masked:
            answer = Detector(boxes)(image[None].astype(np.uint8))
            similar.append(
                max(
                    score * ious(box[None], other[None])[0, 0] * (own == label)
                    for other, score, own in zip(
                        answer[BOXES][0], answer[BOX_SCORES][0], answer[LABELS][0], strict=True
                    )
                )
            )
        covariance = ((masks - masks.mean(axis=0)) * (np.array(similar) - np.mean(similar))[:, None, None]).mean(axis=0)
        expected = covariance.clip(0) / covariance.max()
        np.testing.assert_allclose(heat, expected, atol=0.01)  # pixels are whole numbers
        assert expected.std() > 0.1


def test_the_chosen_detections(pixels):
    detector = asked_of(Detector())
    assert d_rise(detector, pixels, masks=2).labels.tolist() == [2]
    assert d_rise(detector, pixels, class_index=0, top=3, masks=2).labels.tolist() == [0]
    dark = d_rise(detector, pixels // 3, top=3, masks=2)
    assert (dark.heat.shape, len(dark.boxes)) == ((0, 77, 128), 0)
    assert d_rise(detector, pixels // 3, class_index=2, masks=2).labels.tolist() == [2]  # whatever its score
    assert len(d_rise(detector, pixels, class_index=1, masks=2).heat) == 0


def test_nothing_speaks_for_the_detection(pixels):
    """Its score does not depend on the pixels."""

    def run(images):
        answer = Detector()(images)
        answer[BOX_SCORES][:, :2] = 0.9, 0.8
        answer[LABELS][:, :2] = 2, 0
        answer[BOXES][:, :2] = PLACES[2][0], PLACES[0][0]
        return answer

    np.testing.assert_array_equal(d_rise(asked_of(run), pixels, top=2, masks=20).heat, np.zeros((2, 77, 128)))


def test_equal_calls_have_equal_maps_and_progress_is_told(pixels):
    told = []
    first = d_rise(asked_of(Detector()), pixels, masks=BATCH + 1, show=told.append)
    assert told == [BATCH, BATCH + 1]
    np.testing.assert_array_equal(d_rise(asked_of(Detector()), pixels, masks=BATCH + 1).heat, first.heat)


# --- the command --------------------------------------------------------------------------------------------------

NAMES = ["cat", "dog"]


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """Folder with a detector of 96 x 96 pixels, an image of another size, and a file that is none."""
    root = tmp_path_factory.mktemp("user")
    save_model(small_detector(), root / "model.keras", NAMES, WholeImage(96, 96))
    draw = np.random.default_rng(1)
    Image.fromarray(draw.integers(0, 256, (60, 110, 3), np.uint8)).save(root / "one.png")
    (root / "broken.png").write_bytes(b"")
    return root


def test_each_detection_is_drawn_beside_its_heatmap(user, tmp_path):
    pytest.importorskip("matplotlib")
    import keras_resnet

    network, pixels = keras_resnet.load(user / "model.keras"), np.asarray(Image.open(user / "one.png"))
    label = int(np.bincount(network.predict([pixels])[0]["labels"]).argmax())
    command = ["explain", user / "one.png", "--model", user / "model.keras", "--out", tmp_path, "--masks", "20"]
    status, lines, errors = in_process(*command, "--class", NAMES[label], "--top", "2")
    assert (status, errors) == (0, [])
    found = d_rise(network.asked, pixels, label, 2, 20)
    scores = [f"{NAMES[label]}  {100 * score:.2f} %" for score in found.scores]
    assert len(scores) == 2
    path = tmp_path / "one-explained.png"
    assert lines == [f"{path}: {', '.join(scores)}"]
    picture = np.asarray(Image.open(path))
    height, width = found.pixels.shape[:2]
    factor = -(-224 // height)  # small images are enlarged
    pair = factor * height + 4
    assert picture.shape == (2 * pair + 3 * 18, 2 * factor * width + 8, 3)
    for place, box in enumerate(found.boxes):
        top = place * (pair + 18)
        expected = np.kron(found.pixels, np.ones((factor, factor, 1), np.uint8))
        left = picture[top : top + factor * height, : factor * width]
        rows, columns = np.nonzero((left != expected).any(axis=2))
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(edges, factor * box, atol=1)  # nothing but the frame is drawn


def test_an_image_without_detections_and_a_file_that_is_none(user, tmp_path):
    pytest.importorskip("matplotlib")
    grey = user / "grey.png"
    Image.new("RGB", (96, 96), MEAN_COLOUR).save(grey)
    command = ["explain", user / "broken.png", grey, "--model", user / "model.keras", "--out", tmp_path, "--masks", "2"]
    status, lines, errors = in_process(*command)
    assert status == 1
    assert errors == [f"{user / 'broken.png'}: the file is empty"]
    assert len(lines) == 1
    assert lines[0].startswith(f"{tmp_path / 'grey-explained.png'}: ")


def test_wrong_options(user, tmp_path, model_file):
    pytest.importorskip("matplotlib")
    command = ["explain", user / "one.png", "--out", tmp_path, "--model"]
    status, _, errors = in_process(*command, user / "model.keras", "--class", "dgo")
    assert status == 1
    assert "--class must be the name of a class, or an index in 0..1. Received: dgo (did you mean dog?)" in errors[0]
    status, _, errors = in_process(*command, model_file, "--masks", "20")
    assert status == 1
    assert "--masks: only for detection" in errors[0]
