"""`keras-resnet export`: network -> verified artifacts."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_resnet.cli.export_table import ExportTable
from keras_resnet.cli.interrupts import on_interrupt
from keras_resnet.cli.network import (
    ClassNamesOption,
    MaxDropOption,
    ModelOption,
    OutputKindOption,
    RevisionOption,
    SplitOption,
    TaskOption,
    WeightsOption,
    WeightsPrefixOption,
    names_in,
    tell_reading,
    weights_from,
)
from keras_resnet.cli.progress import progress, status
from keras_resnet.cli.setting_options import with_data_options
from keras_resnet.cli.task_options import options_of, with_task_options
from keras_resnet.errors import ArgumentError
from keras_resnet.export.formats import (
    CHOICES,
    FORMATS,
    Format,
    Options,
    all_formats,
    check_options,
    format_named,
    takers_of,
)
from keras_resnet.printable import printable
from keras_resnet.tasks.outputs import Stated

if TYPE_CHECKING:
    from keras_resnet.export.result import ExportReport


def _takers(option: str) -> str:
    return ", ".join(takers_of(option))


def _takers_and_values(option: str) -> str:
    *others, last = CHOICES[option]
    return f"{_takers(option)}: {', '.join(others)} or {last}"


_CALIBRATED = [row.name for row in FORMATS.values() if row.calibrated]
_OPSETS = CHOICES["opset"]
_LATER_OPSETS = [f"{row.first_opset} for {row.name}" for row in FORMATS.values() if row.first_opset > _OPSETS[0]]


@with_data_options
@with_task_options("export")
def export(
    out: Annotated[Path, typer.Option(help="Folder for the artifacts and manifest.json.")],
    model: ModelOption = "resnet50",
    weights: WeightsOption = None,
    weights_prefix: WeightsPrefixOption = None,
    revision: RevisionOption = None,
    task: TaskOption = None,
    output_kind: OutputKindOption = None,
    formats: Annotated[
        str,
        typer.Option(
            help=f"Formats to write, comma-separated: {', '.join(FORMATS)}; or all, which leaves out "
            f"{', '.join(name for name in FORMATS if name not in all_formats())}."
        ),
    ] = "saved_model,tflite,onnx",
    calibration: Annotated[
        str | None,
        typer.Option(
            help=f"Folder or quoted glob with at least 32 typical images. Needed for {', '.join(_CALIBRATED)}."
        ),
    ] = None,
    calibration_count: Annotated[
        int | None, typer.Option(min=1, help="Number of calibration images to draw.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for drawing the calibration images.")] = 0,
    force_calibration: Annotated[
        bool, typer.Option("--force-calibration", help="Calibrate even on fewer than 32 images or on noise.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images with their classes or masks, as `train` takes them, to measure the accuracy on. Take other "
            "images than for --calibration."
        ),
    ] = None,
    split: SplitOption = "val",
    max_drop: MaxDropOption = None,
    class_names: ClassNamesOption = None,
    ranges: Annotated[
        str | None,
        typer.Option(
            help="Ranges of the int8 activations: minmax (smallest and largest value on the calibration images) or mse "
            "(least squared error, which clips rare values).",
            show_default="mse from 64 calibration images on, minmax for fewer",
        ),
    ] = None,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer that int8 formats leave in float; may be given several times. --debug lists the names."
        ),
    ] = None,
    input_type: Annotated[
        str | None,
        typer.Option(help=f"Input type of {_takers_and_values('input_dtype')}.", show_default="uint8"),
    ] = None,
    output_type: Annotated[
        str | None,
        typer.Option(help=f"Output type of {_takers_and_values('output_dtype')}.", show_default="uint8"),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(
            help=f"ONNX opset: {_OPSETS[0]} to {_OPSETS[-1]} (at least {', '.join(_LATER_OPSETS)}).", show_default="17"
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Layout of the ONNX input: nhwc or nchw.", show_default="nhwc")
    ] = None,
    colour_order: Annotated[
        str | None,
        typer.Option(
            help=f"Order of the colours in the pixels that the files take: rgb or bgr ({_takers('colour_order')}).",
            show_default="rgb",
        ),
    ] = None,
    default_signature: Annotated[
        str | None,
        typer.Option(
            help=f"What the signature serving_default takes: pixels, or jpeg, which are JPEG and PNG files "
            f"({_takers('default_signature')}).",
            show_default="pixels",
        ),
    ] = None,
    any_size: Annotated[
        bool,
        typer.Option("--any-size", help=f"Let the files take images of any height and width ({_takers('any_size')})."),
    ] = False,
    int_weights: Annotated[
        str | None,
        typer.Option(
            help=f"Integer type of the kernels of {_takers_and_values('int_weights')}.",
            show_default="int8 where this CPU has VNNI, else uint8",
        ),
    ] = None,
    web_runtime: Annotated[
        str | None,
        typer.Option(
            help=f"Folder with npm's package onnxruntime-web, for {_takers('web_runtime')}.",
            show_default="npm fetches it",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing artifacts.")] = False,
    sign_key: Annotated[
        Path | None,
        typer.Option(
            help="Private key (Ed25519, PEM file) that signs each artifact; the signature is FILE.sig beside it. "
            "`verify --public-key` checks it."
        ),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Write the error of each layer of the int8 formats to quantization-error-FORMAT.csv and .png.",
        ),
    ] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Write report.html and REPORT.md: accuracy, latency, memory, disagreements. Only for classifiers.",
        ),
    ] = False,
    reading: Any = None,
    **task_options: Any,
) -> None:
    """Write deployment artifacts, each compared with the model in the artifact's own runtime.

    Its answers must be equal within the bounds of its format, which docs/export.md lists.

    An artifact that fails, or is less accurate than --max-drop allows, keeps the suffix .unverified, and the exit
    status is 1.
    """
    from keras_resnet.export.signing import read_private_key, sign, signature_file
    from keras_resnet.model_folders import model_in
    from keras_resnet.preprocessing import list_images

    chosen: dict[str, Any] = {  # values as typed: `check_options` checks them
        "opset": opset,
        "layout": layout.upper() if layout else None,
        "colour_order": colour_order.upper() if colour_order else None,
        "default_signature": default_signature,
        "any_size": any_size or None,
        "input_dtype": input_type,
        "output_dtype": output_type,
        "ranges": ranges,
        "int_weights": int_weights,
        "keep_float": keep_float or None,
        "web_runtime": web_runtime,
    }
    model = model_in(model)
    options, names = Options(**chosen), [name.strip() for name in formats.split(",")]
    source = weights_from(weights, weights_prefix, revision)
    rows = [format_named(name) for name in (all_formats() if names == ["all"] else names)]
    check_options(options, rows)  # cheap mistakes first: opening the network takes seconds
    if max_drop is not None and data is None:
        raise ArgumentError(f"--max-drop needs labelled images: give --data. Received: --max-drop {max_drop:g}")
    if calibration is not None:
        list_images([calibration])
    key = None if sign_key is None else read_private_key(sign_key, partial(_password_of, sign_key))
    names_of_classes = names_in(class_names)
    from keras_resnet.facts import facts_of
    from keras_resnet.loading import class_names_of, open_network
    from keras_resnet.tasks import checked_task_of

    # It imports Keras without its start-up lines.
    network, contract = open_network(model, source, Stated(task, output_kind))
    tell_reading(facts_of(network).read_as)
    from keras_resnet.export import CalibrationImages, LabelledImages
    from keras_resnet.export import export as export_model

    its_task = checked_task_of(network)
    given = its_task.export_options(options_of(its_task, "export", task_options, model))
    drawn = labelled = None
    if calibration is not None:
        drawn = CalibrationImages(calibration, calibration_count, seed, force_calibration)
    if data is not None:
        labelled = LabelledImages(data, split, reading, max_drop)

    table = ExportTable(rows, {} if data is None else its_task.titles)
    left = [row.name for row in rows]

    def finish(name: str, made: "ExportReport") -> None:
        left.remove(name)
        if key is not None and name in made.paths:
            sign(made.paths[name], key)
        table.print_row(name, made)

    with on_interrupt(lambda: _kept(out, rows, left)), progress(status) as show:
        made = export_model(
            network,
            out,
            names,
            calibration=drawn,
            data=labelled,
            class_names=class_names_of(network) if names_of_classes is None else names_of_classes,
            contract=given.pop("contract", contract),
            options=replace(options, **given),
            overwrite=overwrite,
            debug=debug,
            report=report,
            progress=show,
            finished=finish,
        )
    if report:
        print(printable(f"report: {out / 'report.html'}"))
    if sign_key is not None:
        signatures = ", ".join(signature_file(path).name for path in made.paths.values())
        print(printable(f"signed with {sign_key}: {signatures}"))
    first, path = next(iter(made.paths.items()))
    print(printable(f"verified in {out}; recorded in {made.manifest}. Next:"))
    file = shlex.quote(str(path))
    if format_named(first).verified_in:  # a page, which any server of files can send
        print(printable(f"python3 -m http.server --bind 127.0.0.1 --directory {file}"))
    elif given.get("raw_heads"):
        print(printable(f"keras-resnet info {file}"))
    else:
        print(printable(f"keras-resnet predict IMAGE --model {file}"))


def _password_of(key: Path) -> str:
    """Encrypted file of a key -> its password, from the terminal."""
    if not sys.stdin.isatty():
        raise ArgumentError(
            f"--sign-key is encrypted, and there is no terminal that could ask for its password. Received: {key}. Give "
            "a key without a password, which `openssl pkey -in KEY -out NEW` writes"
        )
    password: str = typer.prompt(f"Password of {printable(key)}", hide_input=True, err=True)
    return password


def _kept(out: Path, rows: Sequence[Format], left: Sequence[str]) -> str:
    """Folder, formats of the export, unfinished formats -> what an interruption leaves."""
    done = [row.file_name for row in rows if row.name not in left and (out / row.file_name).exists()]
    return f"Verified in {out}: {', '.join(done) or 'nothing'}. Not written yet: --formats {','.join(left)}"
