"""Losses, figures and metrics of the task `tag`, against NumPy and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from keras_resnet.evaluation.uncertainty import wilson_interval_percent
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.tag.figures import average_precision, f1
from keras_resnet.tasks.tag.loss import TagLoss
from keras_resnet.tasks.tag.metric import TagAccuracy, TagDecision
from keras_resnet.tasks.tag.training import TaggerTraining
from keras_resnet.training.recipe import Recipe

TAG = TASKS["tag"]
DIGITS = [str(digit) for digit in range(10)]


# --- losses -------------------------------------------------------------------------------------------------------


def loss_by_numpy(kind: str, y: np.ndarray, z: np.ndarray) -> float:
    p = 1 / (1 + np.exp(-z))
    if kind == "binary":
        terms = y * np.log(p) + (1 - y) * np.log(1 - p)
    elif kind == "focal":
        terms = y * (1 - p) ** 2 * np.log(p) + (1 - y) * p**2 * np.log(1 - p)
    else:
        lowered = np.maximum(p - 0.05, 0)
        terms = y * (1 - p) * np.log(p) + (1 - y) * lowered**4 * np.log(1 - lowered)
    return -terms.mean()


@pytest.mark.parametrize("kind", TAG.losses)
@pytest.mark.parametrize("soft", [False, True])
def test_losses_are_their_formulas(kind, soft):
    generator = np.random.default_rng(1)
    y = generator.random((6, 5)) if soft else (generator.random((6, 5)) < 0.3).astype(float)
    z = generator.normal(-1, 3, (6, 5))
    received = float(TagLoss(kind)(y.astype("float32"), z.astype("float32")))
    assert received == pytest.approx(loss_by_numpy(kind, y, z), rel=1e-5)


@pytest.mark.parametrize("kind", TAG.losses)
def test_losses_and_their_gradients_stay_finite_for_the_surest_logits(kind):
    import tensorflow as tf

    logits = tf.Variable([[-200.0, 200.0, -200.0, 200.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = TagLoss(kind)(tf.constant([[0.0, 0.0, 1.0, 1.0, 1.0]]), logits)
    gradient = tape.gradient(loss, logits).numpy()
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert gradient[0, 2] < 0  # the class that is there and was denied is still learned


def test_easy_absent_classes_count_for_nothing_in_the_asymmetric_loss():
    assert float(TagLoss("asymmetric")(np.zeros((1, 3), "float32"), np.full((1, 3), -3.0, "float32"))) == 0
    assert float(TagLoss("asymmetric")(np.zeros((1, 3), "float32"), np.full((1, 3), -2.0, "float32"))) > 0


# --- figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_average_precision_and_f1_are_those_of_scikit_learn_with_ties_too(digits):
    generator = np.random.default_rng(digits)
    tags = (generator.random((70, 6)) < [0.05, 0.2, 0.4, 0.6, 0.9, 0.0]).astype("uint8")
    probabilities = np.round(0.3 * tags + 0.7 * generator.random((70, 6)), digits)
    received = average_precision(tags, probabilities)
    assert np.isnan(received[5])  # no image has it
    for index in range(5):
        assert received[index] == pytest.approx(average_precision_score(tags[:, index], probabilities[:, index]))
    decided = probabilities >= 0.6
    figures = f1(tags, decided)
    assert figures.micro == pytest.approx(f1_score(tags, decided, average="micro"))
    assert figures.macro == pytest.approx(f1_score(tags[:, :5], decided[:, :5], average="macro"))
    np.testing.assert_allclose(figures.of_class[:5], f1_score(tags[:, :5], decided[:, :5], average=None))


def test_equal_scores_are_taken_together():
    tags, probabilities = np.array([[1], [0], [1], [0]]), np.array([[0.9], [0.5], [0.5], [0.5]])
    # Half of the images with the class at precision 1, half where all four are taken, at 2 of 4; in either order.
    assert average_precision(tags, probabilities) == [0.75]
    assert average_precision(tags[::-1], probabilities[::-1]) == [0.75]


def best_micro_f1(tags: np.ndarray, probabilities: np.ndarray) -> float:
    return max(f1(tags, probabilities >= threshold).micro for threshold in np.unique(probabilities))


@pytest.mark.parametrize("from_logits", [False, True])
def test_the_metric_of_batches_is_the_figure_of_all_images(from_logits):
    generator = np.random.default_rng(3)
    tags = (generator.random((90, 4)) < [0.1, 0.3, 0.7, 0.0]).astype("float32")
    logits = (3 * tags + generator.normal(-2, 2, (90, 4))).astype("float32")
    probabilities = (1 / (1 + np.exp(-logits))).astype("float32")
    metric = TagAccuracy(4, from_logits=True, steps=512) if from_logits else TagDecision(4)
    for part in (slice(0, 50), slice(50, 90)):
        metric.update_state(tags[part], (logits if from_logits else probabilities)[part])
    figures = {name: float(value) for name, value in metric.result().items()}
    expected = 100 * np.nanmean(average_precision(tags.astype(int), probabilities))
    assert figures[TAG.score] == pytest.approx(expected, abs=0.5)
    if not from_logits:
        decided = f1(tags.astype(int), probabilities >= figures["threshold"])
        assert 100 * decided.micro == pytest.approx(figures["micro_f1_percent"], abs=1e-3)
        assert 100 * decided.micro == pytest.approx(100 * best_micro_f1(tags.astype(int), probabilities), abs=0.7)
        counts = tags.sum(axis=0)[:3]
        assert figures["independent_images"] == pytest.approx(9 / np.sum(1 / counts))
        ends = TaggerTraining(Recipe(), open_digits()).interval_percent(figures, images=90)
        assert ends == wilson_interval_percent(figures[TAG.score], int(figures["independent_images"]))
        assert TaggerTraining(Recipe(), open_digits()).interval_percent(figures, images=2) == wilson_interval_percent(
            figures[TAG.score], 2
        )
    metric.reset_state()
    metric.update_state(tags[:, ::-1], np.round(probabilities))  # 0 and 1, whose logits are infinite
    assert np.isfinite([float(value) for value in metric.result().values()]).all()


def open_digits():
    """Any source with classes, of which a training takes the number alone."""

    class Digits:
        classes = DIGITS

    return Digits()


def test_the_threshold_lies_in_the_middle_of_those_that_are_as_good():
    metric = TagDecision(2)
    metric.update_state(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.8, 0.2], [0.2, 0.8]]))
    figures = metric.result()
    assert float(figures["threshold"]) == pytest.approx(0.5, abs=0.01)
    assert float(figures["micro_f1_percent"]) == 100
    metric.reset_state()
    metric.update_state(np.zeros((2, 2)), np.array([[0.8, 0.2], [0.2, 0.8]]))
    assert float(metric.result()["mean_average_precision_percent"]) == 0  # no image has a class
