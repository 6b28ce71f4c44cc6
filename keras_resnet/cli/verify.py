"""`keras-resnet verify`: compares an artifact with its model, or with what its export recorded."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.network import (
    MODEL_HELP,
    ClassNamesOption,
    MaxDropOption,
    OutputKindOption,
    PrecisionOption,
    RevisionOption,
    RuntimeOption,
    SplitOption,
    TaskOption,
    TrustOption,
    WeightsOption,
    WeightsPrefixOption,
    names_in,
    tell_reading,
    weights_from,
)
from keras_resnet.cli.setting_options import with_data_options
from keras_resnet.errors import ArgumentError
from keras_resnet.printable import cell, printable
from keras_resnet.tasks.outputs import Stated


@with_data_options
def verify(
    artifact: Annotated[Path, typer.Argument(help="A SavedModel, OpenVINO or web folder, a .tflite or an .onnx file.")],
    public_key: Annotated[
        Path | None,
        typer.Option(
            help="Public key (Ed25519, PEM file) of the artifact's author. The signature beside the artifact is "
            "checked before the artifact is opened. Without --model and --against-report, nothing else is checked."
        ),
    ] = None,
    against_report: Annotated[
        bool,
        typer.Option(
            "--against-report",
            help="Compare the artifact with what manifest.json beside it records: its hash, its description, and its "
            "answers to a few images when it was exported. This needs no model, and neither Keras nor TensorFlow.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help=MODEL_HELP, show_default="resnet50 with published weights; with --public-key or --against-report, none"
        ),
    ] = None,
    weights: WeightsOption = None,
    weights_prefix: WeightsPrefixOption = None,
    revision: RevisionOption = None,
    task: TaskOption = None,
    output_kind: OutputKindOption = None,
    trust: TrustOption = False,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="Images to compare on: a folder or a quoted glob. Needed for int8 artifacts.",
            show_default="synthetic pictures",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images with their classes or masks, as `train` takes them. The artifact reads them as its "
            "description states, and its score is compared with the model's."
        ),
    ] = None,
    split: SplitOption = "val",
    max_drop: MaxDropOption = None,
    class_names: ClassNamesOption = None,
    reading: Any = None,
) -> None:
    """Compare an artifact with its model in the artifact's own runtime; the exit status is 1 if they differ.

    With --public-key, check first who signed the artifact, and that it has not changed since. This needs no model.

    With --against-report, compare it with what its export recorded: whether this file still gives the answers of its
    model, in this machine's runtime. This needs no model either.
    """
    from keras_resnet.export.running import Running
    from keras_resnet.export.runtimes import format_of
    from keras_resnet.export.signing import check_signature
    from keras_resnet.model_folders import artifacts_in, model_in
    from keras_resnet.preprocessing import list_images

    if max_drop is not None and data is None:
        raise ArgumentError(f"--max-drop needs labelled images: give --data. Received: --max-drop {max_drop:g}")
    source = weights_from(weights, weights_prefix, revision)
    if names := artifacts_in(artifact):
        raise ArgumentError(
            f"verify takes one artifact at a time. Received: {artifact}, a folder that holds {', '.join(names)}"
        )
    if against_report and model is not None:
        raise ArgumentError(
            f"--against-report compares with the record of the export, and --model with a model: give one of them. "
            f"Received: --model {model}"
        )
    if against_report or public_key is not None:
        compared = {
            **{"--weights": weights, "--task": task, "--output-kind": output_kind, "--images": images, "--data": data},
            "--class-names": class_names,
        }
        if model is None and (given := [option for option, value in compared.items() if value is not None]):
            needed = "instead of --against-report" if against_report else "beside --public-key"
            raise ArgumentError(
                f"{given[0]} is for the comparison with a model, which needs --model {needed}. Received: "
                f"{given[0]} {compared[given[0]]}"
            )
    if public_key is not None:
        check_signature(artifact, public_key)
        print(printable(f"{artifact}: unchanged since it was signed with the private key of {public_key}"))
        if model is None and not against_report:
            print("Its answers were not compared with its model's: that needs --model or --against-report")
            return
    running = Running(runtime, precision)
    if against_report:
        from keras_resnet.export.recorded_answers import examine_recorded

        _show(artifact, examine_recorded(artifact, trust, running))
        return
    model = model_in(model or "resnet50")
    running.of(format_of(artifact, trust))  # cheap mistakes first: opening the network takes seconds
    if images is not None:
        list_images([images])
    from keras_resnet.facts import facts_of
    from keras_resnet.loading import open_network

    network, contract = open_network(model, source, Stated(task, output_kind))
    tell_reading(facts_of(network).read_as)
    from keras_resnet.export.accuracy import LabelledImages
    from keras_resnet.export.pipeline import examine_artifact

    report = examine_artifact(
        artifact,
        network,
        images=images,
        contract=contract,
        trust=trust,
        class_names=names_in(class_names),
        data=None if data is None else LabelledImages(data, split, reading, max_drop),
        running=running,
    )
    _show(artifact, report)


def _show(artifact: Path, report: Any) -> None:
    """Prints the checks of an artifact; the exit status is 1 if one has failed."""
    from rich.console import Console
    from rich.table import Table

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
