"""Comparison of an artifact with its model in the artifact's runtime: what it states, its numbers, its layers."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_resnet import inference
from keras_resnet.answers import BOXES, IMAGE, Answer
from keras_resnet.errors import ExportError, VerificationError
from keras_resnet.evaluation import top1_agreement_percent
from keras_resnet.export.boundary import Boundary, boundary_check, boundary_of
from keras_resnet.export.box_checks import box_checks
from keras_resnet.export.checks import Report
from keras_resnet.export.comparison import (
    ANSWERS_DIFFER,
    compare_answers,
    finite_check,
    rows_of,
    scores_of,
    shapes_of,
    unit_of,
)
from keras_resnet.export.description import read_description
from keras_resnet.export.entry_points import entry_point_checks
from keras_resnet.export.files import kind_of, onnx_file
from keras_resnet.export.fold import fold
from keras_resnet.export.formats import VALUES_MEAN_FACTOR, Format
from keras_resnet.export.images import batch_size, synthetic_images
from keras_resnet.export.inner_tensors import Run, open_inner
from keras_resnet.export.layer_checks import Point, layer_checks, points_of
from keras_resnet.export.manifest import size_bytes
from keras_resnet.export.microcontroller import LARGEST_ARENA_BYTES, smallest_arena_bytes
from keras_resnet.export.running import IN_BFLOAT16, MICRO, OPENVINO
from keras_resnet.export.runtimes import Runs, Runtime, Tensor, open_runtime, predict, runtime_errors
from keras_resnet.export.simulated_tflite import proven
from keras_resnet.export.stated_checks import stated_checks
from keras_resnet.tasks import checked_task_of
from keras_resnet.tasks.base import Check, Task
from keras_resnet.variants import Contract

# `predict` sends 16 images at a time. Where images are larger than 224x224, fewer are compared at once.
LARGEST_BATCH, SMALLEST_BATCH, BATCH_PIXELS = 17, 4, 17 * 224 * 224
MASK_AGREEMENT_PERCENT = 99.9  # required equal pixels in another batch or size; classes of some pixels are nearly tied
MOST_ANSWERS = 20_000_000  # largest number of values in the model's answers; more images are left out
FEWEST_IMAGES = 8
# Largest error of a simulated answer. One step in each of many layers was measured at 1e-4 of probabilities, and at
# 1.6e-3 of the largest value of a regression with random weights.
SIMULATION_ERROR = 1e-3
INTEGERS_OF_PIXELS = {"uint8": 0, "int8": -128}  # type of an input -> the integer that stands for black
BATCH = "second batch size"  # name of a check
CANNOT_RUN = "does not run"


class Reference(NamedTuple):
    """The model's answers with which an artifact is compared, and what is stated about the model."""

    model: keras.Model  # prepared
    images: np.ndarray  # pixels `[N, H, W, C]`
    answers: Answer  # the model's, by name: `[N, classes]`, `[N, H, W, classes]`, or a detector's
    task: Task
    class_names: Sequence[str] | None = None
    contract: Contract | None = None  # way from image files to its pixels; None: there is none
    points: Callable[[], Sequence[Point]] = tuple  # the model's layers, for comparing them one by one
    boundary: Callable[[], Boundary | None] = lambda: None  # images between two classes, for classifiers
    other_size: tuple[np.ndarray, Answer] | None = None  # images of another size, and the model's answers

    def limited(self, count: int | None) -> "Reference":
        """-> reference with at most so many images, evenly chosen."""
        if count is None or count >= len(self.images):
            return self
        chosen = np.linspace(0, len(self.images) - 1, count).astype(int)
        answers = {name: values[chosen] for name, values in self.answers.items()}
        return self._replace(images=self.images[chosen], answers=answers)

    def with_other_size(self, free: keras.Model) -> "Reference":
        """Prepared model of free height and width -> reference with extra images, 32 pixels higher and 64 wider."""
        height, width, channels = self.images.shape[1:]
        images = synthetic_images((height + 32, width + 64, channels), count=2)
        return self._replace(other_size=(images, inference.answer(free, images, name=next(iter(self.answers)))))


