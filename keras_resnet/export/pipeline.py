"""The steps of an export: prepare, fold, write under a temporary name, verify, measure, rename, record."""

import errno
import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet import inference
from keras_resnet.answers import IMAGE, MASK, Answer
from keras_resnet.compress.quantization import is_quantization_aware
from keras_resnet.contained import remember
from keras_resnet.data.taken import account
from keras_resnet.errors import AccuracyError, ExportError, KerasResnetError, VerificationError, reason
from keras_resnet.export.accuracy import Accuracy, Examination, LabelledImages, check_drop
from keras_resnet.export.checks import Report
from keras_resnet.export.debug import worst_layers, write_layer_errors
from keras_resnet.export.description import describe_artifact, embed, read_description
from keras_resnet.export.earlier import takes_earlier_arguments
from keras_resnet.export.files import claims_folder, clean, recover, remove, replace
from keras_resnet.export.fold import fold
from keras_resnet.export.formats import (
    FORMATS,
    TASK_OPTIONS,
    UNVERIFIED,
    Format,
    Options,
    all_formats,
    check_options,
    format_named,
)
from keras_resnet.export.images import (
    CalibrationImages,
    DrawnImages,
    ImageSource,
    calibration_images,
    comparison_images,
    read_images,
    synthetic_images,
)
from keras_resnet.export.integrity import seal
from keras_resnet.export.job import Job
from keras_resnet.export.manifest import artifact_sha256, forget, read_manifest, record, size_bytes
from keras_resnet.export.prepare import check_prepared, checked, prepare
from keras_resnet.export.quantize import (
    Quantized,
    float_layers,
    learned,
    quantize,
    signal_to_noise_db,
)
from keras_resnet.export.ranges import usual_ranges
from keras_resnet.export.recorded_answers import answers_file, record_answers
from keras_resnet.export.result import ExportReport
from keras_resnet.export.running import AS_WRITTEN, Running
from keras_resnet.export.runtimes import format_of, image_shape, open_runtime, predict
from keras_resnet.export.signing import signature_file
from keras_resnet.export.verify import Reference, ask, examine, verify
from keras_resnet.facts import facts_of
from keras_resnet.graph import unshared
from keras_resnet.labels import imagenet_labels
from keras_resnet.optional import require
from keras_resnet.predictor import Predictor
from keras_resnet.quiet import quiet_stderr
from keras_resnet.tasks import TASKS, checked_task_of, contract_of
from keras_resnet.tasks.base import Task
from keras_resnet.variants import Contract

DEFAULT_SIDE = 224  # side of images for a file that takes any size
DEFAULTS = Options()
DEBUG_IMAGES = 32  # number of calibration images for the error of each layer

Progress = Callable[[str, int, int], None]  # name of the step, number of finished steps, number of all steps


