"""Artifact against its model, in the artifact's real runtime: names, shapes, size, finite values, error, agreement."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_resnet.errors import ExportError, VerificationError
from keras_resnet.evaluation import top1_agreement_percent
from keras_resnet.export.formats import INPUT_NAME, OUTPUT_NAME, Format
from keras_resnet.export.runtimes import Runtime, open_runtime, predict

SECOND_BATCH_SIZE = 4


@dataclass(frozen=True)
class Check:
    """One comparison: what was measured, what was asked for, and whether it holds."""

    name: str
    measured: str
    required: str
    passed: bool


@dataclass(frozen=True)
class Report:
    """The checks of one artifact, in the order in which they were made."""

    format: str
    checks: tuple[Check, ...]
    images: int
    max_difference: float  # largest |artifact - model| of a probability; NaN if it could not be measured
    relative_error: float  # the same, by the model's largest probability
    top1_agreement_percent: float

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]

    def as_dict(self) -> dict:
        numbers = {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(self).items()}
        return {**numbers, "passed": self.passed}


class Reference(NamedTuple):
    """What an artifact is compared with."""

    model: keras.Model  # prepared
    images: np.ndarray  # pixels `[N, H, W, C]`
    probabilities: np.ndarray  # of the model on the images, `[N, classes]`


def reference(model: keras.Model, images: np.ndarray) -> Reference:
    """Prepared model, pixels `[N, H, W, C]` -> its answers, to compare any number of artifacts with."""
    return Reference(model, images, model.predict(images, verbose=0))


def verify(path: Path, format: Format, reference: Reference) -> Report:
    """Artifact, its format, what it should answer -> report in which every check passed.

    Raises:
        VerificationError: A check failed, or the artifact can't be run; the message lists every failure.
    """
    report = examine(path, format, reference)
    if not report.passed:
        lines = [f"  {check.name}: {check.measured}; required: {check.required}" for check in report.failures]
        raise VerificationError(f"{path} is not equal to its model as {format.name}:\n" + "\n".join(lines))
    return report


def examine(path: Path, format: Format, reference: Reference) -> Report:
    """As `verify`, but the report may hold failed checks."""
    model, images, expected = reference
    checks = [_size_check(path, format, model)]
    try:
        runtime = open_runtime(path, format)
        checks += _signature_checks(runtime, format, model)
        answers = _run(runtime, images, batch_size=1)
    except ExportError as error:
        checks.append(Check("runs", str(error), "the artifact opens and runs", False))
        return Report(format.name, tuple(checks), len(images), math.nan, math.nan, math.nan)

    checks.append(_finite_check(answers))
    if answers.shape != expected.shape or not checks[-1].passed:
        if answers.shape != expected.shape:
            checks.append(Check("answer shape", f"{answers.shape}", f"{expected.shape}", False))
        return Report(format.name, tuple(checks), len(images), math.nan, math.nan, math.nan)

    checks += _error_checks(answers, expected, format)
    agreement = _agreement_check(answers, expected, format)
    checks.append(agreement)
    if format.any_batch:
        checks.append(_batch_check(runtime, answers, images))
    max_difference = float(np.max(np.abs(answers - expected)))
    return Report(
        format.name,
        tuple(checks),
        len(images),
        max_difference,
        max_difference / float(np.max(np.abs(expected))),
        top1_agreement_percent(answers, expected),
    )


def _run(runtime: Runtime, images: np.ndarray, batch_size: int) -> np.ndarray:
    """As `predict`; whatever the runtime raises on it becomes an `ExportError`."""
    try:
        return predict(runtime, images, batch_size)
    except Exception as error:  # each runtime has exceptions of its own, some derived from Exception alone
        raise ExportError(f"batch size {batch_size}: {type(error).__name__}: {error}") from error


def _size_check(path: Path, format: Format, model: keras.Model) -> Check:
    """Weights left out or written twice change the size and nothing else that a converter reports."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size_bytes = sum(file.stat().st_size for file in files)
    expected_bytes = model.count_params() * format.bytes_per_parameter
    low, high = int(0.9 * expected_bytes), int(1.2 * expected_bytes) + 2_000_000  # the graph itself
    return Check("size", f"{size_bytes:,} bytes", f"{low:,} to {high:,} bytes", low <= size_bytes <= high)


