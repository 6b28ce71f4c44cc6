"""`keras-resnet predict`: image files -> a network's answer for each, with class names."""

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from keras_resnet.cli.answer_table import STDOUT, AnswerRows, Write, check_table_files, open_tables
from keras_resnet.cli.images import list_or_name, paths_in, read_batches
from keras_resnet.cli.interrupts import on_interrupt, this_command
from keras_resnet.cli.network import (
    OutputKindOption,
    PrecisionOption,
    RevisionOption,
    RuntimeOption,
    TaskOption,
    TrustOption,
    WeightsOption,
    WeightsPrefixOption,
    tell_reading,
    weights_from,
)
from keras_resnet.cli.task_options import options_of, with_task_options
from keras_resnet.errors import ArgumentError
from keras_resnet.printable import printable
from keras_resnet.tasks.base import ReadFile
from keras_resnet.tasks.outputs import Stated
from keras_resnet.tasks.tables import RANKED
from keras_resnet.variants import VARIANTS

FEW = 16  # number of images below which no rate is printed
TOP = 5  # number of classes that are printed


@with_task_options("predict")
def predict(
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE", help="Files, folders or quoted globs.", show_default=False)
    ] = None,
    files_from: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Text file in UTF-8 with further image files, one path a line or separated by NUL characters; - reads "
            "stdin. Relative paths start at the current folder.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Model: a .keras file that takes RGB pixels 0..255, an artifact (SavedModel folder, .tflite, .onnx), "
            "a folder that `train` or `export` wrote, "
            f"or a network, which takes --weights: {', '.join(VARIANTS)}.",
            show_default="resnet50 with published weights",
        ),
    ] = "resnet50",
    weights: WeightsOption = None,
    weights_prefix: WeightsPrefixOption = None,
    revision: RevisionOption = None,
    task: TaskOption = None,
    output_kind: OutputKindOption = None,
    trust: TrustOption = False,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of classes to name for each image; for detectors, number of objects.",
            show_default="5; in a table of tagging, segmentation or detection, all",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Number of images that the network takes at a time; for segmentation always 1.")
    ] = 16,
    csv_file: Annotated[
        str | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write the answers as a CSV file with one row for each image, or for each object that a detector "
            "finds, instead of printing them; - is stdout.",
        ),
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the answers as a JSON file, one array with one object for each image, each on a line of its "
            "own, instead of printing them; - is stdout. For detectors it has COCO's form of results, with one object "
            "for each object that is found.",
        ),
    ] = None,
    **options: Any,
) -> None:
    """Print the most probable classes of each image.

    For segmentation, print the classes that cover the most pixels; for tagging, all classes above the threshold; for
    detection, the objects with the highest scores.

    An image that can't be read is named on stderr and left out, but has a row with its error in the files of --csv and
    --json, except in COCO's form of results; the exit status is then 1. After more than 16 images, a last line on
    stderr gives the number of images per second.
    """
    from keras_resnet.export.running import Running
    from keras_resnet.loading import check_model, is_artifact, open_predictor
    from keras_resnet.model_folders import model_in

    if not images and files_from is None:
        raise ArgumentError("predict needs images: name files or folders, or give --files-from FILE")
    check_table_files(csv_file, json_file)
    source = weights_from(weights, weights_prefix, revision)
    running = Running(runtime, precision)
    model = model_in(model, running)
    if not is_artifact(model):
        check_model(model, source)
    listed, failed = list_or_name(images or [])
    paths = [*map(str, listed), *([] if files_from is None else paths_in(files_from))]
    failures = len(failed)
    with on_interrupt(lambda: _kept(csv_file, json_file, options)), contextlib.ExitStack() as stack:
        predictor = None
        if paths:
            stated = Stated(task, output_kind)
            predictor = open_predictor(model, source, stated=stated, trust=trust, running=running)
        form = RANKED if predictor is None else predictor.task.table
        tables = stack.enter_context(open_tables(csv_file, json_file, form))
        for pattern, error in failed:
            AnswerRows(tables, [pattern], {0: error}).add_unreadable(1)
        if predictor is not None:
            tell_reading(predictor.read_as)
            given = options_of(predictor.task, "predict", options, model)
            failures += _predict_all(paths, predictor, top, batch_size, given, tables, STDOUT in (csv_file, json_file))
    written = [file for file in (csv_file, json_file) if file is not None]
    if written and STDOUT not in written:
        print(printable(f"written: {', '.join(written)}"))
    if failures:
        raise typer.Exit(1)


def _predict_all(
    paths: Sequence[str],
    predictor: Any,
    top: int | None,
    batch_size: int,
    given: dict[str, Any],
    tables: Sequence[Write],
    on_stdout: bool,
) -> int:
    """Prints the answer for each image, or writes its row, batch by batch -> number of images that can't be read."""
    task, asked = predictor.task, predictor.asked
    for_answers, for_printer = task.read_options(given)
    show = task.printer(asked, paths, top or TOP, _leave_out if tables else _print_line, for_printer)
    unreadable: dict[int, str] = {}
    rows = AnswerRows(tables, paths, unreadable)
    start = time.perf_counter()
    size = task.batch_size(predictor.contract, batch_size)
    for places, pixels in read_batches(paths, predictor.read, size, unreadable, prints=on_stdout or not tables):
        answers = task.answers(asked, pixels, **for_answers)
        for place, image, answer in zip(places, pixels, answers, strict=True):
            show(place, image, answer)
            if tables:
                rows.add(place, task.rows(asked, ReadFile(place, paths[place], image), answer, top, for_printer))
    if tables:
        rows.add_unreadable(len(paths))
    seconds, read_count = time.perf_counter() - start, len(paths) - len(unreadable)
    if read_count > FEW:
        print(f"{read_count} images in {seconds:.2f} s: {read_count / seconds:.1f} images/s", file=sys.stderr)
    return len(unreadable)


def _print_line(line: str) -> None:
    print(printable(line))


def _leave_out(line: str) -> None:
    """Stands for `_print_line` where tables hold the answers."""


def _kept(csv_file: str | None, json_file: str | None, options: dict[str, Any]) -> str:
    """Options -> what an interruption leaves."""
    tables = [file for file in (csv_file, json_file) if file not in (None, STDOUT)]
    kept = f"{' and '.join(tables)} was not written" if tables else "No file is half-written"
    if options.get("out"):
        kept += f"; finished pictures stay in {options['out']}"
    return f"{kept}. To start over: {this_command()}"
