"""`keras-resnet benchmark`: latency, memory, size and accuracy of models, artifacts and their rivals, side by side."""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from keras_resnet.cli.network import (
    OutputKindOption,
    RevisionOption,
    SplitOption,
    TaskOption,
    TrustOption,
    WeightsOption,
    WeightsPrefixOption,
    weights_from,
)
from keras_resnet.cli.progress import progress, status
from keras_resnet.cli.setting_options import with_data_options
from keras_resnet.errors import ArgumentError, ExportError
from keras_resnet.optional import require
from keras_resnet.printable import cell, printable, printable_lines
from keras_resnet.tasks.outputs import Stated
from keras_resnet.variants import VARIANTS

WIDTH = 110  # characters

if TYPE_CHECKING:
    from keras_resnet.benchmark.compare import Contender, Predict, Result
    from keras_resnet.measure.process import Loader
    from keras_resnet.predictor import Predictor


@with_data_options
def benchmark(
    subjects: Annotated[
        list[str],
        typer.Argument(
            metavar="SUBJECT...",
            help="Subjects to measure: artifacts (SavedModel, OpenVINO or web folder, .tflite, .onnx), folders of "
            "exported artifacts, .keras files, folders that `train` wrote, or names of networks. Ratios are "
            "relative to the first subject.",
        ),
    ],
    weights: WeightsOption = None,
    weights_prefix: WeightsPrefixOption = None,
    revision: RevisionOption = None,
    task: TaskOption = None,
    output_kind: OutputKindOption = None,
    trust: TrustOption = False,
    bfloat16: Annotated[
        bool,
        typer.Option(
            "--bfloat16",
            help="Measure each subject that OpenVINO runs in float32 a second time, in bfloat16, as the option "
            "--precision of the other commands runs it.",
        ),
    ] = False,
    batch_size: Annotated[
        list[int] | None, typer.Option(min=1, help="Batch size; may be given several times.", show_default="1")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU cores for each subject.", show_default="all")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of rounds, in each of which every subject is measured once.")
    ] = 5,
    rivals: Annotated[
        bool,
        typer.Option(
            "--rivals",
            help="Measure the first subject's network in other packages too: keras.applications, PyTorch, ONNX "
            "Runtime, OpenVINO. The extra `rivals` installs them; absent ones are left out.",
        ),
    ] = False,
    calibration: Annotated[
        str | None,
        typer.Option(help="Images for calibrating OpenVINO's int8 rival: a folder or a quoted glob. Needs --rivals."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images with their classes or masks, as `train` takes them, to measure each subject's accuracy on."
        ),
    ] = None,
    split: SplitOption = "val",
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the time of each layer of the .tflite and .onnx files.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for benchmark.json, and with --profile for profiles and pictures.")
    ] = None,
    reading: Any = None,
) -> None:
    """Measure models and artifacts, and other packages on request, in turn. Each runs in its own process.

    A subject that can't be measured is reported on stderr and left out; the exit status is then 1.
    """
    from keras_resnet.loading import check_model, is_artifact
    from keras_resnet.measure.record import write_record

    source = weights_from(weights, weights_prefix, revision)
    cores = threads or os.cpu_count() or 1
    chosen = [path for subject in subjects for path in _expand(subject)]
    if repeated := sorted({name for name in chosen if chosen.count(name) > 1}):
        raise ArgumentError(f"a subject must not be given twice. Received twice: {', '.join(repeated)}")
    for subject in chosen:
        if not is_artifact(subject):
            check_model(subject, source if subject in VARIANTS else None)
    if profile:
        require("matplotlib", "plots")
        if not any(subject.endswith((".tflite", ".onnx")) for subject in chosen):
            raise ArgumentError(f"--profile needs a .tflite or .onnx file. Received: {', '.join(chosen)}")
    if out is not None and out.suffix == ".json":
        raise ArgumentError(f"--out must name a folder, in which benchmark.json is written. Received: {out}")
    if calibration is not None and not rivals:
        raise ArgumentError(f"--calibration needs --rivals, which was not given. Received: {calibration}")
    batch_sizes = batch_size or [1]
    if len(set(batch_sizes)) < len(batch_sizes):
        raise ArgumentError(f"a --batch-size must not be given twice. Received: {batch_sizes}")
    with tempfile.TemporaryDirectory() as name, progress(status) as show:

        def tell(step: str) -> None:
            show(step, 0, 0)

        tell("start")
        names, answers = _names(chosen), rivals or data is not None
        stated = {"task": task, "output_kind": output_kind}
        given = {"weights": weights, "weights_prefix": weights_prefix, "revision": revision, **stated}
        contenders = [_contender(one, names[one], given, cores, answers, trust) for one in chosen]
        if bfloat16:
            contenders += _in_bfloat16(chosen, names, cores, trust)
        if rivals:
            contenders += _rivals(chosen, contenders, Path(name), cores, calibration, tell)
        from keras_resnet.benchmark.compare import compare

        compared = compare(
            contenders,
            batch_sizes=batch_sizes,
            threads=threads,
            rounds=rounds,
            judge=None if data is None else _judge_of(data, split, reading),
            tell=tell,
        )
    for failure in compared.failures.values():
        print(printable_lines(failure), file=sys.stderr)
    _print(compared.results, batch_sizes)
    record: dict[str, Any] = {
        "contenders": {name: result.as_dict() for name, result in compared.results.items()},
        "failures": compared.failures,
    }
    if profile:
        record |= _profile([Path(subject) for subject in chosen], cores, out, trust)
    if out is not None:
        data_name = None if data is None else Path(data).name
        settings = {"threads": cores, "batch_sizes": batch_sizes, "rounds": rounds, "data": data_name}
        write_record(out / "benchmark.json", "benchmark", settings, record)
        print("\n" + printable(f"written to {out}"))
    _name_fastest(contenders[: len(chosen)], compared.results, batch_sizes)
    if compared.failures:
        raise typer.Exit(1)


