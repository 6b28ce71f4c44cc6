"""An artifact's answers, the answers that are expected of it -> checks of how far they differ, by the format's bounds.

Nothing here needs Keras: a machine that has only an artifact and its runtime compares with recorded answers.
"""

import math
from typing import NamedTuple

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.evaluation import top1_agreement_percent
from keras_resnet.export.formats import Format
from keras_resnet.tasks.base import Check, Task

SMALLEST_SPREAD = 1e-30  # smallest spread of a probability; runtimes may round smaller numbers to zero
RELATIVE_SPREAD = 1e-3  # share of a class's largest probability; a smaller spread is mostly float32's rounding
ANSWERS_DIFFER = "model's answers differ"


class Compared(NamedTuple):
    """Checks of an artifact's answers, and the numbers of their report."""

    checks: list[Check]
    max_difference: float
    relative_error: float
    agreement_percent: float


def compare_answers(answers: Answer, expected: Answer, format: Format, task: Task) -> Compared:
    """Answers of artifact and model for the same images -> their comparison, by the task or number by number."""
    by_task = task.compare(answers, expected, format.tolerance)
    if by_task is not None:
        return Compared([*by_task.checks], *by_task[1:])
    received, scores = scores_of(answers), scores_of(expected)
    unit = unit_of(expected, task)
    checks = _error_checks(rows_of(received) / unit, rows_of(scores) / unit, format)
    decided, expected_decided = task.decisions(received), task.decisions(scores)
    agreement_percent = math.nan
    if decided is not None and expected_decided is not None:
        checks.append(_agreement_check(decided, expected_decided, format))
        agreement_percent = top1_agreement_percent(decided, expected_decided)
    max_difference = math.nan if format.output.decides else float(np.max(np.abs(received - scores)))
    return Compared(checks, max_difference, max_difference / float(np.max(np.abs(scores))), agreement_percent)


def scores_of(answer: Answer) -> np.ndarray:
    """Answer of a network of one output -> its values."""
    [values] = answer.values()
    return values


def unit_of(answer: Answer, task: Task) -> float:
    """-> unit of the bounds, which are for probabilities: answers without bounds are measured by the largest one."""
    return 1.0 if task.bounded or len(answer) > 1 else float(np.max(np.abs(scores_of(answer)))) or 1.0


def rows_of(answers: np.ndarray) -> np.ndarray:
    """`[N, classes]` or `[N, H, W, classes]` -> row of probabilities for each image or each pixel."""
    return answers.reshape(-1, answers.shape[-1])


def shapes_of(answer: Answer) -> str:
    return ", ".join(str(values.shape) for values in answer.values())


def finite_check(answer: Answer) -> Check:
    bad = sum(int(np.size(values) - np.count_nonzero(np.isfinite(values))) for values in answer.values())
    return Check("finite", f"{bad} values are NaN or infinite", "0", bad == 0)


def _error_checks(answers: np.ndarray, expected: np.ndarray, format: Format) -> list[Check]:
    if format.output.decides:
        return []  # the agreement is enough
    difference = answers.astype("float64") - expected
    deviation = expected - expected.mean(axis=0, dtype="float64")  # deviation of each image from the mean answer
    spread = np.abs(deviation).max(axis=0)  # spread of each class
    least = max(format.output_step, SMALLEST_SPREAD)
    if not spread.max() > least:
        required = f"more than {least:.3g}; give more diverse images, since these prove nothing"
        return [Check(ANSWERS_DIFFER, f"by {spread.max():.3g}", required, False)]
    varied = spread > np.maximum(SMALLEST_SPREAD, RELATIVE_SPREAD * np.abs(expected).max(axis=0))
    measured = {
        "relative error": float(np.abs(difference).max() / np.abs(expected).max()),
        "class error": float((np.abs(difference).max(axis=0)[varied] / spread[varied]).max(initial=0)),
        "unexplained variance": float(np.sum(difference**2) / np.sum(deviation**2)),
        "mean error": abs(float(difference.mean())),
    }
    bounds = {
        "relative error": format.tolerance.relative_error,
        "class error": format.tolerance.class_error,
        "unexplained variance": format.tolerance.unexplained_variance,
        "mean error": format.tolerance.mean_error,
    }
    return [
        Check(name, f"{measured[name]:.3g}", f"at most {bound:.3g}", measured[name] <= bound)
        for name, bound in bounds.items()
        if bound is not None
    ]


def _agreement_check(answers: np.ndarray, expected: np.ndarray, format: Format) -> Check:
    """Top-1 agreement over images whose best two classes differ by more than the format's resolution."""
    ranked = np.sort(np.pad(expected, ((0, 0), (1, 0))), axis=1)  # a single class is compared with zero
    rounding = 2 * (format.tolerance.relative_error or 0) * float(ranked.max())
    allowed = max(format.output_step, format.tolerance.margin, rounding)
    decided = ranked[:, -1] - ranked[:, -2] > allowed
    required = f"at least {format.tolerance.top1_agreement_percent:g} %"
    if not decided.any():  # several labels for each image, or no confidence: only the errors are checked
        return Check("top-1 agreement", "no image is decided", required, True)
    percent = top1_agreement_percent(answers[decided], expected[decided])
    passed = percent >= format.tolerance.top1_agreement_percent
    return Check("top-1 agreement", f"{percent:.2f} % of {decided.sum()}", required, passed)
