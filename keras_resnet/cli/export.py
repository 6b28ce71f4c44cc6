"""`keras-resnet export`: network -> verified artifacts."""

import math
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.masks import sides_of
from keras_resnet.cli.network import ModelOption, WeightsOption, labels_of, open_network
from keras_resnet.errors import ArgumentError
from keras_resnet.export.formats import CHOICES, FORMATS, Options, check_options, format_named, takers_of
from keras_resnet.variants import WholeImage


def _takers(option: str) -> str:
    return ", ".join(takers_of(option))


def _takers_and_values(option: str) -> str:
    *others, last = CHOICES[option]
    return f"{_takers(option)}: {', '.join(others)} or {last}"


_CALIBRATED = [row.name for row in FORMATS.values() if row.calibrated]
_OPSETS = CHOICES["opset"]
_LATER_OPSETS = [f"{row.first_opset} for {row.name}" for row in FORMATS.values() if row.first_opset > _OPSETS[0]]


def export(
    out: Annotated[Path, typer.Option(help="Folder for the artifacts and manifest.json.")],
    model: ModelOption = "resnet50",
    weights: WeightsOption = None,
    formats: Annotated[
        str,
        typer.Option(help=f"Comma-separated, or all: {', '.join(FORMATS)}."),
    ] = "saved_model,tflite,onnx",
    calibration: Annotated[
        str | None,
        typer.Option(help=f"Folder or quoted glob of at least 32 representative images: {', '.join(_CALIBRATED)}."),
    ] = None,
    calibration_count: Annotated[
        int | None, typer.Option(min=1, help="How many of them to draw.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for drawing the calibration images.")] = 0,
    force_calibration: Annotated[
        bool, typer.Option("--force-calibration", help="Calibrate on fewer images, or on noise, all the same.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled images, a folder of class folders or a CSV file, or images with masks: measure the accuracy "
            "on them."
        ),
    ] = None,
    void_label: Annotated[
        list[int] | None, typer.Option(help="Label of masks, besides 255, that is no class; may be given again.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Percentage points of top-1 (or mean IoU) that an artifact may lose on the images of --data.",
            show_default="0.5 for top-1, 1.0 for mean IoU",
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Image size of the files of a segmentation network that takes any size, for example 360x480.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Text file with the name of each class on a line of its own.",
            show_default="the .keras file's own, or ImageNet's",
        ),
    ] = None,
    ranges: Annotated[
        str | None,
        typer.Option(
            help="Range of int8 activations: minmax (the extremes) or mse (least squared error, clips).",
            show_default="minmax",
        ),
    ] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="Layer that int8 formats leave in float; may be given again.")
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
    layout: Annotated[str | None, typer.Option(help="Of ONNX input: nhwc or nchw.", show_default="nhwc")] = None,
    any_size: Annotated[
        bool, typer.Option("--any-size", help=f"Leave height and width free ({_takers('any_size')}).")
    ] = False,
    argmax: Annotated[
        bool, typer.Option("--argmax", help="Of a segmentation network: write the class of each pixel, uint8.")
    ] = False,
    int_weights: Annotated[
        str | None,
        typer.Option(
            help=f"Of {_takers_and_values('weights')}.",
            show_default="int8 where this CPU has VNNI, else uint8",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace artifacts of the same name.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Write the quantization error of each layer of the int8 formats.")
    ] = False,
    report: Annotated[
        bool,
        typer.Option("--report", help="Write report.html and REPORT.md: accuracy, latency, memory, disagreements."),
    ] = False,
) -> None:
    """Write deployment artifacts that were proved equal to the model, each in its own runtime.

    An artifact that is not equal, or less accurate than --max-drop allows, keeps the suffix .unverified, and the exit
    status is 1.
    """
    from rich.console import Console

    from keras_resnet.preprocessing import list_images
    from keras_resnet.quiet import terminal_stderr

    chosen: dict[str, Any] = {
        "opset": opset,
        "layout": layout.upper() if layout else None,
        "any_size": any_size or None,
        "input_dtype": input_type,
        "output_dtype": output_type,
        "ranges": ranges,
        "weights": int_weights,
        "keep_float": keep_float or None,
        "argmax": argmax or None,
    }
    names = [name.strip() for name in formats.split(",")]
    _check(names, chosen)  # cheap mistakes first: opening the network takes seconds
    if calibration is not None:
        list_images([calibration])
    class_names = None if labels is None else labels.read_text(encoding="utf-8").splitlines()
    network, contract = open_network(model, weights)
    if image_size is not None:
        if not isinstance(contract, WholeImage):
            raise ArgumentError(f"--image-size is for segmentation networks alone. {model} is a classifier")
        contract = WholeImage(*sides_of(image_size, "--image-size"))
    from keras_resnet.export import export as export_model

    console = Console(file=terminal_stderr())
    with console.status("start") as status:
        made = export_model(
            network,
            out,
            names,
            calibration=calibration,
            calibration_count=calibration_count,
            seed=seed,
            force_calibration=force_calibration,
            data=data,
            max_drop=max_drop,
            void_labels=void_label or (),
            labels=labels_of(network) if class_names is None else class_names,
            contract=contract,
            overwrite=overwrite,
            debug=debug,
            report=report,
            progress=lambda step, done, total: status.update(f"{step} ({done} of {total})"),
            **chosen,
        )
    _print(made)
    if report:
        print(f"report: {out / 'report.html'}")
    first = next(iter(made.paths.values()))
    print(f"verified in {out}; recorded in {made.manifest}. Next:")
    print(f"keras-resnet predict IMAGE --model {shlex.quote(str(first))}")


def _check(names: list[str], chosen: dict[str, Any]) -> None:
    rows = list(FORMATS.values()) if names == ["all"] else [format_named(name) for name in names]
    check_options(Options(**chosen), rows)


def _print(made: Any) -> None:
    """The artifacts as a table of at most 80 characters; their accuracy, where labelled images were given."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from keras_resnet.export.accuracy import Accuracy
    from keras_resnet.export.manifest import size_bytes

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("artifact\n", no_wrap=True)
    first = next(iter(made.accuracy.values()), None)
    second = "top-5" if isinstance(first, Accuracy) else "pixels"
    accuracy_columns = (f"{first.title}\n%", f"{second}\n%", "drop\npoints") if first else ()
    for column in ("size\nMB", "images\n", "largest\ndifference", "agreement\n%", *accuracy_columns):
        table.add_column(column, no_wrap=True, justify="right")
    for name, path in made.paths.items():
        verification = made.reports[name]
        cells = [
            path.name,
            f"{size_bytes(path) / 1e6:.1f}",
            str(verification.images),
            "-" if math.isnan(verification.max_difference) else f"{verification.max_difference:.2g}",
            f"{verification.top1_agreement_percent:.2f}",
        ]
        if name in made.accuracy:
            accuracy = made.accuracy[name]
            more = accuracy.top5_percent if isinstance(accuracy, Accuracy) else accuracy.pixel_accuracy_percent
            shown = "-" if more is None else f"{more:.2f}"
            cells += [f"{accuracy.score_percent:.2f}", shown, f"{accuracy.drop_points:+.2f}"]
        table.add_row(*cells)
    Console().print(table)