@takes_earlier_arguments
@claims_folder
def export(
    model: keras.Model,
    folder: str | os.PathLike[str],
    formats: Sequence[str] = ("saved_model", "tflite", "onnx"),
    *,
    calibration: ImageSource | CalibrationImages | None = None,
    data: Any | LabelledImages = None,
    class_names: Sequence[str] | None = None,
    contract: Contract | None = None,
    task: str | None = None,
    output_kind: str | None = None,
    options: Options = DEFAULTS,
    overwrite: bool = False,
    debug: bool = False,
    report: bool = False,
    progress: Progress = lambda step, done, total: None,
    finished: Callable[[str, ExportReport], None] = lambda name, report: None,
) -> ExportReport:
    """Network, folder -> verified artifacts in that folder, with `manifest.json`.

    Each artifact takes `image`, pixels 0..255 `[N, H, W, C]`, and gives `probabilities` `[N, classes]`, or
    `[N, H, W, classes]` for a segmentation network; a network for regression gives `values`, and a network without a
    head `features`. A detector gives `boxes`, `scores`, `labels`, `num_detections` and maybe `masks`. The artifact is
    written as `<name>.unverified`, and renamed after it gave its model's answers in its own runtime. An artifact that
    fails keeps the first name, for inspection; the other formats are still written, and the error is raised at the end.

    Args:
        model: A network of this package, or a functional model of your own, with its normalisation inside, under any
            dtype policy. `tasks.interpret` tells how it is read.
        folder: Folder for the artifacts, which is created if needed.
        formats: Names from keras_resnet.export.formats.FORMATS, or ("all",).
        calibration: At least 32 representative images for the formats that need them: a folder (or glob), pixels uint8
            `[N, H, W, C]`, a tf.data.Dataset, or `CalibrationImages`, which draws some of them. Every artifact is also
            verified on these images, and float artifacts on synthetic pictures in addition.
        data: Images with their classes or masks, on which the accuracy of model and artifacts is measured: data as
            training takes it, (pixels uint8 `[N, H, W, C]`, classes `[N]`), or `LabelledImages`, which sets the split
            and the largest loss of accuracy.
        class_names: Names of the classes, in order. Default: ImageNet's for 1000 classes.
        contract: The way from image files to pixels. Default: the contract stated for the model, for example by
            published weights, or else a centre crop of the model's input size, or of 224.
        task: Task of the model: classify, segment, tag, regress, embed or detect. Default: the stated task, or what its
            last layers and its loss show.
        output_kind: Kind of the model's output: probabilities, logits, values or features. Default: as for `task`.
        options: Options of single formats, for example the opset, the layout, the types of input and output.
        overwrite: Whether existing artifacts in the folder are replaced.
        debug: Whether the quantization error of each layer is written to the folder, for the int8 formats.
        report: Whether `report.html` and `REPORT.md` are written to the folder, with each artifact's latency and peak
            memory, and the images of `data` on which it disagrees with the model.
        progress: Called at each step with its name, the number of finished steps and the number of all steps.
        finished: Called after each format, also one that failed, with its name and the report so far.

    Raises:
        ExportError: The model or an argument does not allow the export, or a converter failed.
        MissingDependencyError: A format needs packages that are not installed.
        VerificationError: An artifact is not equal to its model.
        AccuracyError: An artifact is too much less accurate than its model.
    """
    learns = is_quantization_aware(model) if isinstance(model, keras.Model) else False
    rows = _rows(formats, options, learns, calibration)
    given, model = model, checked(model, task, output_kind)
    kind, its_task = facts_of(model).output_kind, checked_task_of(model)
    rows = _fit_rows(rows, its_task, formats, options)
    model = _for_task(model, its_task, options)
    if options.argmax:
        rows = [replace_fields(row, outputs=(its_task.outputs[MASK],), output_dtype="uint8") for row in rows]
    if not its_task.bounded:
        rows = [_of_values(row, its_task, model, options) for row in rows]
    made = ExportReport(Path(folder))
    _check_folder(made.folder, rows, overwrite)
    if debug or report:
        require("matplotlib", "plots")
    if report and not its_task.single_answer:
        raise ExportError(f"`report` (--report) is only for classifiers. Received: a network for {its_task.title}")
    total = 2 * len(rows) + 1 + report
    steps = iter(range(total))
    advance = lambda step: progress(step, next(steps), total)  # noqa: E731

    advance("prepare")
    prepared = prepare(model, contract)
    shape = prepared.inputs[0].shape[1:]
    contract = contract or contract_of(model)
    if contract is not None and any(side not in (None, own) for side, own in zip(contract.sides, shape, strict=False)):
        raise ExportError(
            f"`contract` must give the model's input size, {shape[0]}x{shape[1]}. Received: contract={contract!r}"
        )
    contract = its_task.contract_of(prepared, contract)
    _check_input(rows, its_task, prepared, contract)
    names = names_for(facts_of(model).class_names if class_names is None else class_names, prepared)
    images = None
    if calibration is not None:
        images = calibration_images(calibration, contract, shape)
        options = replace_fields(options, ranges=options.ranges or usual_ranges(len(images.images)))
    check_prepared(given, prepared, synthetic_images(shape, count=4), kind)
    folded = fold(prepared)
    separate = fold(unshared(prepared)) if its_task.built_here_alone else folded  # for the formats of integers
    kept = float_layers(separate, options.keep_float or ())
    references = _references(model, prepared, contract, names, rows, images)
    examination = None
    if data is not None:
        labelled = data if isinstance(data, LabelledImages) else LabelledImages(data)
        asked = _predictor(model.name, its_task, names, contract, prepared, partial(inference.answer, prepared))
        examination = Examination(asked, labelled, shape)
        made.evaluations["model"] = examination.model
        if not isinstance(labelled.data, tuple):
            made.account = [*account(str(labelled.data), examination.sources)]

    @cache
    def quantized(weight_steps: int) -> Quantized:
        if learns:
            return learned(folded)
        drawn = images.images  # type: ignore[union-attr]  # _rows asks for them
        ranges = str(options.ranges)
        return quantize(separate, drawn, ranges=ranges, keep_float=kept, weight_steps=weight_steps)

    maker = _Maker(
        model, its_task, folded, separate, contract, names, options, images, quantized, debug, examination, made
    )
    for row in rows:
        try:
            maker.make(row, references[row.name], advance)
        except KerasResnetError as error:
            made.failures[row.name] = error
        except OSError as error:
            made.failures[row.name] = ExportError(
                f"{row.name} can't be written in {made.folder}: {error.strerror or error}"
            )
        except BaseException:  # the user interrupts it
            remove(made.folder / (row.file_name + UNVERIFIED))
            raise
        finally:
            remove(maker.scratch(row))
        finished(row.name, made)
    if report:
        advance("report")
        from keras_resnet.export.report import write_report

        try:
            write_report(made, f"Export of {model.name}", names)
        except OSError as error:
            raise ExportError(f"the report can't be written in {made.folder}: {error.strerror or error}") from error
    if made.failures:
        raise _common_error(list(made.failures.values()))
    return made


