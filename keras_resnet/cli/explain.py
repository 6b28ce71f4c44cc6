"""`keras-resnet explain`: image files -> pictures of where the network looks."""

import difflib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.images import list_or_name, read_batches
from keras_resnet.cli.network import (
    ModelOption,
    OutputKindOption,
    RevisionOption,
    TaskOption,
    WeightsOption,
    WeightsPrefixOption,
    tell_reading,
    weights_from,
)
from keras_resnet.errors import ArgumentError
from keras_resnet.printable import printable
from keras_resnet.tasks.outputs import Stated
from keras_resnet.weights_from import WeightsFrom

SUFFIX = "-explained.png"
MAPS_AT_ONCE = 8
SHORTEST_SIDE, GAP = 224, 8  # shortest side of a drawn image and gap between two, in pixels
MOST_OPAQUE = 0.65  # the photograph shows through where the heat is largest


def explain(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders or quoted globs.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures; files with equal names are replaced.")],
    model: ModelOption = "resnet50",
    weights: WeightsOption = None,
    weights_prefix: WeightsPrefixOption = None,
    revision: RevisionOption = None,
    task: TaskOption = None,
    output_kind: OutputKindOption = None,
    class_: Annotated[
        str | None,
        typer.Option("--class", help="Name or index of the class to explain.", show_default="the most probable one"),
    ] = None,
) -> None:
    """Draw each image beside a heatmap (Grad-CAM) of the places that raise the score of its class.

    An image that can't be read is named on stderr and left out; the exit status is then 1.
    """
    from keras_resnet.loading import check_model, is_artifact
    from keras_resnet.model_folders import model_in
    from keras_resnet.optional import require

    require("matplotlib", "plots")  # cheap mistakes first: opening the network takes seconds
    model = model_in(model)
    if is_artifact(model):
        raise ArgumentError(f"--model must be a network's name or a .keras file, not an artifact. Received: {model}")
    source = weights_from(weights, weights_prefix, revision)
    check_model(model, source)
    out.mkdir(parents=True, exist_ok=True)
    paths, failed = list_or_name(images)
    failures = len(failed)
    if paths:
        failures += _explain_all(paths, out, model, source, Stated(task, output_kind), class_)
    if failures:
        raise typer.Exit(1)


def _explain_all(
    paths: list[Path], out: Path, model: str, weights: str | WeightsFrom | None, stated: Stated, class_: str | None
) -> int:
    """Writes a picture for each image -> how many images can't be read."""
    import numpy as np

    from keras_resnet.answers import PROBABILITIES
    from keras_resnet.evaluation.tiles import captioned
    from keras_resnet.loading import open_network, predictor_of
    from keras_resnet.whole_files import targets_of, write_whole

    network, contract = open_network(model, weights, stated)  # imports Keras without its start-up lines
    from keras_resnet.explain import grad_cam

    predictor = predictor_of(network, contract, model)
    tell_reading(predictor.read_as)
    if not predictor.task.single_answer:
        raise ArgumentError(
            f"{model}: must be a classifier, with outputs [N, classes]. Received: a network for {predictor.task.title}"
        )
    names = predictor.class_names or [f"class {index}" for index in range(predictor.classes)]
    wanted = None if class_ is None else class_named(class_, names)
    targets = targets_of(paths, out, SUFFIX)
    unreadable: dict[int, str] = {}
    for places, images in read_batches(paths, predictor.read, MAPS_AT_ONCE, unreadable):
        pixels = np.stack(images)
        probabilities = predictor.asked.run(pixels)[PROBABILITIES]
        classes = [int(row.argmax()) if wanted is None else wanted for row in probabilities]
        heat = grad_cam(network, pixels, classes)
        for row, place in enumerate(places):
            answer = f"{names[classes[row]]}  {100 * float(probabilities[row, classes[row]]):.2f} %"
            pair = beside(pixels[row], heat[row])
            lines = (answer, paths[place].name)
            stream = io.BytesIO()
            captioned(pair, lines, pair.shape[1]).save(stream, "PNG")
            write_whole(targets[place], stream.getvalue())
            print(printable(f"{targets[place]}: {answer}"))
    return len(unreadable)


def beside(pixels: Any, heat: Any) -> Any:
    """Pixels uint8 `[H, W, 3]`, heatmap `[H, W]` in 0..1 -> uint8: the image, a gap, and the image with the heatmap.

    A small image is enlarged by a whole factor. The colour map is "inferno", whose lightness grows evenly.
    """
    import numpy as np

    from keras_resnet.optional import require

    colours = require("matplotlib", "plots").colormaps["inferno"](heat)[..., :3] * 255
    opacity = MOST_OPAQUE * heat[..., None]
    overlay = ((1 - opacity) * pixels + opacity * colours).round().astype("uint8")
    factor = -(-SHORTEST_SIDE // min(pixels.shape[:2]))
    left, right = (np.kron(part, np.ones((factor, factor, 1), "uint8")) for part in (pixels, overlay))
    return np.concatenate([left, np.full((left.shape[0], GAP, 3), 255, "uint8"), right], axis=1)


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
