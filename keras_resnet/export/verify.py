"""Comparison of an artifact with its model in the artifact's runtime: what it states, its numbers, its layers."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_resnet import inference
from keras_resnet.answers import IMAGE
from keras_resnet.errors import ExportError, VerificationError
from keras_resnet.evaluation import top1_agreement_percent
from keras_resnet.export.boundary import Boundary, boundary_check, boundary_of
from keras_resnet.export.checks import Check, Report
from keras_resnet.export.description import read_description
from keras_resnet.export.entry_points import entry_point_checks
from keras_resnet.export.fold import fold
from keras_resnet.export.formats import Format
from keras_resnet.export.images import batch_size, synthetic_images
from keras_resnet.export.inner_tensors import open_inner
from keras_resnet.export.layer_checks import Point, layer_checks, points_of
from keras_resnet.export.manifest import size_bytes
from keras_resnet.export.runtimes import Runtime, Tensor, open_runtime, predict, runtime_errors
from keras_resnet.export.stated_checks import stated_checks
from keras_resnet.tasks import checked_task_of
from keras_resnet.tasks.base import Task
from keras_resnet.variants import Contract

SMALLEST_SPREAD = 1e-30  # smallest spread of a probability; runtimes may round smaller numbers to zero
RELATIVE_SPREAD = 1e-3  # share of a class's largest probability; a smaller spread is mostly float32's rounding
# `predict` sends 16 images at a time. Where images are larger than 224x224, fewer are compared at once.
LARGEST_BATCH, SMALLEST_BATCH, BATCH_PIXELS = 17, 4, 17 * 224 * 224
MASK_AGREEMENT_PERCENT = 99.9  # required equal pixels in another batch or size; classes of some pixels are nearly tied
MOST_ANSWERS = 20_000_000  # largest number of values in the model's answers; more images are left out
FEWEST_IMAGES = 8
CANNOT_RUN = "does not run"
ANSWERS_DIFFER = "model's answers differ"


class Reference(NamedTuple):
    """The model's answers with which an artifact is compared, and what is stated about the model."""

    model: keras.Model  # prepared
    images: np.ndarray  # pixels `[N, H, W, C]`
    probabilities: np.ndarray  # the model's, `[N, classes]` or `[N, H, W, classes]`
    task: Task
    class_names: Sequence[str] | None = None
    contract: Contract | None = None  # way from image files to its pixels; None: there is none
    points: Callable[[], Sequence[Point]] = tuple  # the model's layers, for comparing them one by one
    boundary: Callable[[], Boundary | None] = lambda: None  # images between two classes, for classifiers
    other_size: tuple[np.ndarray, np.ndarray] | None = None  # images of another size, and the model's answers

    def limited(self, count: int | None) -> "Reference":
        """-> reference with at most so many images, evenly chosen."""
        if count is None or count >= len(self.images):
            return self
        chosen = np.linspace(0, len(self.images) - 1, count).astype(int)
        return self._replace(images=self.images[chosen], probabilities=self.probabilities[chosen])

    def with_other_size(self, free: keras.Model) -> "Reference":
        """Prepared model of free height and width -> reference with extra images, 32 pixels higher and 64 wider."""
        height, width, channels = self.images.shape[1:]
        images = synthetic_images((height + 32, width + 64, channels), count=2)
        return self._replace(other_size=(images, inference.predict(free, images)))


