"""`keras-resnet explain`: image files -> pictures of what speaks for a class or for detections."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.explained import METHODS, Opened
from keras_resnet.cli.images import list_or_name
from keras_resnet.cli.network import (
    ModelOption,
    OutputKindOption,
    RevisionOption,
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
from keras_resnet.tasks.outputs import Stated
from keras_resnet.weights_from import WeightsFrom

SUFFIX = "-explained.png"


@with_task_options("explain")
def explain(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders or quoted globs.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures; files with equal names are replaced.")],
    model: ModelOption = "resnet50",
    weights: WeightsOption = None,
    weights_prefix: WeightsPrefixOption = None,
    revision: RevisionOption = None,
    task: TaskOption = None,
    output_kind: OutputKindOption = None,
    trust: TrustOption = False,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Name or index of the class to explain.",
            show_default="the most probable one; for a detector, the classes of its best detections",
        ),
    ] = None,
    **options: Any,  # options of tasks
) -> None:
    """Draw each image beside a heatmap of the places that raise the score of its class (Grad-CAM), or of the objects
    that a detector finds (D-RISE). A detector may also be an artifact.

    An image that can't be read is named on stderr and left out; the exit status is then 1.
    """
    from keras_resnet.loading import check_model, is_artifact
    from keras_resnet.model_folders import model_in
    from keras_resnet.optional import require

    require("matplotlib", "plots")  # cheap mistakes first: opening the network takes seconds
    model = model_in(model)
    source = weights_from(weights, weights_prefix, revision)
    if not is_artifact(model):
        check_model(model, source)
    out.mkdir(parents=True, exist_ok=True)
    paths, failed = list_or_name(images)
    failures = len(failed)
    if paths:
        opened = _open(model, source, Stated(task, output_kind), trust)
        own = options_of(opened.predictor.task, "explain", options, model)
        failures += _explain_all(paths, out, opened, class_, own)
    if failures:
        raise typer.Exit(1)


def _open(model: str, weights: str | WeightsFrom | None, stated: Stated, trust: bool) -> Opened:
    from keras_resnet.loading import is_artifact, open_network, open_predictor, predictor_of

    if is_artifact(model):
        return Opened(open_predictor(model, weights, None, stated, trust), None)
    network, contract = open_network(model, weights, stated)  # imports Keras without its start-up lines
    return Opened(predictor_of(network, contract, model), network)


def _explain_all(paths: list[Path], out: Path, opened: Opened, class_: str | None, options: Mapping[str, Any]) -> int:
    """Writes a picture for each image -> how many images can't be read."""
    from keras_resnet.whole_files import targets_of, write_whole

    predictor = opened.predictor
    tell_reading(predictor.read_as)
    if predictor.task.explained_by is None:
        raise ArgumentError(
            f"{predictor.name}: must be a classifier, with outputs [N, classes], or a detector. Received: a network "
            f"for {predictor.task.title}"
        )
    names = [predictor.asked.name_of(index) for index in range(predictor.classes)]
    wanted = None if class_ is None else class_named(class_, names)
    targets = targets_of(paths, out, SUFFIX)
    unreadable: dict[int, str] = {}
    for place, answer, picture in METHODS[predictor.task.explained_by](paths, opened, wanted, unreadable, **options):
        write_whole(targets[place], picture)
        print(printable(f"{targets[place]}: {answer}"))
    return len(unreadable)


def class_named(text: str, names: Sequence[str]) -> int:
    """Value of `--class`, class names -> class index. A name takes precedence over an index.

    Raises:
        ArgumentError: No class has that name, or several have.
    """
    from keras_resnet.data.labelled import LONGEST_INDEX
    from keras_resnet.labels import imagenet_labels

    same = [index for index, name in enumerate(names) if name == text]
    if len(same) > 1:
        raise ArgumentError(
            f"--class: several classes have this name; give an index: {', '.join(map(str, same))}. Received: {text}"
        )
    if same:
        return same[0]
    if text.isascii() and text.isdigit() and len(text) <= LONGEST_INDEX and int(text) < len(names):
        return int(text)
    pairs = imagenet_labels()
    if list(names) == [name for _, name in pairs]:
        for index, (wnid, _) in enumerate(pairs):
            if wnid == text:
                return index
    nearest = difflib.get_close_matches(text, names, n=1)
    raise ArgumentError(
        f"--class must be the name of a class, or an index in 0..{len(names) - 1}. Received: {text}"
        + (f" (did you mean {nearest[0]}?)" if nearest else "")
    )
