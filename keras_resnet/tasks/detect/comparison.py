"""Comparison of an artifact's detections with its model's: matched by class and place, and never by rank.

Detections of nearly equal scores may change places, and the last one may give way to another: of two runtimes, each
rounds in its own way. So each detection is compared with the one that has its class and its place, wherever it stands.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, MASKS, NUM_DETECTIONS, Answer
from keras_resnet.evaluation.detection import ious
from keras_resnet.tasks.base import Check, Comparison

BY_CHANCE = 0.02  # probability with which a good file may fail a check of its settings; see `_setting_checks`
_SURE = "sure"  # beside the outputs of a network: which detections rounding can't remove


class _Pairs(NamedTuple):
    """Detections of one image that were matched, and how many had to be."""

    own: np.ndarray  # places of the artifact's detections, [M]
    model: np.ndarray  # places of the model's detections, [M]
    missed: int  # detections of the model, surely above its last one, that the artifact lacks
    wanted: int
    added: int  # detections of the artifact, surely above its last one, that the model lacks
    given: int


def compare(answers: Answer, expected: Answer, tolerance: Any) -> Comparison:
    """Answers of an artifact and of its model `[N, ...]`, `export.formats.BoxTolerance` -> comparison.

    Errors are root mean squares over all matched detections. The unit of a box's error is its longer side.
    """
    sure = [_sure(each, tolerance.margin) for each in (answers, expected)]
    pairs = [
        _matched(_image({**answers, _SURE: sure[0]}, i), _image({**expected, _SURE: sure[1]}, i), tolerance.least_iou)
        for i in range(len(expected[BOXES]))
    ]
    missed, wanted, added, given = (sum(counts) for counts in zip(*(pair[2:] for pair in pairs), strict=True))
    found = 100 * (1 - missed / max(wanted, 1))
    known = 100 * (1 - added / max(given, 1))
    score_errors = _differences(answers, expected, BOX_SCORES, pairs)
    boxes = np.concatenate([expected[BOXES][i][pair.model] for i, pair in enumerate(pairs)])
    sides = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0), 1.0)
    shifts = _differences(answers, expected, BOXES, pairs)
    errors = {
        "score error": (score_errors, tolerance.score_error, ""),
        "box error": (shifts / sides[:, None], tolerance.box_error, f"{_largest(shifts):.3g} pixels"),
    }
    if MASKS in expected:
        errors["mask error"] = _differences(answers, expected, MASKS, pairs), tolerance.mask_error, ""
    least = f"at least {tolerance.matched_percent:g} % with its class and an IoU of {tolerance.least_iou:g}"
    checks = [
        *_rows_checks(answers),
        Check("detections", f"{wanted} of the model to be compared", "some, on these images", wanted > 0),
        Check(
            "model's detections",
            f"{found:.2f} % of {wanted} are in the file",
            least,
            found >= tolerance.matched_percent,
        ),
        Check(
            "file's detections",
            f"{known:.2f} % of {given} are the model's",
            least,
            known >= tolerance.matched_percent,
        ),
        *(_error_check(name, *error) for name, error in errors.items()),
        *_setting_checks(answers, expected, tolerance),
    ]
    largest = _largest(score_errors)
    return Comparison(checks, largest, largest / (_largest(expected[BOX_SCORES]) or 1), min(found, known))


def compare_values(answers: Answer, expected: Answer, tolerance: Any) -> Comparison:
    """Values before the proposals in an artifact and in its model `[N, h, w, channels]`, `export.formats.Tolerance` ->
    comparison, with a check of each output.

    The unit of the relative error is the output's largest value; the unexplained variance is the squared error by the
    variance of the channels over images and places.
    """
    checks, largest, relative = [], 0.0, 0.0
    for name, values in expected.items():
        wanted = values.astype("float64")
        error = answers[name] - wanted
        deviation = wanted - wanted.mean(axis=(0, 1, 2))
        measured = {
            "relative error": _largest(error) / (_largest(wanted) or 1),
            "unexplained variance": float((error**2).sum() / (np.square(deviation).sum() or 1)),
        }
        bounds = {
            "relative error": tolerance.relative_error,
            "unexplained variance": tolerance.unexplained_variance,
        }
        held = [key for key, bound in bounds.items() if bound is not None]
        checks.append(
            Check(
                name,
                ", ".join(f"{key} {measured[key]:.3g}" for key in held),
                ", ".join(f"at most {bounds[key]:.3g}" for key in held),
                all(measured[key] <= bounds[key] for key in held),
            )
        )
        largest, relative = max(largest, _largest(error)), max(relative, measured["relative error"])
    return Comparison(checks, largest, relative, math.nan)


def _image(answer: Answer, index: int) -> Answer:
    """Answer of a batch, place of an image -> its detections, without the rows behind the last one."""
    count = max(0, int(answer[NUM_DETECTIONS][index]))
    return {name: values[index][:count] for name, values in answer.items() if name != NUM_DETECTIONS}


def _matched(own: Answer, model: Answer, least_iou: float) -> _Pairs:
    """Detections of the artifact and of the model in one image -> the pairs, the most alike first."""
    overlaps = ious(own[BOXES], model[BOXES])
    alike = own[LABELS][:, None] == model[LABELS][None, :]
    rows, columns = np.nonzero(alike & (overlaps >= least_iou))
    apart = np.abs(own[BOX_SCORES][rows] - model[BOX_SCORES][columns]) + 1 - overlaps[rows, columns]
    free = np.ones(len(own[BOXES]), bool), np.ones(len(model[BOXES]), bool)
    chosen = []
    for pair in np.argsort(apart, kind="stable"):
        row, column = rows[pair], columns[pair]
        if free[0][row] and free[1][column]:
            free[0][row] = free[1][column] = False
            chosen.append((row, column))
    places = np.array(chosen, int).reshape(-1, 2)
    missed, added = int((free[1] & model[_SURE]).sum()), int((free[0] & own[_SURE]).sum())
    return _Pairs(places[:, 0], places[:, 1], missed, int(model[_SURE].sum()), added, int(own[_SURE].sum()))


def _sure(answer: Answer, margin: float) -> np.ndarray:
    """Answer `[N, ...]` -> which detections rounding can't remove, `[N, D]`.

    Rounding removes what is near the score threshold, for which the lowest score of all images stands, and where all
    rows are in use, what is near the last one.
    """
    scores, counts = answer[BOX_SCORES], answer[NUM_DETECTIONS]
    there = np.arange(scores.shape[1]) < counts[:, None]
    lowest = np.where(there, scores, np.inf).min(axis=1)
    is_full = counts >= scores.shape[1]
    threshold = lowest.min()
    return there & (scores > np.where(is_full, lowest, threshold)[:, None] + margin)


def _differences(answers: Answer, expected: Answer, name: str, pairs: Sequence[_Pairs]) -> np.ndarray:
    """-> artifact - model of all matched detections, `[M, ...]`."""
    own, model = (
        np.concatenate([values[name][i][places] for i, places in enumerate(chosen)]).astype("float64")
        for values, chosen in ((answers, [p.own for p in pairs]), (expected, [p.model for p in pairs]))
    )
    return own - model


def _error_check(name: str, errors: np.ndarray, bound: float, words: str) -> Check:
    measured = float(np.sqrt(np.mean(np.square(errors)))) if errors.size else float("nan")
    largest = words or f"{_largest(errors):.3g}"
    return Check(name, f"{measured:.3g}, at the worst place {largest}", f"at most {bound:.3g}", measured <= bound)


def _setting_checks(answers: Answer, expected: Answer, tolerance: Any) -> Iterator[Check]:
    """Checks that artifact and model have one score threshold and one largest IoU of two detections of a class.

    With another threshold, all detections of one of them lack that lie between both thresholds, and not only the share
    that rounding may remove.
    """
    # Rounding removes each of so many detections at once with a probability below BY_CHANCE.
    allowed = int(math.log(BY_CHANCE) / math.log(1 - tolerance.matched_percent / 100))
    lowest = [-values[BOX_SCORES][values[LABELS] >= 0] for values in (answers, expected)]
    overlaps = [_overlaps(values) for values in (answers, expected)]
    for name, found, margin in (
        ("lowest score", lowest, tolerance.margin),
        ("largest overlap", overlaps, 1 - tolerance.least_iou),
    ):
        own, model = (float(values.max(initial=-1)) for values in found)
        beyond = sum(int((values > min(own, model) + margin).sum()) for values in found)
        measured = f"{abs(own):.4g} in the file, {abs(model):.4g} of the model, {beyond} beyond only one of them"
        yield Check(name, measured, f"at most {allowed} beyond only one of them", beyond <= allowed)


def _overlaps(answer: Answer) -> np.ndarray:
    """Answer `[N, ...]` -> IoU of all pairs of detections of a class in an image."""
    found = [np.zeros(1)]
    for index in range(len(answer[BOXES])):
        image = _image(answer, index)
        first, second = np.triu_indices(len(image[LABELS]), 1)
        alike = image[LABELS][first] == image[LABELS][second]
        found.append(ious(image[BOXES], image[BOXES])[first[alike], second[alike]])
    return np.concatenate(found)


def _largest(errors: np.ndarray) -> float:
    return float(np.abs(errors).max(initial=0))


def _rows_checks(answers: Answer) -> Iterator[Check]:
    """Checks that the detections of each image stand first, the best one first, and nothing behind them."""
    counts, scores, labels = answers[NUM_DETECTIONS], answers[BOX_SCORES], answers[LABELS]
    behind = np.arange(scores.shape[1]) >= counts[:, None]
    others = [values for name, values in answers.items() if name not in (NUM_DETECTIONS, LABELS)]
    wrong = {
        "numbers": int(((counts < 0) | (counts > scores.shape[1])).sum()),
        "labels": int(((labels >= 0) == behind).sum()),
        "values behind the last": int(sum(np.count_nonzero(values[behind]) for values in others)),
        "scores out of order": int((np.diff(scores, axis=1) > 0).sum()),
    }
    text = ", ".join(f"{count} wrong {name}" for name, count in wrong.items() if count)
    yield Check("rows", text or "in order", "detections, the best first, then zeros and the label -1", not text)
