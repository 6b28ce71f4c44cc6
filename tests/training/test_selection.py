"""The rule by which an epoch becomes model.keras, and the intervals that it goes by."""

import math
from statistics import NormalDist

import keras
import numpy as np
import pytest

from keras_resnet.evaluation import Segmentation, pixel_confusion
from keras_resnet.evaluation.segmentation_metric import SegmentationInterval
from keras_resnet.evaluation.uncertainty import wilson_interval_percent
from keras_resnet.training.checkpoint import _progress_of
from keras_resnet.training.selection import Validated, interval_columns, is_better, takes_the_place


def chosen(scores: list[float], losses: list[float], images: int = 145) -> int:
    """Validation top-1 and loss of each epoch -> the epoch that is the best at the end, from 1."""
    history: list[dict[str, float]] = []
    best = 0
    for score, loss in zip(scores, losses, strict=True):
        low, high = wilson_interval_percent(score, images)
        ends = {"val_top1_low_percent": low, "val_top1_high_percent": high}
        history.append({"val_top1_percent": score, "val_loss": loss} | ends)
        if takes_the_place(history, best, "top1_percent"):
            best = len(history)
    return best


@pytest.mark.parametrize(
    ("right", "losses", "best"),
    [
        ([120, 144, 144, 144], [0.5, 0.093, 0.06, 0.051], 4),  # of equal scores the lower loss
        ([144, 144], [0.051, 0.051], 1),  # of equal epochs the earlier
        ([144, 143], [0.093, 0.051], 2),  # one image of 145 tells nothing, the loss does
        ([144, 143], [0.093, 0.088], 1),  # which is not clearly lower
        ([142, 143], [0.051, 0.093], 1),
        ([142, 143], [0.088, 0.093], 2),
        ([143, 144], [0.051, 0.093], 2),  # 143 is within the interval of 144, and 144 just above that of 143
        ([145, 145], [0.051, 0.093], 1),  # no score is above the interval of all
        ([130, 144], [0.1, 0.3], 2),  # a score that can be told apart wins whatever its loss
        ([144, 130], [0.3, 0.1], 1),
        ([144, 143, 142, 141, 140], [0.5, 0.4, 0.3, 0.2, 0.1], 2),  # no sinking: 142 is below the interval of 144
        ([140, 144], [math.nan, 0.5], 2),
        ([144, 144], [math.inf, 0.5], 2),
        ([144, 144], [0.5, math.nan], 1),
    ],
)
def test_the_best_epoch(right: list[int], losses: list[float], best: int) -> None:
    assert chosen([100 * count / 145 for count in right], losses) == best


def test_more_images_tell_more() -> None:
    """One image of 145 is within the error; the same difference between shares of ten times the images is not."""
    scores, losses = [100 * 144 / 145, 100 * 143 / 145], [0.093, 0.051]
    assert chosen(scores, losses, images=145) == 2
    assert chosen(scores, losses, images=1450) == 1


def test_rows_of_an_older_run_have_no_interval() -> None:
    row = {"val_mean_iou_percent": 60.0, "val_loss": 0.4}
    old = Validated.of_row(row, "mean_iou_percent")
    assert (old.low_percent, old.high_percent) == (60.0, 60.0)
    new = Validated(60.5, 58.0, 63.0, 0.8)
    assert is_better(new, old, old)  # as that run decided until now
    assert not is_better(Validated(59.9, 58.0, 63.0, 0.1), old, old)


def test_a_checkpoint_of_an_older_run_names_its_best_epoch() -> None:
    history = [{"epoch": n, "val_top1_percent": score} for n, score in ((1, 70.0), (2, 80.0), (3, 80.0))]
    fields = {"step": 9, "epoch": 3, "history": history}
    assert _progress_of(fields | {"best_score": 80.0}).best_epoch == 2
    assert _progress_of(fields | {"best_score": None}).best_epoch == 0
    assert _progress_of(fields | {"best_epoch": 3}).best_epoch == 3


def test_columns_of_an_interval() -> None:
    assert interval_columns("val_top1_percent") == ("val_top1_low_percent", "val_top1_high_percent")


@pytest.mark.parametrize(("right", "count"), [(0, 7), (3, 7), (144, 145), (145, 145), (9_300, 10_000)])
@pytest.mark.parametrize("z", [1.0, 1.96])
def test_the_ends_of_wilson_s_interval_are_shares_that_lie_z_errors_away(right: int, count: int, z: float) -> None:
    """Its definition: the true shares p at which the share found is z errors of p away, sqrt(p (1 - p) / n) each."""
    low, high = (end / 100 for end in wilson_interval_percent(100 * right / count, count, z))
    share = right / count
    assert 0 <= low <= share <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        assert abs(share - end) == pytest.approx(z * math.sqrt(end * (1 - end) / count), rel=1e-9)
    assert (low == 0) == (right == 0)
    assert (high == 1) == (right == count)


def test_wilson_s_interval_holds_the_true_share_as_often_as_it_says() -> None:
    draws = np.random.default_rng(3).binomial(145, 0.93, 4000)
    for z in (1.0, 1.96):
        ends = np.array([wilson_interval_percent(100 * right / 145, 145, z) for right in draws])
        held = np.mean((ends[:, 0] <= 93) & (ends[:, 1] >= 93))
        assert held == pytest.approx(2 * NormalDist().cdf(z) - 1, abs=0.04)


def images_with_scores(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """-> masks uint8 `[1, 9, 11]` with void pixels, scores `[1, 9, 11, 4]`, some images known better."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        masks = draw.choice(4, (1, 9, 11), p=[0.6, 0.25, 0.1, 0.05]).astype("uint8")
        scores = draw.normal(size=(1, 9, 11, 4)).astype("float32")
        known = draw.random((1, 9, 11)) < draw.uniform(0.2, 1)
        scores[known, masks[known]] = 5
        masks[draw.random((1, 9, 11)) < 0.1] = 255
        made.append((masks, scores))
    return made


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_interval_of_the_mean_iou_is_the_bootstrap_s(jit_compile: bool) -> None:
    images = images_with_scores(60, seed=5)
    model = keras.Sequential([keras.layers.Input((None, None, 4)), keras.layers.Identity()])
    mean = lambda masks, scores: keras.ops.mean(scores)  # noqa: E731
    model.compile(loss=mean, metrics=[SegmentationInterval(4)], jit_compile=jit_compile)
    figures = model.evaluate(((scores, masks) for masks, scores in images), verbose=0, return_dict=True)
    matrices = np.stack([pixel_confusion(scores, masks) for masks, scores in images])
    whole = Segmentation(matrices.sum(0)).mean_iou_percent
    assert figures["mean_iou_percent"] == pytest.approx(whole, rel=1e-5)
    low, high = figures["mean_iou_low_percent"], figures["mean_iou_high_percent"]
    assert (low + high) / 2 == pytest.approx(whole, rel=1e-5)
    draw = np.random.default_rng(6)
    drawn = [Segmentation(matrices[draw.integers(0, 60, 60)].sum(0)).mean_iou_percent for _ in range(4000)]
    assert (high - low) / 2 == pytest.approx(np.std(drawn), rel=0.06)


def test_one_image_tells_nothing_of_the_others() -> None:
    metric = SegmentationInterval(4)
    [(masks, scores)] = images_with_scores(1, seed=8)
    metric.update_state(masks, scores)
    figures = {name: float(value) for name, value in metric.result().items()}
    assert (figures["mean_iou_low_percent"], figures["mean_iou_high_percent"]) == (0.0, 100.0)
