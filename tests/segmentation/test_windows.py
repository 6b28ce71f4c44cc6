"""Large images in a segmentation network of free size: by windows without a word of the user, in bounded memory."""

import logging
import tracemalloc

import numpy as np
import pytest

from keras_resnet.answers import MASK, PROBABILITIES
from keras_resnet.evaluation.segmentation import pixel_classes, pixel_scores, resized, resized_classes
from keras_resnet.tasks.base import Asked
from keras_resnet.tasks.segment import view
from keras_resnet.variants import WholeImage

CLASSES = 5


def run(pixels):
    """Scores of a network that sees where a pixel is in its window: from its place and its colours."""
    height, width = pixels.shape[1:3]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    planes = [rows % 7 / 7, columns % 5 / 5, *np.moveaxis(pixels[0] / 255, 2, 0)]
    return {PROBABILITIES: np.stack(planes, axis=-1)[None].astype("float32")}


def asked(contract=None, network=run):
    return Asked("model.keras", network, contract or WholeImage(), None, CLASSES)


@pytest.fixture
def small_limits(monkeypatch):
    """Images of more than 64 x 64 pixels go by windows of 40 x 48."""
    monkeypatch.setattr(view, "WHOLE_PIXELS", 64 * 64)
    monkeypatch.setattr(view, "WINDOW", (40, 48))
    view._tell.cache_clear()
    yield
    view._tell.cache_clear()


def image(height, width):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def test_a_large_image_goes_by_windows_as_with_the_option(small_limits, caplog):
    pixels = image(70, 130)
    with caplog.at_level(logging.WARNING, "keras_resnet"):
        [own] = view.answers(asked(), [pixels])
    [given] = view.answers(asked(), [pixels], window=(40, 48))
    np.testing.assert_array_equal(own[PROBABILITIES], given[PROBABILITIES])
    assert [record.getMessage() for record in caplog.records] == [
        "model.keras: images of 70x130 pixels (height x width) are given in windows of 40x48, because more than 4,096 "
        "pixels at once take gigabytes. `predict` takes other windows by --window HxW, and whole images by --window "
        "70x130"
    ]


def test_the_line_comes_once_for_all_images_of_a_size(small_limits, caplog):
    with caplog.at_level(logging.WARNING, "keras_resnet"):
        view.answers(asked(), [image(70, 130), image(70, 130), image(80, 130)])
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("network", "pixels", "options"),
    [
        (asked(), image(64, 64), {}),
        (asked(), image(70, 130), {"window": (70, 130)}),
        (asked(), image(70, 130), {"longest_side": 64}),
        (asked(WholeImage(32, 32)), image(70, 130), {}),
    ],
)
def test_the_network_is_given_other_images_whole(small_limits, caplog, network, pixels, options):
    shapes = []

    def noted(batch):
        shapes.append(batch.shape[1:3])
        return run(batch)

    with caplog.at_level(logging.WARNING, "keras_resnet"):
        view.answers(network._replace(run=noted), [pixels], **options)
    assert len(shapes) == 1
    assert not caplog.records


def test_the_bound_on_the_longest_side_comes_first(small_limits):
    [answer] = view.answers(asked(), [image(140, 260)], longest_side=130)
    [given] = view.answers(asked(), [image(140, 260)], longest_side=130, window=(40, 48))
    np.testing.assert_array_equal(answer[PROBABILITIES], given[PROBABILITIES])


@pytest.mark.parametrize("size", [(30, 50), (70, 130), (40, 130), (41, 48), (133, 47)])
@pytest.mark.parametrize("contract", [WholeImage(), WholeImage(40, 48)])
def test_classes_alone_are_the_highest_probabilities(size, contract):
    def scores(batch):
        return run(batch)[PROBABILITIES]

    for window in (None, (40, 48)):
        all_scores = pixel_scores(scores, image(*size), contract, window)
        classes = pixel_classes(scores, image(*size), contract, window)
        assert classes.dtype == np.uint8
        np.testing.assert_array_equal(classes, all_scores.argmax(axis=2))
    [answer] = view.answers(asked(contract), [image(*size)], decided=True)
    np.testing.assert_array_equal(answer[MASK], pixel_classes(scores, image(*size), contract))


def test_the_first_of_equal_scores_wins():
    scores = np.zeros((4, 4, 3), np.float32)
    scores[:2, :, 1:] = 1
    np.testing.assert_array_equal(resized_classes(scores, 9, 7), resized(scores, 9, 7).argmax(axis=2))


def test_classes_of_a_large_image_never_have_all_scores_in_memory():
    classes, side = 50, 600

    def scores(batch):
        return np.zeros((*batch.shape[:3], classes), np.float32)

    pixels = np.zeros((side, side, 3), np.uint8)
    tracemalloc.start()
    try:
        pixel_classes(scores, pixels, WholeImage(), (64, 64))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Rows of one window with all scores, and copies of half of them; all scores of the image would take 72 MB.
    assert peak < 25_000_000
