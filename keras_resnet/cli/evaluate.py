"""`keras-resnet evaluate`: accuracy and calibration of a model or an artifact on labelled images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from keras_resnet.cli.images import read_batches
from keras_resnet.cli.network import Predictor, WeightsOption, check_model, is_artifact, open_predictor
from keras_resnet.errors import ArgumentError, WeightsError
from keras_resnet.variants import InputContract

if TYPE_CHECKING:
    from keras_resnet.evaluation.mask_result import MaskEvaluation
    from keras_resnet.evaluation.result import Evaluation

WEAKEST = 5  # classes in the table


def evaluate(
    model: Annotated[
        str, typer.Argument(help="An artifact (SavedModel folder, .tflite, .onnx), a .keras file, or a network's name.")
    ],
    data: Annotated[
        str,
        typer.Argument(
            help="A folder of class folders, or a CSV file with the columns file and index; of segmentation, images "
            "and masks as `train` takes them, of which the validation images count, if there are any."
        ),
    ],
    weights: WeightsOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for evaluation.json, predictions.csv and pictures; replaces an older evaluation."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that the model takes at a time.")] = 64,
    void_label: Annotated[
        list[int] | None, typer.Option(help="Label of masks, besides 255, that is no class; may be given again.")
    ] = None,
) -> None:
    """Print top-1 and top-5 accuracy, calibration error and the weakest classes on labelled images.

    Of a segmentation network, print the mean IoU, pixel accuracy and the IoU of each class.

    An image that can't be read is named on stderr and left out; the exit status is then 1.
    """
    from keras_resnet.optional import require

    # Cheap mistakes first: opening the network takes seconds.
    if not is_artifact(model):
        check_model(model, weights)
    if out is not None:
        require("matplotlib", "plots")
        out.mkdir(parents=True, exist_ok=True)
    unreadable: list[Path] = []
    predictor = open_predictor(model, weights)
    evaluation: Evaluation | MaskEvaluation | None
    if predictor.segments:
        from keras_resnet.cli.masks import evaluate_masks, print_masks

        evaluation = evaluate_masks(model, data, predictor, void_label or (), unreadable)
        show: Any = print_masks
    else:
        if void_label:
            raise ArgumentError(f"--void-label is for segmentation networks alone. {model} is a classifier")
        evaluation = _ask(model, data, predictor, batch_size, unreadable)
        show = _print
    if evaluation is not None:
        show(evaluation)
        if out is not None:
            _write(
                evaluation,
                out,
                {"model": model, "weights": weights, "data": data, "unreadable": [str(path) for path in unreadable]},
            )
    if unreadable:
        raise typer.Exit(1)


def _ask(model: str, data: str, predictor: Predictor, batch_size: int, unreadable: list[Path]) -> "Evaluation | None":
    """Model, labelled images -> its answers, or None if none of the images can be read."""
    import numpy as np

    from keras_resnet.data.labelled import labelled_images
    from keras_resnet.evaluation.result import Evaluation

    paths, labels = labelled_images(data, predictor.labels)
    contract = cast(InputContract, predictor.contract)  # of a classifier
    places, answers = [], []
    for batch, pixels in read_batches(paths, contract, batch_size, unreadable, prints=False):
        probabilities = np.asarray(predictor.predict(pixels))
        _check(probabilities, model, predictor.labels, f"{data}: the highest class", int(labels.max()))
        places += batch
        answers.append(probabilities)
    if not places:
        return None
    probabilities = np.concatenate(answers)
    names = predictor.labels or _folder_names(data, paths, labels, probabilities.shape[1])
    return Evaluation([paths[place] for place in places], labels[places], probabilities, names, contract)


def _check(probabilities: Any, model: str, names: Sequence[str] | None, data: str, highest: int) -> None:
    """Raises unless these are probabilities of as many classes as there are names, and as the labels ask for."""
    classes = probabilities.shape[1]
    low, high = probabilities.min(), probabilities.max()
    if not (low >= 0 and high <= 1.001):  # nor with NaN
        raise WeightsError(f"{model}: must yield probabilities in 0..1. It yields {low}..{high}")
    if names is not None and len(names) != classes:
        raise WeightsError(f"{model}: must name each of its {classes} classes. It names {len(names)}")
    if highest >= classes:
        raise ArgumentError(f"{data} must be one of the model's, 0 to {classes - 1}. Received: {highest}")


def _folder_names(data: str, paths: Sequence[Path], classes: Any, count: int) -> list[str]:
    """Labelled images for a model that does not name its classes -> the names of their folders, or numbers."""
    names = [f"class {index}" for index in range(count)]
    if Path(data).is_dir():
        for path, index in zip(paths, classes, strict=True):
            names[index] = path.relative_to(data).parts[0]
    return names


def _print(evaluation: "Evaluation") -> None:
    """The figures, and the classes with the lowest accuracy, in at most 80 columns."""
    import numpy as np
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    print(f"images               {len(evaluation.files)}")
    print(f"top-1 %              {evaluation.top1_percent:.2f}")
    if evaluation.top5_percent is not None:
        print(f"top-5 %              {evaluation.top5_percent:.2f}")
    print(f"calibration error %  {evaluation.calibration.error_percent:.2f}")
    images, top1_percent = evaluation.class_accuracy
    weakest = [
        index
        for index in np.lexsort((-images, np.nan_to_num(top1_percent, nan=100.0)))[:WEAKEST]
        if images[index] and top1_percent[index] < 100
    ]
    if not weakest:
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("lowest top-1 %", justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    for column in ("class", "most often taken for"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for index in weakest:
        others = evaluation.confusion[index].copy()
        others[index] = 0
        names = (evaluation.names[index], evaluation.names[int(others.argmax())])
        table.add_row(f"{top1_percent[index]:.2f}", str(images[index]), *map(Text, names))
    print()
    console = Console()
    console.print(table, width=min(80, console.width))


def _write(evaluation: "Evaluation | MaskEvaluation", out: Path, about: dict[str, Any]) -> None:
    from keras_resnet.versions import package_versions
    from keras_resnet.whole_files import write_whole

    documents = evaluation.documents({**about, "versions": package_versions()})
    for name, content in documents.items():
        write_whole(out / name, content())
    print(f"\nwritten to {out}: {', '.join(documents)}")