def _signature_checks(runtime: Runtime, format: Format, model: keras.Model) -> list[Check]:
    batch = None if format.any_batch else 1
    checks = []
    for kind, received, name, shape in (
        ("input", runtime.inputs, INPUT_NAME, (batch, *model.inputs[0].shape[1:])),
        ("output", runtime.outputs, OUTPUT_NAME, (batch, *model.outputs[0].shape[1:])),
    ):
        checks.append(Check(f"{kind} name", ", ".join(received) or "none", name, list(received) == [name]))
        shapes = list(received.values())
        checks.append(Check(f"{kind} shape", str(shapes[0] if shapes else None), str(shape), shapes == [shape]))
    return checks


def _finite_check(answers: np.ndarray) -> Check:
    bad = int(np.size(answers) - np.count_nonzero(np.isfinite(answers)))
    return Check("finite", f"{bad} values are NaN or infinite", "0", bad == 0)


def _error_checks(answers: np.ndarray, expected: np.ndarray, format: Format) -> list[Check]:
    difference = answers.astype("float64") - expected
    spread = float(np.sum((expected - expected.mean(axis=0)) ** 2))
    measured = {
        "relative error": (
            float(np.max(np.abs(difference)) / np.max(np.abs(expected))),
            format.tolerance.relative_error,
        ),
        "unexplained variance": (
            float(np.sum(difference**2)) / spread if spread else math.inf,
            format.tolerance.unexplained_variance,
        ),
        "mean error": (abs(float(difference.mean())), format.tolerance.mean_error),
    }
    return [
        Check(name, f"{value:.3g}", f"at most {bound:g}", value <= bound)
        for name, (value, bound) in measured.items()
        if bound is not None
    ]


def _agreement_check(answers: np.ndarray, expected: np.ndarray, format: Format) -> Check:
    """Top-1 agreement over the images on which the model itself decides by more than the allowed error."""
    top2 = (
        np.sort(expected, axis=1)[:, -2:]
        if expected.shape[1] > 1
        else np.stack([0 * expected[:, 0], expected[:, 0]], 1)
    )
    allowed = 2 * (format.tolerance.relative_error or 0) * float(np.max(np.abs(expected)))
    decided = top2[:, 1] - top2[:, 0] > allowed
    if not decided.any():
        return Check("top-1 agreement", "the model prefers no class on any image", "at least one decided image", False)
    percent = top1_agreement_percent(answers[decided], expected[decided])
    required = format.tolerance.top1_agreement_percent
    return Check(
        "top-1 agreement", f"{percent:.2f} % of {decided.sum()}", f"at least {required:g} %", percent >= required
    )


def _batch_check(runtime: Runtime, answers: np.ndarray, images: np.ndarray) -> Check:
    """The same images in batches of another size give the same answers."""
    required = f"as batch size 1 within {1e-5:g}"
    try:
        again = _run(runtime, images[:SECOND_BATCH_SIZE], SECOND_BATCH_SIZE)
    except ExportError as error:
        return Check("second batch size", str(error), required, False)
    error_bound = (
        float(np.max(np.abs(again - answers[: len(again)]))) if again.shape[1:] == answers.shape[1:] else math.inf
    )
    passed = len(again) == len(images[:SECOND_BATCH_SIZE]) and error_bound <= 1e-5
    return Check("second batch size", f"{len(again)} rows, largest difference {error_bound:.3g}", required, passed)


def synthetic_images(shape: tuple[int, int, int], count: int = 16, seed: int = 0) -> np.ndarray:
    """Shape (height, width, channels) -> uint8 `[count, H, W, C]`: seeded pictures to compare float artifacts on.

    Smooth random colour fields under noise: colour, position and contrast differ from image to image and from channel
    to channel, as they do not in plain noise.
    """
    height, width, channels = shape
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][:, :, :, None]
    images = np.empty((count, height, width, channels), "uint8")
    for image in images:
        field = np.full((height, width, channels), generator.uniform(40, 215, channels))
        for _ in range(6):
            frequency = generator.normal(0, 4, (2, channels))
            phase, weight = generator.uniform(0, 2 * np.pi, channels), generator.uniform(5, 45, channels)
            field += weight * np.sin(2 * np.pi * (frequency[0] * y + frequency[1] * x) + phase)
        image[:] = np.clip(field + generator.normal(0, generator.uniform(2, 20), field.shape), 0, 255)
    return images
