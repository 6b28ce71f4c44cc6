"""`keras-resnet evaluate`: figures of a model or an artifact on images whose classes, masks or boxes are known."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.network import (
    OutputKindOption,
    PrecisionOption,
    RevisionOption,
    RuntimeOption,
    SplitOption,
    TaskOption,
    TrustOption,
    WeightsOption,
    WeightsPrefixOption,
    tell_reading,
    weights_from,
)
from keras_resnet.cli.progress import count_bar, progress
from keras_resnet.cli.setting_options import with_data_options
from keras_resnet.cli.task_options import options_of, with_task_options
from keras_resnet.printable import printable
from keras_resnet.tasks.outputs import Stated


@with_data_options
@with_task_options("evaluate")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="An artifact (SavedModel folder, .tflite, .onnx), a .keras file, a folder that `train` or `export` "
            "wrote, or a network's name."
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(help="Images with their classes, masks or boxes, as `train` takes them."),
    ],
    weights: WeightsOption = None,
    weights_prefix: WeightsPrefixOption = None,
    revision: RevisionOption = None,
    task: TaskOption = None,
    output_kind: OutputKindOption = None,
    trust: TrustOption = False,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    split: SplitOption = "val",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for evaluation.json, predictions.csv (classification, tagging), detections.json (detection) "
            "and pictures (classification, segmentation, detection); an older evaluation is replaced."
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Number of images that the model takes at a time; for segmentation always 1.")
    ] = 64,
    reading: Any = None,
    **options: Any,
) -> None:
    """Print top-1 and top-5 accuracy, calibration error and the weakest classes, on images whose classes are known.

    For a segmentation network, print mean IoU, pixel accuracy and the IoU of each class, on images with masks. For a
    tagging network, print mean average precision, F1 and the figures of each class. For a detector, print COCO's
    average precision and recall, and the figures of each class, on images with boxes.

    An image that can't be read is named on stderr and left out; the exit status is then 1.
    """
    from keras_resnet.export.running import Running
    from keras_resnet.loading import check_model, is_artifact, open_predictor
    from keras_resnet.model_folders import model_in
    from keras_resnet.optional import require

    # Cheap mistakes first: opening the network takes seconds.
    source = weights_from(weights, weights_prefix, revision)
    running = Running(runtime, precision)
    model = model_in(model, running)
    if not is_artifact(model):
        check_model(model, source)
    if out is not None:
        require("matplotlib", "plots")
        out.mkdir(parents=True, exist_ok=True)
    predictor = open_predictor(model, source, stated=Stated(task, output_kind), trust=trust, running=running)
    tell_reading(predictor.read_as)
    given = {name: value for name, value in options_of(predictor.task, "evaluate", options, model).items() if value}
    from keras_resnet.data.taken import account
    from keras_resnet.evaluating import evaluate as evaluate_on

    sources = predictor.task.open_sources(data, split, predictor.asked, predictor.classes, reading)
    for line in account(data, sources):
        print(printable(line), file=sys.stderr)
    unreadable: list[str] = []

    def tell(name: str, why: str) -> None:
        unreadable.append(name)
        print(printable(f"{name}: {why}"), file=sys.stderr)

    with progress(count_bar) as show:
        evaluation = evaluate_on(
            predictor, sources, batch_size=batch_size, unreadable=tell, progress=partial(show, "images"), options=given
        )
    if evaluation is not None:
        evaluation.show()
        if out is not None:
            named = None if source is None else str(source)
            about = {"model": model, "weights": named, "data": data, "split": split, "unreadable": unreadable}
            _write(evaluation, out, about)
    if unreadable:
        raise typer.Exit(1)


def _write(evaluation: Any, out: Path, about: dict[str, Any]) -> None:
    from keras_resnet.one_writer import only_writer
    from keras_resnet.versions import package_versions
    from keras_resnet.whole_files import partial_files, write_whole

    documents = evaluation.documents({**about, "versions": package_versions()})
    contents = {name: content() for name, content in documents.items()}
    with only_writer(out):  # all files are of one evaluation
        for name, content in contents.items():
            for left in partial_files(out / name):
                left.unlink()
            write_whole(out / name, content)
    print("\n" + printable(f"written to {out}: {', '.join(documents)}"))
