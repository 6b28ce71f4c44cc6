import numpy as np
import pytest

from keras_resnet.evaluation import top1_agreement_percent, topk_accuracy_percent

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.4, 0.25, 0.35]])
LABELS = np.array([0, 1, 0, 1])  # ranked first, second, second and third


@pytest.mark.parametrize(("k", "percent"), [(1, 25.0), (2, 75.0), (3, 100.0)])
def test_topk_accuracy(k, percent):
    assert topk_accuracy_percent(PROBABILITIES, LABELS, k) == percent
    assert topk_accuracy_percent(PROBABILITIES[:1], LABELS[:1], k) == 100.0


def test_a_constant_network_is_not_right_everywhere():
    labels = np.arange(10)
    assert topk_accuracy_percent(np.full((10, 10), 0.1), labels, 1) == 10.0
    assert topk_accuracy_percent(np.full((10, 10), 0.1), labels, 5) == 50.0


def test_topk_accuracy_against_counting():
    generator = np.random.default_rng(0)
    probabilities, labels = generator.dirichlet(np.ones(37), size=200), generator.integers(0, 37, 200)
    for k in (1, 5):
        above = (probabilities > probabilities[np.arange(200), labels][:, None]).sum(axis=1)
        assert topk_accuracy_percent(probabilities, labels, k) == pytest.approx(100 * (above < k).mean(), abs=1e-12)


def test_top1_agreement():
    other = PROBABILITIES.copy()
    other[1] = other[1][::-1]
    assert top1_agreement_percent(PROBABILITIES, PROBABILITIES * 2 - 5) == 100.0
    assert top1_agreement_percent(PROBABILITIES, other) == 75.0


NAN = np.where(PROBABILITIES == 0.7, np.nan, PROBABILITIES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NAN, LABELS), "`probabilities` must be finite.*row 1"),
        ((PROBABILITIES[0], LABELS), r"`probabilities` must be an array \[N, classes\]"),
        ((PROBABILITIES, LABELS[:3]), r"`labels` must hold one integer for each of the 4 rows.*shape \[3\]"),
        ((PROBABILITIES, LABELS[:, None]), r"shape \[4, 1\]"),
        ((PROBABILITIES, LABELS.astype(float)), "Received: float64"),
        ((PROBABILITIES, [0, 1, 3, 0]), r"`labels` must lie in 0\.\.2. Received: 0\.\.3"),
        ((PROBABILITIES, [0, 1, -1, 0]), r"Received: -1\.\.1"),
        ((PROBABILITIES, LABELS, 4), r"`k` must be an integer in 1\.\.3.*k=4"),
        ((PROBABILITIES, LABELS, 0), "k=0"),
    ],
)
def test_wrong_arguments_of_accuracy_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        topk_accuracy_percent(*arguments)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (PROBABILITIES, PROBABILITIES[:3], r"`a` and `b` must have the same shape.*\[4, 3\] and \[3, 3\]"),
        (PROBABILITIES, PROBABILITIES[:1], r"\[1, 3\]"),  # would broadcast
        (PROBABILITIES, NAN, "must be finite"),
        (NAN, NAN, "must be finite"),
        (PROBABILITIES[:0], PROBABILITIES[:0], r"shape \[0, 3\]"),
    ],
)
def test_wrong_arguments_of_agreement_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        top1_agreement_percent(a, b)