def _expand(subject: str) -> list[str]:
    """Subject as the user names it -> the subject; folder of a run -> its model; of an export -> each artifact."""
    from keras_resnet.export.manifest import FILE_NAME, check_recorded, read_manifest
    from keras_resnet.model_folders import model_in

    if not Path(subject, FILE_NAME).is_file():
        return [model_in(subject)]
    entries = read_manifest(Path(subject))["artifacts"].values()
    for entry in entries:
        check_recorded(Path(subject), entry)
    return [str(Path(subject, entry["file"])) for entry in entries]


def _names(subjects: Sequence[str]) -> dict[str, str]:
    """-> name of each subject: its file name, or its whole path where another subject has an equal file name."""
    names = [Path(subject).name for subject in subjects]
    return {subject: name if names.count(name) == 1 else subject for subject, name in zip(subjects, names, strict=True)}


def _contender(
    subject: str, name: str, given: Mapping[str, str | None], threads: int, answers: bool, trust: bool
) -> "Contender":
    """Model or artifact -> `Contender`. `answers`: build a model in this process too, to read its task and contract."""
    from keras_resnet.benchmark.compare import Contender
    from keras_resnet.loading import is_artifact, open_predictor

    if is_artifact(subject):
        return _contender_of_artifact(subject, name, threads, trust)
    return Contender(
        name,
        f"{__name__}:model_loader",
        {"model": subject, **given},
        "Keras, predict_on_batch, from pixels",
        Path(subject) if subject.endswith(".keras") else None,
        open_predictor(subject, **_read_as(given)) if answers else None,
    )


def _contender_of_artifact(subject: str, name: str, threads: int, trust: bool, precision: str = "") -> "Contender":
    """Artifact, precision if it is not the file's own -> `Contender`."""
    from keras_resnet.benchmark.compare import Contender
    from keras_resnet.export import cost
    from keras_resnet.export.artifact import open_artifact
    from keras_resnet.export.running import Running

    artifact = open_artifact(subject, threads, trust, Running(precision=precision or None))
    row = artifact.format
    return Contender(
        name,
        cost.OPENER,
        {"path": subject, "threads": threads, "runtime": row.runtime},
        f"{row.runtime}, from pixels",
        Path(subject),
        artifact.predictor,
        numbers=precision or row.numbers,
    )