def _fit_rows(rows: list[Format], task: Task, formats: Sequence[str], options: Options) -> list[Format]:
    """Rows, the task of the model, formats as the caller named them -> rows that can hold the model.

    Raises:
        ExportError: The caller named a format that can't hold it, or wants any size where the model has one.
    """
    unfit = [row.name for row in rows if row.name in task.unfit_formats and not options.raw_heads]
    if unfit and list(formats) != ["all"]:
        fit = ", ".join(name for name in FORMATS if name not in task.unfit_formats)
        why = "; ".join(f"{name}: {task.unfit_formats[name]}" for name in unfit)
        raise ExportError(f"`formats` (--formats) for {task.title} must be among {fit}. Received: {why}")
    if options.any_size and task.built_here_alone:
        raise ExportError(
            f"`any_size` (--any-size) must be left out for {task.title}, whose networks have one size. "
            "Received: any_size=True"
        )
    return [row for row in rows if row.name not in unfit]


def _check_input(rows: Sequence[Format], task: Task, model: keras.Model, contract: Contract | None) -> None:
    """Raises `ExportError` if the options ask for an input that no file of the prepared model can have."""
    channels = model.inputs[0].shape[-1]
    if channels != 3 and any(row.colour_order != "RGB" for row in rows):
        raise ExportError(
            "`colour_order` (--colour-order) must be left out for a network whose images have other than 3 channels. "
            f"Received: {channels} channels"
        )
    if all(row.default_signature == "pixels" for row in rows):
        return
    from keras_resnet.export.to_savedmodel import served_from_files

    if served_from_files(task, model, contract) is None:
        raise ExportError(
            "`default_signature` (--default-signature) must be pixels for this network, whose SavedModel has no "
            f"signature for image files. Received: default_signature='jpeg' for {task.title}"
        )


def _for_task(model: keras.Model, task: Task, options: Options) -> keras.Model:
    """Flat model, its task -> model of which files are written, by the options that only this task has.

    Raises:
        ExportError: An option belongs to another task, or has an invalid value.
    """
    for name, value in options.given().items():
        if name in TASK_OPTIONS and name not in task.export_settings:
            owners = " and ".join(each.title for each in TASKS.values() if name in each.export_settings)
            raise ExportError(f"`{name}` is only for {owners}. Received: {name}={value!r} for {task.title}")
    return task.for_export(model, options)


def _of_values(row: Format, task: Task, model: keras.Model, options: Options) -> Format:
    """Row of a network whose answers have no bounds -> row with its output, in float32.

    Raises:
        ExportError: The options ask for integers, which would need a scale that no reader of the file expects.
    """
    if options.output_dtype not in (None, "float32"):
        raise ExportError(
            f"`output_dtype` (--output-type) must be float32 for {task.title}, whose answers have no bounds. Received: "
            f"{options.output_dtype}"
        )
    return replace_fields(row, outputs=task.outputs_of(model), output_dtype="float32")


def _predictor(
    name: str,
    task: Task,
    class_names: Sequence[str] | None,
    contract: Contract | None,
    model: keras.Model,
    run: Callable[[np.ndarray], Answer],
) -> Predictor:
    """Model or artifact -> predictor for images with known targets."""
    names = None if class_names is None else list(class_names)
    facts, classes = facts_of(model).task_facts, task.classes_of(model)
    return Predictor(name, task, names, contract, classes, run, facts)  # type: ignore[arg-type]  # contract: of files


