"""IoU and pixel accuracy, by NumPy and as a metric of Keras, against sets of pixels counted one by one."""

import math

import keras
import numpy as np
import pytest

from keras_resnet.evaluation import Segmentation, evaluate_segmentation, pixel_confusion
from keras_resnet.evaluation.segmentation_metric import SegmentationAccuracy
from keras_resnet.preprocessing import MEAN_COLOUR
from keras_resnet.variants import WholeImage

CLASSES = 6


def few_batches(void_shares=(0.0, 0.9, 0.3, 1.0)):
    """-> masks and scores of batches whose shares of void pixels, and whose sizes, differ; class 4 is in neither."""
    draw = np.random.default_rng(7)
    batches = []
    for number, share in enumerate(void_shares):
        shape = (number + 1, 5 + number, 8 - number)
        masks = draw.choice([0, 1, 2, 3, 5], shape, p=[0.5, 0.2, 0.15, 0.1, 0.05]).astype("uint8")
        scores = draw.normal(size=(*shape, CLASSES)).astype("float32")
        scores[..., 4] = -9
        np.put_along_axis(scores, masks[..., None].astype(int), 1.5, axis=-1)
        masks[draw.random(shape) < share] = 255
        batches.append((masks, scores))
    return batches


def by_sets(batches):
    """-> mean IoU and pixel accuracy in percent, from sets of pixels."""
    true = np.concatenate([masks.ravel() for masks, _ in batches])
    predicted = np.concatenate([scores.argmax(-1).ravel() for _, scores in batches])
    counted = {index for index in range(len(true)) if true[index] != 255}
    ious = []
    for label in range(CLASSES):
        a = {index for index in counted if true[index] == label}
        b = {index for index in counted if predicted[index] == label}
        if a | b:
            ious.append(100 * len(a & b) / len(a | b))
    assert len(ious) == CLASSES - 1
    return np.mean(ious), 100 * np.mean([true[index] == predicted[index] for index in counted])


def test_figures_are_those_of_the_sets_of_pixels():
    batches = few_batches()
    figures = Segmentation(sum(pixel_confusion(scores, masks) for masks, scores in batches))
    mean_iou, accuracy = by_sets(batches)
    assert figures.mean_iou_percent == pytest.approx(mean_iou, rel=1e-12)
    assert figures.pixel_accuracy_percent == pytest.approx(accuracy, rel=1e-12)
    assert np.isnan(figures.class_iou_percent).tolist() == [False] * 4 + [True, False]
    of_batches = [Segmentation(pixel_confusion(scores, masks)).mean_iou_percent for masks, scores in batches[:3]]
    assert abs(np.mean(of_batches) - mean_iou) > 1  # which a mean over batches would give
    assert figures.confusion.sum() == sum((masks != 255).sum() for masks, _ in batches)


def mean_score(masks, scores):
    return keras.ops.mean(scores)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_metric_of_keras_accumulates_over_batches(jit_compile):
    batches = few_batches()
    model = keras.Sequential([keras.layers.Input((None, None, CLASSES)), keras.layers.Identity()])
    for part in (batches, few_batches((0.5, 0.1))):
        model.compile(loss=mean_score, metrics=[SegmentationAccuracy(CLASSES)], jit_compile=jit_compile)
        figures = model.evaluate(((scores, masks) for masks, scores in part), verbose=0, return_dict=True)
        mean_iou, accuracy = by_sets(part)
        assert figures["mean_iou_percent"] == pytest.approx(mean_iou, rel=1e-6)
        assert figures["pixel_accuracy_percent"] == pytest.approx(accuracy, rel=1e-6)