def ask(
    model: keras.Model,
    images: np.ndarray,
    class_names: Sequence[str] | None = None,
    contract: Contract | None = None,
) -> Reference:
    """Prepared model, pixels `[N, H, W, C]`, what is stated about it -> its answers, for comparing any number of
    artifacts.

    If the model answers for every pixel, only some images are used: answers for all would not fit into memory.
    """
    most = max(FEWEST_IMAGES, MOST_ANSWERS // math.prod(model.outputs[0].shape[1:]))
    images = images if most >= len(images) else images[np.linspace(0, len(images) - 1, most).astype(int)]
    answers = inference.predict(model, images, batch_size(images))
    points = functools.cache(lambda: tuple(points_of(model)))  # all formats of an export share them
    task = checked_task_of(model)
    decides = task.single_answer and task.bounded
    boundary = functools.cache(lambda: boundary_of(model, images, answers) if decides else None)
    return Reference(model, images, answers, task, class_names, contract, points, boundary)


def verify(path: Path, format: Format, reference: Reference) -> Report:
    """Artifact, its format, expected answers -> report in which every check passed.

    Raises:
        VerificationError: A check failed, or the artifact can't be run; the message lists every failure.
    """
    report = examine(path, format, reference)
    if not report.passed:
        lines = [f"  {check.name}: {check.measured}; required: {check.required}" for check in report.failures]
        raise VerificationError(f"{path} is not equal to its model as {format.name}:", *lines)
    return report


def examine(path: Path, format: Format, reference: Reference, trust: bool = False) -> Report:
    """Artifact, its format, expected answers -> report, which may contain failed checks; see `verify`."""
    model, images, expected, task = reference[:4]
    checks = [_size_check(path, format, model)]
    try:
        runtime = open_runtime(path, format, trust=trust)
        description = read_description(path)
        checks += stated_checks(path, format, description, model, reference.class_names, reference.contract)
        checks += _signature_checks(runtime, format, model)
        answers = _run(runtime, format, images, 1, expected.shape[-1])
    except ExportError as error:
        checks.append(Check("runs", str(error), "the artifact opens and runs", False))
        return Report(format.name, tuple(checks), len(images), math.nan, math.nan, math.nan)

    checks.append(_finite_check(answers))
    if answers.shape != expected.shape or not checks[-1].passed:
        if answers.shape != expected.shape:
            checks.append(Check("answer shape", f"{answers.shape}", f"{expected.shape}", False))
        return Report(format.name, tuple(checks), len(images), math.nan, math.nan, math.nan)

    # The bounds are for probabilities. Answers without bounds are measured in units of the largest one.
    unit = 1.0 if task.bounded else float(np.max(np.abs(expected))) or 1.0
    tolerance = task.tolerance(format.tolerance)
    format = replace(format, tolerance=replace(tolerance, batch_error=unit * tolerance.batch_error))
    checks += _error_checks(_rows(answers) / unit, _rows(expected) / unit, format)
    decided, expected_decided = task.decisions(answers), task.decisions(expected)
    agreement_percent = math.nan
    if decided is not None and expected_decided is not None:
        checks.append(_agreement_check(decided, expected_decided, format))
        agreement_percent = top1_agreement_percent(decided, expected_decided)
    checks += _boundary_checks(runtime, format, reference)
    checks.append(_batch_check(runtime, format, answers, images))
    if reference.other_size is not None:
        checks.append(_other_size_check(runtime, format, *reference.other_size))
    checks += entry_point_checks(
        runtime, format, model, images, reference.class_names, reference.contract, own=description is not None
    )
    if all(check.name != ANSWERS_DIFFER for check in checks):  # else the images are alike, and prove nothing
        checks += _layer_checks(path, format, reference)
    max_difference = math.nan if format.output.decides else float(np.max(np.abs(answers - expected)))
    return Report(
        format.name,
        tuple(checks),
        len(images),
        max_difference,
        max_difference / float(np.max(np.abs(expected))),
        agreement_percent,
    )


def _boundary_checks(runtime: Runtime, format: Format, reference: Reference) -> list[Check]:
    bound = format.tolerance.boundary_error
    boundary = None if bound is None else reference.boundary()
    if bound is None or boundary is None:
        return []
    try:
        answers = _run(runtime, format, boundary.images, 1, boundary.probabilities.shape[-1])
    except ExportError as error:
        return [Check("boundary error", f"{CANNOT_RUN}: {error}", f"at most {bound:.3g}", False)]
    return [boundary_check(answers, boundary.probabilities, bound)]


def _layer_checks(path: Path, format: Format, reference: Reference) -> list[Check]:
    step = format.output_step if reference.task.bounded else 0.0
    try:
        with runtime_errors():
            run = open_inner(path)
            if run is None:
                return []
            # A file of classes has no probabilities, but the logits before them.
            points = reference.points()[:-1] if format.output.decides else reference.points()
            if not points:
                return []
            return layer_checks(run, points, reference.images, format.tolerance.layers, step)
    except ExportError as error:
        return [Check("layers", f"{CANNOT_RUN}: {error}", "the tensors of each layer", False)]


def _rows(answers: np.ndarray) -> np.ndarray:
    """`[N, classes]` or `[N, H, W, classes]` -> row of probabilities for each image or each pixel."""
    return answers.reshape(-1, answers.shape[-1])


def _run(runtime: Runtime, format: Format, images: np.ndarray, batch_size: int, classes: int) -> np.ndarray:
    """-> scores of the artifact `[N, ..., classes]`; if it gives only classes, 1 for its class and 0 elsewhere.

    Raises:
        ExportError: The runtime fails on the images, or the artifact has no output of that name.
    """
    with runtime_errors(f"batch size {batch_size}: "):
        answer = predict(runtime, images, batch_size)[format.output.name]
        return np.eye(classes, dtype=np.float32)[answer] if format.output.decides else answer


def _size_check(path: Path, format: Format, model: keras.Model) -> Check:
    """Checks the size: converters don't report weights that are missing or written twice."""
    measured, expected = size_bytes(path), model.count_params() * format.bytes_per_parameter
    largest = 4 * model.count_params() if format.keep_float else expected
    low, high = int(0.9 * expected), int(1.2 * largest) + 2_000_000  # 2 MB are for the graph
    if measured < low:  # converters write equal kernels once, such as the zeros behind a BatchNorm that is still zero
        varied = sum(values.size for values in fold(model).get_weights() if np.ptp(values) > 0)
        low = int(0.9 * varied * format.bytes_per_parameter)
    return Check("size", f"{measured:,} bytes", f"{low:,} to {high:,} bytes", low <= measured <= high)


def _signature_checks(runtime: Runtime, format: Format, model: keras.Model) -> list[Check]:
    batch = None if format.any_batch else 1
    height, width, channels = model.inputs[0].shape[1:]
    sides = (None, None) if format.any_size else (height, width)
    image = (batch, *sides, channels) if format.layout == "NHWC" else (batch, channels, *sides)
    *places, classes = model.outputs[0].shape[1:]  # `places` is empty, or height and width
    answer: tuple[int | None, ...] = (batch, *(sides if places else ()), *(() if format.output.decides else (classes,)))
    checks = []
    for kind, received, name, wanted in (
        ("input", runtime.inputs, IMAGE, Tensor(image, format.input_dtype)),
        ("output", runtime.outputs, format.output.name, Tensor(answer, format.output_dtype)),
    ):
        tensors = list(received.values())
        checks.append(Check(f"{kind} name", ", ".join(received) or "none", name, list(received) == [name]))
        checks.append(Check(f"{kind} tensor", ", ".join(map(str, tensors)) or "none", str(wanted), tensors == [wanted]))
    return checks


def _finite_check(answers: np.ndarray) -> Check:
    bad = int(np.size(answers) - np.count_nonzero(np.isfinite(answers)))
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


def _batch_check(runtime: Runtime, format: Format, answers: np.ndarray, images: np.ndarray) -> Check:
    """Checks that images in a batch of another size get the same answers.

    A file of batch size 1 is resized. The networks of this package allow that; for a user's model that does not, the
    check passes, since the format promises only batch size 1.
    """
    tolerance = format.tolerance.batch_error
    required = f"equal to batch size 1 within {tolerance:g}"
    count = max(SMALLEST_BATCH, min(LARGEST_BATCH, BATCH_PIXELS // math.prod(images.shape[1:3])))
    batch, alone = images[:count], answers[:count]
    check = _same_check("second batch size", runtime, format, batch, alone, tolerance, required)
    if format.any_batch or check.passed or not check.measured.startswith(CANNOT_RUN):
        return check
    return Check(check.name, "only batch size 1: the file can't be resized", "batch size 1", True)


def _other_size_check(runtime: Runtime, format: Format, images: np.ndarray, expected: np.ndarray) -> Check:
    """Checks images of another height and width against the model's answers."""
    tolerance = (format.tolerance.relative_error or 1.0) * float(np.abs(expected).max())
    required = f"{images.shape[1]}x{images.shape[2]} pixels equal to the model within {tolerance:.3g}"
    return _same_check("other image size", runtime, format, images, expected, tolerance, required)


def _same_check(
    name: str,
    runtime: Runtime,
    format: Format,
    batch: np.ndarray,
    expected: np.ndarray,
    tolerance: float,
    required: str,
) -> Check:
    try:
        received = _run(runtime, format, batch, len(batch), expected.shape[-1])
    except ExportError as error:
        return Check(name, f"{CANNOT_RUN}: {error}", required, False)
    if received.shape != expected.shape:
        return Check(name, f"{len(received)} rows for {len(expected)} images", required, False)
    if format.output.decides:
        least = min(MASK_AGREEMENT_PERCENT, format.tolerance.top1_agreement_percent)
        agreement = top1_agreement_percent(_rows(received), _rows(expected))
        return Check(name, f"{agreement:.2f} % of the pixels", f"the same class on {least:g} %", agreement >= least)
    difference = float(np.abs(received - expected).max())
    measured = f"{len(received)} rows, largest difference {difference:.3g}"
    return Check(name, measured, required, difference <= tolerance)