def _in_bfloat16(subjects: Sequence[str], names: Mapping[str, str], threads: int, trust: bool) -> list["Contender"]:
    """-> a further contender for each artifact that OpenVINO runs in float32, which runs it in bfloat16.

    Raises:
        ArgumentError: There is none.
    """
    from keras_resnet.export.running import OPENVINO
    from keras_resnet.export.runtimes import format_of
    from keras_resnet.loading import is_artifact

    rows = {one: format_of(Path(one), trust) for one in subjects if is_artifact(one)}
    fit = [one for one, row in rows.items() if row.runtime == OPENVINO and row.numbers == "float32"]
    if not fit:
        raise ArgumentError(f"--bfloat16 needs an artifact of the format openvino. Received: {', '.join(subjects)}")
    return [_contender_of_artifact(one, f"{names[one]} in bfloat16", threads, trust, "bfloat16") for one in fit]


def _read_as(given: Mapping[str, str | None]) -> dict[str, Any]:
    """Values of the options about a network -> arguments of `open_predictor`."""
    source = weights_from(given["weights"], given["weights_prefix"], given["revision"])
    return {"weights": source, "stated": Stated(given["task"], given["output_kind"])}


def model_loader(model: str, **given: str | None) -> "Loader":
    """Values of the options of a network -> loader that opens it as `keras-resnet predict` does."""
    from keras_resnet.loading import open_predictor
    from keras_resnet.measure.process import Opened
    from keras_resnet.quiet import import_keras

    import_keras()

    def load() -> Opened:
        predictor = open_predictor(model, **_read_as(given))
        return Opened(predictor.run, (*predictor.contract.sides, 3))

    return load


def _rivals(
    subjects: Sequence[str],
    contenders: Sequence["Contender"],
    folder: Path,
    threads: int,
    calibration: str | None,
    tell: Callable[[str], None],
) -> list["Contender"]:
    """-> contenders that run the first subject's network in other packages; missing packages are named on stderr."""
    from keras_resnet.benchmark.rivals import NETWORKS, in_openvino, rivals_of
    from keras_resnet.export.description import read_description
    from keras_resnet.loading import is_artifact
    from keras_resnet.measure.process import FREE_SIDE
    from keras_resnet.preprocessing import list_images, load_images

    described = [(read_description(Path(subject)) or {}) if is_artifact(subject) else {} for subject in subjects]
    network = str(described[0].get("network", subjects[0]))
    if network not in NETWORKS:
        raise ArgumentError(
            f"--rivals: the first subject must be one of {', '.join(NETWORKS)}, or its artifact. Received: {network}"
        )
    first = contenders[0].answers
    if first is not None and not {*first.contract.sides} <= {None, FREE_SIDE}:
        raise ArgumentError(
            f"--rivals: the first subject must take {FREE_SIDE}x{FREE_SIDE} pixels. "
            f"{subjects[0]} takes {first.contract.sides}"
        )
    kinds = {about.get("format"): place for place, about in enumerate(described)}
    onnx = None if "onnx" not in kinds else Path(subjects[kinds["onnx"]])
    answers = None if onnx is None else contenders[kinds["onnx"]].answers
    pixels = None
    if calibration is not None and answers is not None:
        pixels = load_images(list_images([calibration]), answers.contract)
    found, absent = rivals_of(network, folder, threads, onnx, pixels, answers, tell)
    for line in absent:
        print(printable(line), file=sys.stderr)
    if importlib.util.find_spec("openvino") is not None:
        ours = [contenders[kinds[kind]] for kind in ("onnx", "onnx-int8") if kind in kinds]
        found += [in_openvino(one, threads) for one in ours]
    return found


def _judge_of(data: str, split: str, reading: Any) -> Callable[["Contender", "Predict"], Mapping[str, float | None]]:
    """Images with known targets -> function: contender, its predict function -> its figures on these images."""
    from dataclasses import replace

    from keras_resnet.data.taken import account
    from keras_resnet.evaluating import evaluate

    told: list[str] = []

    def judge(contender: "Contender", predict: "Predict") -> Mapping[str, float | None]:
        meant = cast("Predictor", contender.answers)  # only contenders with a predictor are judged
        predictor = replace(meant, name=contender.name, run=predict)
        task = predictor.task
        sources = task.open_sources(data, split, predictor.asked, predictor.classes, reading)
        if not told:  # the contenders are judged on one set of images
            told.extend(account(data, sources))
            for line in told:
                print(printable(line), file=sys.stderr)
        evaluation = evaluate(predictor, sources)
        return {} if evaluation is None else {task.score: evaluation.figures[task.score]}

    return judge