def test_the_metric_counts_more_pixels_than_an_integer_holds():
    metric = SegmentationAccuracy(2)
    masks, scores = np.array([[[0, 1, 1]]], "uint8"), np.array([[[[1, 0], [0, 1], [1, 0]]]], "float32")
    metric.update_state(masks, scores)
    many = 2**20 - 3
    metric.low.assign(keras.ops.full((2, 2), many, dtype="int32"))
    metric.high.assign(keras.ops.full((2, 2), 3000, dtype="int32"))
    for _ in range(4):
        metric.update_state(masks, scores)
    matrix = np.asarray(metric.high, dtype="int64") * 2**20 + np.asarray(metric.low, dtype="int64")
    before = 3000 * 2**20 + many  # above 2^31
    np.testing.assert_array_equal(matrix, before + 4 * np.array([[1, 0], [1, 1]]))
    metric.reset_state()
    assert {key: float(value) for key, value in metric.result().items()} == {
        "mean_iou_percent": 0.0,
        "pixel_accuracy_percent": 0.0,
    }


def test_masks_without_a_counted_pixel_have_no_figures():
    figures = Segmentation(pixel_confusion(np.zeros((2, 3, 4, 5)), np.full((2, 3, 4), 255)))
    assert math.isnan(figures.mean_iou_percent)
    assert math.isnan(figures.pixel_accuracy_percent)
    assert np.isnan(figures.class_iou_percent).all()


@pytest.mark.parametrize(
    ("scores", "mask", "message"),
    [
        (np.zeros((3, 4, 5)), np.zeros((4, 3), int), r"the same height and width. Received: \[3, 4, 5\] and \[4, 3\]"),
        (np.full((3, 4, 5), np.nan), np.zeros((3, 4), int), "Received: NaN or infinity in 60 places"),
        (np.zeros((3, 4, 5)), np.full((3, 4), 5), r"must lie in 0..4. Received: 5..5"),
    ],
)
def test_what_can_not_be_compared_is_said(scores, mask, message):
    with pytest.raises(ValueError, match=message):
        pixel_confusion(scores, mask)


def bilinear(values, length, axis):
    """Half-pixel centres, two neighbours."""
    count = values.shape[axis]
    place = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    low = np.floor(place).astype(int)
    share = (place - low).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return np.take(values, low, axis) * (1 - share) + np.take(values, np.minimum(low + 1, count - 1), axis) * share


@pytest.mark.parametrize("contract", [WholeImage(), WholeImage(24, 40)], ids=str)
def test_masks_count_at_their_own_size(contract):
    """A network that says, in steps, how red a pixel is: resized scores give the confusion that NumPy's do."""
    draw, samples, expected, seen = np.random.default_rng(3), [], 0, []

    def predict(pixels):
        seen.append(pixels)
        return np.abs(pixels[..., :1] / 255 - np.linspace(0, 1, 4)) * -1

    for height, width in ((48, 60), (70, 50)):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[..., 0] = bilinear(bilinear(draw.uniform(0, 255, (4, 5)), height, 0), width, 1)
        mask = (pixels[..., 0] // 64).astype("uint8")
        mask[draw.random(mask.shape) < 0.2] = 255
        samples.append((pixels, mask))
    figures = evaluate_segmentation(predict, samples, contract, 4)
    for (pixels, mask), given in zip(samples, seen, strict=True):
        height, width = mask.shape
        if contract.height is None:
            np.testing.assert_array_equal(given, pixels[None])
            used = given[0]
        else:
            assert given.shape == (1, 24, 40, 3)
            factor = min(24 / height, 40 / width)
            used = given[0, : round(factor * height), : round(factor * width)]
            rest = given[0, used.shape[0] :, :], given[0, :, used.shape[1] :]
            assert all((part == MEAN_COLOUR).all() for part in rest)
        scores = np.abs(used[..., :1] / 255 - np.linspace(0, 1, 4)) * -1
        expected = expected + pixel_confusion(bilinear(bilinear(scores, height, 0), width, 1), mask)
    difference = np.abs(figures.confusion - expected).sum()
    assert difference <= (0 if contract.height is None else 0.002 * expected.sum())
    assert figures.pixel_accuracy_percent > 70