def _common_error(failures: Sequence[Exception]) -> ExportError:
    """-> one error for all failures, of the most specific common type."""
    kinds = (AccuracyError, VerificationError, ExportError)
    kind = next(kind for kind in kinds if kind is ExportError or all(isinstance(error, kind) for error in failures))
    return kind(*(line for error in failures for line in error.args))


@dataclass(frozen=True)
class _Maker:
    """The data that all artifacts of an export share."""

    source: keras.Model
    task: Task
    model: keras.Model  # folded, of fixed size
    separate: keras.Model  # the folded model with a copy of a layer for each call
    contract: Contract | None
    class_names: Sequence[str] | None
    options: Options
    calibration: DrawnImages | None
    quantized: Callable[[int], Quantized]
    debug: bool
    examination: Examination | None
    report: ExportReport

    def scratch(self, row: Format) -> Path:
        return self.report.folder / f".{row.file_name}.scratch"

    def make(self, row: Format, reference: Reference, advance: Callable[[str], None]) -> None:
        """Writes and verifies the artifact of a row, gives it its final name, and adds it to the manifest."""
        folder = self.report.folder
        path, unverified = folder / row.file_name, folder / (row.file_name + UNVERIFIED)
        self.scratch(row).mkdir(parents=True)
        advance(f"write {row.name}")
        job = self._job(row)
        _write(job, unverified)
        advance(f"verify {row.name}")
        errors = self._layer_errors(job) if self.debug and row.learned else None
        try:
            report = verify(unverified, row, reference)
            accuracy = self._accuracy(unverified, row)
        except VerificationError as error:
            raise type(error)(*error.args, *(worst_layers(errors) if errors else ())) from error
        try:
            answers = record_answers(unverified, row, self.task, job.description["output"]["classes"], self._pictures())
        except OSError:
            remove(unverified)
            raise
        forget(folder, row.name)  # the entry of an older file is not valid for the new file, nor are these two
        remove(signature_file(path))
        remove(answers_file(path))
        if answers is not None:  # before the artifact, which a kill between the two must not leave without them
            os.replace(answers_file(unverified), answers_file(path))
        replace(unverified, path)
        self.report.paths[row.name], self.report.reports[row.name] = path, report
        entry = {
            "file": row.file_name,
            "runtime": row.runtime,
            "size_bytes": size_bytes(path),
            "sha256": artifact_sha256(path),
            "description": job.description,
            "verification": report.as_dict(),
            "accuracy": accuracy.as_dict() if accuracy else None,
            "answers": None if answers is None else {"file": answers_file(path).name, **answers},
        }
        record(folder, row.name, entry)

    def _ranges(self, row: Format, calibration: DrawnImages | None) -> str | None:
        """-> where the ranges of an integer file's activations come from; None if each image gives its own."""
        if is_quantization_aware(self.model):
            return "learned in training"
        if calibration is None:
            return None
        if "ranges" not in row.options:
            return "minmax"  # LiteRT's converter takes it for 16-bit activations
        return self.options.ranges

    def _job(self, row: Format) -> Job:
        model = fold(prepare(self.source, self.contract, any_size=True)) if row.any_size else self.model
        quantization = None
        if row.integer:
            calibration = self.calibration if row.calibrated else None
            quantization = {
                "ranges": self._ranges(row, calibration),
                "calibration": None if calibration is None else calibration.as_dict(),
                "keep_float": list(row.keep_float),
            }
        description = describe_artifact(
            self.source,
            task=self.task,
            format_name=row.name,
            size=tuple(model.inputs[0].shape[1:]),
            layout=row.layout,
            colour_order=row.colour_order,
            default_signature=row.default_signature,
            input_dtype=row.input_dtype,
            outputs={output: row.dtype_of(output) for output in row.outputs},
            class_names=self.class_names,
            contract=self.contract,
            quantization=quantization,
        )
        images = None if self.calibration is None else self.calibration.images
        scratch = self.scratch(row)
        return Job(
            row,
            self.options,
            self.task,
            model,
            self.contract,
            self.class_names,
            description,
            scratch,
            images,
            self.quantized,
        )

    def _pictures(self) -> Iterator[np.ndarray]:
        """-> images to record answers to. Those of the user only where made pictures prove nothing."""
        yield synthetic_images(self.model.inputs[0].shape[1:])
        if self.calibration is not None:
            yield self.calibration.images

    def _accuracy(self, path: Path, row: Format) -> Accuracy | None:
        """Measures the artifact on the labelled images, if there are any, and checks it against the gate."""
        if self.examination is None:
            return None
        run = partial(predict, open_runtime(path, row))
        asked = _predictor(str(path), self.task, self.class_names, self.contract, self.model, run)
        accuracy, self.report.evaluations[row.name] = self.examination.of(asked)
        self.report.accuracy[row.name] = accuracy
        check_drop(str(path), accuracy, self.examination.max_drop_points(row))
        return accuracy

    def _layer_errors(self, job: Job) -> dict[str, float]:
        quantized = job.quantized()
        images = (
            self.calibration.images[:DEBUG_IMAGES]
            if self.calibration
            else synthetic_images(job.model.inputs[0].shape[1:])
        )
        points = [name for name in quantized.ranges if name not in quantized.keep_float]
        exact = quantized.model if is_quantization_aware(self.model) else self.separate
        errors = signal_to_noise_db(exact, quantized.simulate(), points, images)
        write_layer_errors(self.report.folder, job.row.name, errors)
        return errors