def ask(
    model: keras.Model,
    images: np.ndarray,
    class_names: Sequence[str] | None = None,
    contract: Contract | None = None,
    earlier: Reference | None = None,
) -> Reference:
    """Prepared model, pixels `[N, H, W, C]`, what is stated about it -> its answers, for comparing any number of
    artifacts.

    If the model answers for every pixel, only some images are used: answers for all would not fit into memory. If the
    images of an earlier reference to this model end with these images, its answers are taken.
    """
    task = checked_task_of(model)
    most = max(FEWEST_IMAGES, MOST_ANSWERS // sum(math.prod(output.shape[1:]) for output in model.outputs))
    images = images if most >= len(images) else images[np.linspace(0, len(images) - 1, most).astype(int)]
    if earlier is not None and np.array_equal(earlier.images[-len(images) :], images):
        answers = {name: values[-len(images) :] for name, values in earlier.answers.items()}
    else:
        answers = inference.answer(model, images, batch_size(images), next(iter(task.outputs)))
    # All formats of an export share the points.
    points = functools.cache(lambda: tuple(points_of(model))) if earlier is None else earlier.points
    decides = task.single_answer and task.bounded
    boundary = functools.cache(lambda: boundary_of(model, images, scores_of(answers)) if decides else None)
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
    format = replace(format, runtime=format.verified_in or format.runtime)
    checks = [_size_check(path, format, model)]
    try:
        runtime = open_runtime(path, format, trust=trust)
        description = read_description(path)
        checks += stated_checks(path, format, description, model, reference.class_names, reference.contract)
        if BOXES in expected and description is not None:  # other writers may hold equal numbers in other ways
            checks += box_checks(path, format, model)
        checks += _signature_checks(runtime, format, model, own=description is not None)
        if format.runtime == MICRO:
            checks.append(_arena_check(path))
        count = max(SMALLEST_BATCH, min(LARGEST_BATCH, BATCH_PIXELS // math.prod(images.shape[1:3])))
        slow = format.verified_images is not None
        simulated = (
            proven(path, format.runtime, images[:SMALLEST_BATCH]) if slow and kind_of(path) == "tflite" else None
        )
        count = SMALLEST_BATCH if slow else count
        # A file that runs in batches, or is simulated, answers the first images one by one, too.
        in_batches = format.any_batch or simulated is not None
        alone = _run(runtime, format, images[:count] if in_batches else images, 1, expected)
        source: Runs = runtime if simulated is None else simulated[0]
        answers = _run(source, format, images, count, expected) if in_batches else alone
    except ExportError as error:
        checks.append(Check("runs", str(error), "the artifact opens and runs", False))
        return Report(format.name, tuple(checks), len(images), math.nan, math.nan, math.nan)

    checks.append(finite_check(answers))
    shapes, wanted = shapes_of(answers), shapes_of(expected)
    if shapes != wanted or not checks[-1].passed:
        if shapes != wanted:
            checks.append(Check("answer shape", shapes, wanted, False))
        return Report(format.name, tuple(checks), len(images), math.nan, math.nan, math.nan)

    format = replace(format, tolerance=task.tolerance(format.tolerance))
    compared = compare_answers(answers, expected, format, task)
    checks += compared.checks
    checks += _boundary_checks(runtime, format, reference, count)
    unit, alone = unit_of(expected, task), _first(alone, count)
    batch_error = unit * format.tolerance.batch_error
    if simulated is not None:
        checks.append(simulated[1])
        largest = SIMULATION_ERROR * (1 if task.bounded else VALUES_MEAN_FACTOR) * unit
        first, required = _first(answers, count), f"LiteRT's within {largest:.2g}"
        checks.append(_equal_check("simulated answers", format, task, first, alone, largest, required))
    if format.any_batch:
        checks.append(_equal_check(BATCH, format, task, _first(answers, count), alone, batch_error))
    else:
        checks.append(_resized_check(runtime, format, task, alone, images[:count], batch_error))
    if reference.other_size is not None:
        checks.append(_other_size_check(runtime, format, task, *reference.other_size))
    checks += entry_point_checks(
        runtime, format, model, images, reference.class_names, reference.contract, own=description is not None
    )
    if all(check.name != ANSWERS_DIFFER for check in checks):  # else the images are alike, and prove nothing
        checks += _layer_checks(path, format, reference, None if simulated is None else simulated[0].tensors)
    return Report(format.name, tuple(checks), len(images), *compared[1:])


def _boundary_checks(runtime: Runtime, format: Format, reference: Reference, count: int) -> list[Check]:
    bound = format.tolerance.boundary_error
    boundary = None if bound is None else reference.boundary()
    if bound is None or boundary is None:
        return []
    try:
        size = count if format.any_batch else 1
        answers = scores_of(_run(runtime, format, boundary.images, size, {format.output.name: boundary.probabilities}))
    except ExportError as error:
        return [Check("boundary error", f"{CANNOT_RUN}: {error}", f"at most {bound:.3g}", False)]
    return [boundary_check(answers, boundary.probabilities, bound)]


def _layer_checks(path: Path, format: Format, reference: Reference, simulated: Run | None) -> list[Check]:
    # A dynamic file rounds each image by its own range. On the pale images of a detector for blood cells, the noise of
    # a good file was 0.32 of the variance of a channel that hardly varies. OpenVINO 2026.4 rounds all maps of a pyramid
    # to the steps of the one with the widest range, since they are joined later: the noise of a good file was 0.005.
    in_openvino = format.runtime in (OPENVINO, IN_BFLOAT16) and format.integer
    if reference.task.built_here_alone and (in_openvino or format.name == "tflite-dynamic"):
        return []
    step = format.output_step if reference.task.bounded else 0.0
    try:
        with runtime_errors():
            run = simulated or open_inner(path, format.runtime, format.colour_order)
            if run is None:
                return []
            # A file of classes has no probabilities, but the logits before them.
            points = reference.points()[:-1] if format.output.decides else reference.points()
            if not points:
                return []
            return layer_checks(run, points, reference.images, format.tolerance.layers, step)
    except ExportError as error:
        return [Check("layers", f"{CANNOT_RUN}: {error}", "the tensors of each layer", False)]


def _run(runtime: Runs, format: Format, images: np.ndarray, batch_size: int, expected: Answer) -> Answer:
    """-> answers of the artifact by the names of the model's; if it gives only classes, 1 for its class, 0 elsewhere.

    Raises:
        ExportError: The runtime fails on the images, or the artifact lacks an output.
    """
    with runtime_errors(f"batch size {batch_size}: "):
        answer = predict(runtime, images, batch_size)
        if len(expected) > 1:
            return {name: answer[name] for name in expected}
        [(name, scores)] = expected.items()
        values = answer[format.output.name]
        return {name: np.eye(scores.shape[-1], dtype=np.float32)[values] if format.output.decides else values}


def _size_check(path: Path, format: Format, model: keras.Model) -> Check:
    """Checks the size: converters don't report weights that are missing or written twice."""
    measured, expected = (
        size_bytes(onnx_file(path) if kind_of(path) == "web" else path),
        model.count_params() * format.bytes_per_parameter,
    )
    largest = 4 * model.count_params() if format.keep_float else expected
    # A graph holds the border of the folded normalisation, as large as the image, and a detector's anchors, which need
    # half as much. TensorFlow writes them for each function: three signatures and `serve`, or for a detector two and
    # `serve` for both types.
    copies = 4 if kind_of(path) == "saved_model" else 1
    constants = 0 if format.any_size else int(copies * 1.5 * 4 * math.prod(model.inputs[0].shape[1:]))
    low, high = int(0.9 * expected), int(1.2 * largest) + constants + 2_000_000  # 2 MB are for the graph
    if measured < low:  # converters write equal kernels once, such as the zeros behind a BatchNorm that is still zero
        varied = sum(values.size for values in fold(model).get_weights() if np.ptp(values) > 0)
        low = int(0.9 * varied * format.bytes_per_parameter)
    return Check("size", f"{measured:,} bytes", f"{low:,} to {high:,} bytes", low <= measured <= high)


def _arena_check(path: Path) -> Check:
    arena_bytes = smallest_arena_bytes(path.read_bytes())
    required = f"at most {LARGEST_ARENA_BYTES:,} bytes"
    return Check("smallest arena", f"{arena_bytes:,} bytes", required, arena_bytes <= LARGEST_ARENA_BYTES)


def _signature_checks(runtime: Runtime, format: Format, model: keras.Model, own: bool) -> list[Check]:
    """Opened artifact, whether this package wrote it -> checks of its inputs and outputs."""
    batch = None if format.any_batch else 1
    height, width, channels = model.inputs[0].shape[1:]
    sides = (None, None) if format.any_size else (height, width)
    image = (batch, *sides, channels) if format.layout == "NHWC" else (batch, channels, *sides)
    pixels = Tensor(image, format.input_dtype)
    if own and format.input_dtype in INTEGERS_OF_PIXELS:  # other writers measure the range of the pixels
        pixels = pixels._replace(step=1.0, zero_point=INTEGERS_OF_PIXELS[format.input_dtype])
    checks = []
    for kind, received, wanted in (
        ("input", _inputs(runtime, own), {IMAGE: pixels}),
        ("output", runtime.outputs, dict(_output_tensors(format, model, batch, sides))),
    ):
        names, tensors = (", ".join(map(str, each)) or "none" for each in (received, received.values()))
        named, typed = (", ".join(map(str, each)) for each in (wanted, wanted.values()))
        in_order = {name: received[name] for name in wanted if name in received}
        if set(received) == set(wanted):  # the runtimes have orders of their own
            names, tensors = (", ".join(map(str, each)) for each in (in_order, in_order.values()))
        checks.append(Check(f"{kind} name", names, named, set(received) == set(wanted)))
        checks.append(Check(f"{kind} tensor", tensors, typed, in_order == wanted))
    return checks


def _inputs(runtime: Runtime, own: bool) -> dict[str, Tensor]:
    without = {name: tensor._replace(step=None, zero_point=None) for name, tensor in runtime.inputs.items()}
    return runtime.inputs if own else without


def _output_tensors(
    format: Format, model: keras.Model, batch: int | None, sides: tuple[int | None, int | None]
) -> Iterator[tuple[str, Tensor]]:
    """-> name, shape and type of each output that the file must have."""
    if len(format.outputs) > 1:
        for output in format.outputs:
            yield output.name, Tensor((batch, *model.output[output.name].shape[1:]), format.dtype_of(output))
        return
    *places, classes = model.outputs[0].shape[1:]  # `places` is empty, or height and width
    answer = (batch, *(sides if places else ()), *(() if format.output.decides else (classes,)))
    yield format.output.name, Tensor(answer, format.dtype_of(format.output))


def _resized_check(
    runtime: Runtime, format: Format, task: Task, alone: Answer, images: np.ndarray, tolerance: float
) -> Check:
    """Checks that a file of batch size 1 gives the same answers to a batch of images, for which it is resized.

    Networks of one answer allow that; for a user's model that does not, the check passes, since the format promises
    only batch size 1. A detector's constants are for one image.
    """
    required = "batch size 1"
    if len(format.outputs) > 1:
        return Check(BATCH, "only batch size 1: it is a detector's", required, True)
    try:
        received = _run(runtime, format, images, len(images), alone)
    except ExportError:
        return Check(BATCH, "only batch size 1: the file can't be resized", required, True)
    return _equal_check(BATCH, format, task, received, alone, tolerance)


def _other_size_check(runtime: Runtime, format: Format, task: Task, images: np.ndarray, expected: Answer) -> Check:
    """Checks images of another height and width against the model's answers."""
    tolerance = (format.tolerance.relative_error or 1.0) * float(np.abs(scores_of(expected)).max())
    name, required = (
        "other image size",
        f"{images.shape[1]}x{images.shape[2]} pixels equal to the model within {tolerance:.3g}",
    )
    try:
        received = _run(runtime, format, images, len(images), expected)
    except ExportError as error:
        return Check(name, f"{CANNOT_RUN}: {error}", required, False)
    return _equal_check(name, format, task, received, expected, tolerance, required)


def _equal_check(
    name: str,
    format: Format,
    task: Task,
    received: Answer,
    expected: Answer,
    tolerance: float,
    required: str | None = None,
) -> Check:
    """Answers to images in a batch or of another size, and expected ones -> check that they are equal."""
    required = required or f"equal to batch size 1 within {tolerance:g}"
    images, rows = len(next(iter(expected.values()))), len(next(iter(received.values())))
    if shapes_of(received) != shapes_of(expected):
        return Check(name, f"{rows} rows for {images} images", required, False)
    by_task = task.compare(received, expected, format.tolerance)
    if by_task is not None:
        wrong = [f"{check.name}: {check.measured}" for check in by_task.checks if not check.passed]
        return Check(name, "; ".join(wrong) or f"{images} images alike", "the answers to single images", not wrong)
    scores, wanted = scores_of(received), scores_of(expected)
    if format.output.decides:
        least = min(MASK_AGREEMENT_PERCENT, format.tolerance.top1_agreement_percent)
        agreement = top1_agreement_percent(rows_of(scores), rows_of(wanted))
        return Check(name, f"{agreement:.2f} % of the pixels", f"the same class on {least:g} %", agreement >= least)
    difference = float(np.abs(scores - wanted).max())
    measured = f"{rows} rows, largest difference {difference:.3g}"
    return Check(name, measured, required, difference <= tolerance)


def _first(answers: Answer, count: int) -> Answer:
    """-> answers to the first images."""
    return {name: values[:count] for name, values in answers.items()}