def _profile(artifacts: Sequence[Path], threads: int, out: Path | None, trust: bool) -> dict[str, Any]:
    """Prints the time by layer of each file -> profiles and the machine's limits, for the record; draws into `out`."""
    from keras_resnet.benchmark.profile import print_profile, profile_artifact
    from keras_resnet.benchmark.profile_plots import draw_profile, draw_roofline
    from keras_resnet.benchmark.roofline import measure_peak
    from keras_resnet.whole_files import write_whole

    peak = measure_peak(threads)
    limits = f"limits: {peak.gflops:.0f} GFLOP/s, {peak.bandwidth_gb_per_s:.1f} GB/s ({peak.how})"
    print("\n" + printable(limits))
    profiles = {}
    for path in artifacts:
        if path.suffix not in (".tflite", ".onnx"):
            continue
        profile = profile_artifact(path, threads=threads, trust=trust)
        print()
        print_profile(profile)
        profiles[path.name] = profile.as_dict() | {"path": path.name}
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(out / f"{path.name} profile.png", draw_profile(profile))
            write_whole(out / f"{path.name} roofline.png", draw_roofline(profile, peak))
    return {"peak": asdict(peak), "profiles": profiles}


def _print(results: dict[str, "Result"], batch_sizes: Sequence[int]) -> None:
    """Prints a table for each batch size."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from keras_resnet.tasks import LEARNED

    measured = {
        f"{task.titles[task.score]}\n%": task.score
        for task in LEARNED.values()
        if any(task.score in result.figures for result in results.values())
    }
    for batch_size in batch_sizes:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(f"batch {batch_size}\n", no_wrap=True)
        columns = ["p50\nms", "p90\nms", "p99\nms", "images/s\n", "ratio\n", "load\nms", "memory\nMB", "file\nMB"]
        for column in [*columns, *measured]:
            table.add_column(column, no_wrap=True, justify="right")
        for name, result in results.items():
            timing = result.timings[batch_size]
            latency = timing.latency
            cells = [f"{ms:.3g}" for ms in (latency.median_ms, latency.p90_ms, latency.p99_ms)]
            cells += [f"{timing.images_per_s:.3g}", f"{timing.ratio_to_first.median:.2f}"]
            cells += [f"{result.opening.load_ms:.0f}", f"{result.peak_memory_mb:.0f}", _cell(result.size_mb, ".1f")]
            table.add_row(cell(name), *cells, *(_cell(result.figures.get(key), ".2f") for key in measured.values()))
        # The width is fixed, since a pipe has no width and no column may be cut off.
        Console(width=WIDTH, highlight=False).print(table)


def _name_fastest(
    contenders: Sequence["Contender"], results: Mapping[str, "Result"], batch_sizes: Sequence[int]
) -> None:
    """Contenders that the user named, results by name -> a line for each batch size about the fastest artifacts.

    If the artifacts are of one export, its folder gets the record that `predict` and `evaluate` read.
    """
    from keras_resnet.benchmark.fastest import measured_artifacts
    from keras_resnet.export.manifest import FILE_NAME
    from keras_resnet.fastest import fastest_of, record_fastest, sentence

    for batch_size in batch_sizes:
        artifacts = measured_artifacts(contenders, results, batch_size)
        if len(artifacts) < 2:
            return
        fastest = fastest_of(list(artifacts.values()))
        print("\n" + printable(sentence(fastest, batch_size)))
        folder, *others = {path.parent for path in artifacts}
        if batch_size == batch_sizes[0] and fastest.taken and not others and (folder / FILE_NAME).is_file():
            file = next(path for path, one in artifacts.items() if one is fastest.taken)
            try:
                record_fastest(file, fastest.taken.latency_ms, batch_size)
            except (OSError, ExportError) as error:
                print(printable(f"the fastest artifact is not recorded: {error}"), file=sys.stderr)
            else:
                print(printable(f"On this machine, `predict` and `evaluate` now take {file.name} of {folder}."))


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