def require_converters(rows: Iterable[Format]) -> None:
    """Raises `MissingDependencyError` if a package that these formats need is not installed."""
    for row in rows:
        for module in row.modules:
            require(module, str(row.extra))


def _rows(formats: Sequence[str], options: Options, learns: bool, calibration: Any) -> list[Format]:
    """Checks arguments before the work starts -> rows of the table, changed by the options."""
    if isinstance(formats, str) or not formats:
        raise ExportError(f"`formats` must be a non-empty list of names. Received: formats={formats!r}")
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"export needs the TensorFlow backend. Received: KERAS_BACKEND={keras.backend.backend()}. Save the model "
            "as a .keras file and export that with KERAS_BACKEND=tensorflow"
        )
    every = [name for name in all_formats() if FORMATS[name].learned or not learns]
    rows = [format_named(name) for name in (every if list(formats) == ["all"] else dict.fromkeys(formats))]
    check_options(options, rows)
    require_converters(rows)
    if learns:
        wrong = [row.name for row in rows if not row.learned]
        if wrong:
            raise ExportError(
                f"a model of quantization-aware training can only be written as {', '.join(every)}, which keep its "
                f"rounding. Received: {', '.join(wrong)}. For other formats, export the model that it was made from"
            )
    uncalibrated = [row.name for row in rows if row.calibrated and calibration is None and not learns]
    if uncalibrated:
        raise ExportError(
            f"`calibration` (--calibration) must give typical images for {', '.join(uncalibrated)}. Received: "
            "calibration=None"
        )
    return [row.chosen(options) for row in rows]


def _check_folder(folder: Path, rows: Sequence[Format], overwrite: bool) -> None:
    """Removes leftovers of a killed run, and refuses to replace artifacts without `overwrite`."""
    try:
        for row in rows:
            recover(folder / row.file_name)
        existing = [str(folder / row.file_name) for row in rows if (folder / row.file_name).exists()]
        if existing and not overwrite:
            raise ExportError(
                f"{', '.join(existing)} already exists: give another folder or overwrite=True (--overwrite)"
            )
        read_manifest(folder)  # an unreadable manifest is an error now, not after the work
        clean(folder, [row.file_name for row in rows])
    except OSError as error:
        raise ExportError(f"`folder` (--out) can't be written: {folder}: {error.strerror or error}") from error


def _references(
    model: keras.Model,
    prepared: keras.Model,
    contract: Contract | None,
    class_names: Sequence[str] | None,
    rows: Sequence[Format],
    calibration: DrawnImages | None,
) -> dict[str, Reference]:
    """-> images and the model's answers for comparing the artifact of each format, by format."""
    shape = prepared.inputs[0].shape[1:]
    real = None if calibration is None else calibration.images
    asked: dict[bool, Reference] = {}
    for integer in sorted({row.integer for row in rows}):  # float formats first, whose images end with the others
        images = comparison_images(shape, real, integer)
        asked[integer] = ask(prepared, images, class_names, contract, asked.get(False))
    free = prepare(model, contract, any_size=True) if any(row.any_size for row in rows) else None
    references = {row.name: asked[row.integer].limited(row.verified_images) for row in rows}
    return {
        row.name: references[row.name].with_other_size(free) if row.any_size else references[row.name] for row in rows
    }


