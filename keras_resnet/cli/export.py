"""`keras-resnet export`: network -> verified artifacts."""

from pathlib import Path
from typing import Annotated

import typer

from keras_resnet.cli.network import ModelOption, WeightsOption, open_network


def export(
    out: Annotated[Path, typer.Option(help="Folder for the artifacts and manifest.json.")],
    model: ModelOption = "resnet50",
    weights: WeightsOption = None,
    formats: Annotated[
        str, typer.Option(help="Comma-separated: saved_model, tflite, tflite-int8, onnx.")
    ] = "saved_model,tflite,onnx",
    calibration: Annotated[
        str | None, typer.Option(help="Folder or quoted glob of at least 32 representative images, for tflite-int8.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace artifacts of the same name.")] = False,
) -> None:
    """Write deployment artifacts that were proved equal to the model, each in its own runtime.

    An artifact that is not equal keeps the suffix .unverified, and the exit status is 1.
    """
    from rich.console import Console
    from rich.table import Table

    from keras_resnet.export.formats import format_named
    from keras_resnet.preprocessing import list_images
    from keras_resnet.quiet import terminal_stderr

    names = [name.strip() for name in formats.split(",")]
    for name in names:  # cheap mistakes first: opening the network takes seconds
        format_named(name)
    if calibration is not None:
        list_images([calibration])
    network, contract = open_network(model, weights)
    from keras_resnet.export import export as export_model

    console = Console(file=terminal_stderr())
    with console.status("start") as status:
        report = export_model(
            network,
            out,
            names,
            calibration=calibration,
            contract=contract,
            overwrite=overwrite,
            progress=lambda step, done, total: status.update(f"{step} ({done} of {total})"),
        )
    table = Table("artifact", "size MB", "images", "largest difference", "top-1 agreement %")
    from keras_resnet.export.manifest import size_bytes

    for name, path in report.paths.items():
        verification = report.reports[name]
        table.add_row(
            path.name,
            f"{size_bytes(path) / 1e6:.1f}",
            str(verification.images),
            f"{verification.max_difference:.2g}",
            f"{verification.top1_agreement_percent:.2f}",
        )
    Console().print(table)
    print(f"verified in {out}; recorded in {report.manifest}")
