"""`keras-resnet verify`: compares an artifact with its model."""

from pathlib import Path
from typing import Annotated

import typer

from keras_resnet.cli.network import (
    ModelOption,
    OutputKindOption,
    TaskOption,
    WeightsOption,
    WeightsPrefixOption,
    tell_reading,
    weights_from,
)
from keras_resnet.errors import ArgumentError
from keras_resnet.printable import cell, printable
from keras_resnet.tasks.outputs import Stated


def verify(
    artifact: Annotated[Path, typer.Argument(help="A SavedModel folder, a .tflite or an .onnx file.")],
    model: ModelOption = "resnet50",
    weights: WeightsOption = None,
    weights_prefix: WeightsPrefixOption = None,
    task: TaskOption = None,
    output_kind: OutputKindOption = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="Images to compare on: a folder or a quoted glob. Needed for int8 artifacts.",
            show_default="synthetic pictures",
        ),
    ] = None,
) -> None:
    """Compare an artifact with its model in the artifact's own runtime; the exit status is 1 if they differ."""
    from rich.console import Console
    from rich.table import Table

    from keras_resnet.export.runtimes import format_of
    from keras_resnet.model_folders import artifacts_in, model_in
    from keras_resnet.preprocessing import list_images

    source = weights_from(weights, weights_prefix)
    model = model_in(model)
    if names := artifacts_in(artifact):
        raise ArgumentError(
            f"verify takes one artifact at a time. Received: {artifact}, a folder that holds {', '.join(names)}"
        )
    format_of(artifact)  # cheap mistakes first: opening the network takes seconds
    if images is not None:
        list_images([images])
    from keras_resnet.facts import facts_of
    from keras_resnet.loading import open_network

    network, contract = open_network(model, source, Stated(task, output_kind))
    tell_reading(facts_of(network).read_as)
    from keras_resnet.export.pipeline import examine_artifact

    report = examine_artifact(artifact, network, images=images, contract=contract)
    print(printable(f"{artifact} as {report.format}, on {report.images} images"))
    table = Table("check", "measured", "required", "")
    for column in table.columns:
        column.overflow = "fold"
    for check in report.checks:
        texts = (check.name, check.measured, check.required, "ok" if check.passed else "FAILED")
        table.add_row(*map(cell, texts))
    Console().print(table)
    if not report.passed:
        raise typer.Exit(1)