def names_for(class_names: Sequence[str] | None, model: keras.Model) -> list[str] | None:
    """Class names from the caller, if any -> name of each class of the model; default for 1000 classes: ImageNet's."""
    task = checked_task_of(model)
    classes = task.classes_of(model)
    if class_names is None:
        is_imagenet = classes == 1000 and task.bounded
        return [name for _, name in imagenet_labels()] if is_imagenet else None
    if len(class_names) != classes:
        raise ExportError(
            f"`class_names` (--class-names) must name the model's {classes} classes. Received: {len(class_names)} names"
        )
    return list(class_names)


def _write(job: Job, path: Path) -> None:
    """Imports only the needed converter, because each converter imports further packages."""
    module, _, function = job.row.writer.partition(":")
    write = getattr(importlib.import_module(f"keras_resnet.export.{module}"), function)
    try:
        with quiet_stderr():
            write(job, path)
        if path.is_file():
            embed(path, job.description)
        else:
            seal(path)
        remember(artifact_sha256(path), job.row.runtime)
    except (KerasResnetError, OSError):
        remove(path)
        raise
    except Exception as error:  # each converter has its own exceptions, some derived directly from Exception
        remove(path)
        raise ExportError(
            f"{job.row.name} can't be written in {path.parent}: {_why(error, job, path.parent)}"
        ) from error


def _why(error: Exception, job: Job, folder: Path) -> str:
    """Converter's exception -> reason for a message, with a hint if the disk is nearly full."""
    full, free_bytes = os.strerror(errno.ENOSPC), shutil.disk_usage(folder).free
    if full in str(error):
        return full
    scarce = free_bytes < 10 * 4 * job.model.count_params() + 1_000_000  # including intermediate files
    return f"{type(error).__name__}: {reason(error)}" + (f" ({free_bytes:,} bytes are free there)" if scarce else "")


def _as_described(model: keras.Model, description: Mapping[str, Any] | None) -> keras.Model:
    """Source model, description of its artifact -> the model with the settings that the description states.

    The artifact is compared with this model. So it is refused if its graph has other settings than it states.
    """
    task = checked_task_of(model)
    stated = task.described_options(description) if description and description["task"] == task.name else {}
    return task.for_export(model, Options(**stated))


def examine_artifact(
    path: Path,
    model: keras.Model,
    *,
    images: ImageSource | None,
    contract: Contract,
    trust: bool = False,
    class_names: Sequence[str] | None = None,
    data: Any | LabelledImages = None,
    running: Running = AS_WRITTEN,
) -> Report:
    """Artifact, its source model, images -> report, which may contain failed checks.

    Args:
        images: Images to compare on: folder, glob, pixels uint8 `[N, H, W, C]`, or tf.data.Dataset.
        contract: The way from image files to the model's pixels.
        trust: Whether the artifact is opened whatever operations it holds, and in this process at once.
        class_names: Names that the artifact must have. Default: the names that are stated for the model.
        data: Images with known targets, as `export` takes them. The artifact reads them as its description states.
        running: The runtime, if it is not the format's own.
    """
    row = running.of(format_of(path, trust))
    if row.calibrated and images is None:
        raise ExportError(f"{path}: an integer artifact can only be verified on real images: give --images FOLDER")
    if None in contract.sides:
        height, width, _ = image_shape(open_runtime(path, row, trust=trust).inputs[IMAGE].shape)
        contract = contract.of_sides(height or DEFAULT_SIDE, width or DEFAULT_SIDE)
    prepared = prepare(_as_described(checked(model), read_description(path)), contract)
    shape = prepared.inputs[0].shape[1:]
    way = checked_task_of(prepared).contract_of(prepared, contract)
    real = None if images is None else read_images(images, way, shape)
    names = names_for(facts_of(model).class_names if class_names is None else class_names, prepared)
    report = examine(path, row, ask(prepared, comparison_images(shape, real, row.integer), names, way), trust)
    if data is None:
        return report
    labelled = data if isinstance(data, LabelledImages) else LabelledImages(data)
    task = checked_task_of(prepared)
    asked = _predictor(model.name, task, names, way, prepared, partial(inference.answer, prepared))
    examination = Examination(asked, labelled, shape)
    return replace_fields(report, checks=(*report.checks, examination.check(path, row, trust, running)))
