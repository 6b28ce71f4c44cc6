"""The options about a network and about a split, which several commands share."""

import sys
from typing import Annotated, Literal

import typer

from keras_resnet.errors import ArgumentError
from keras_resnet.printable import printable_lines
from keras_resnet.tasks.outputs import KINDS, OUTPUT_KINDS
from keras_resnet.variants import VARIANTS
from keras_resnet.weights_from import WeightsFrom

ModelOption = Annotated[
    str,
    typer.Option(
        help="Model: a .keras file that takes RGB pixels 0..255, a folder that `train` wrote, or a network, which "
        f"takes --weights: {', '.join(VARIANTS)}.",
        show_default="resnet50 with published weights",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="Weights: imagenet, a published tag (see `keras-resnet list`), a path, or hf://owner/repository. "
        "Leave it out for a .keras file.",
        show_default="imagenet",
    ),
]
WeightsPrefixOption = Annotated[
    str | None,
    typer.Option(
        help="Beginning of the tensors' names of the wanted network, if the file of --weights holds several networks.",
        show_default="the network that fits, not its moving average",
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        help=f"Task of a model of your own: {', '.join(KINDS)}.",
        show_default="the task that its file states, or that its last layers and its loss show",
    ),
]
OutputKindOption = Annotated[
    str | None,
    typer.Option(
        help=f"Kind of the numbers that a model of your own yields: {', '.join(OUTPUT_KINDS)}.",
        show_default="as for --task",
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Open an artifact whatever it holds, without its first opening in a process of its own. A SavedModel with "
        "operations that read or write files can then do so.",
    ),
]
SplitOption = Annotated[
    Literal["val", "train", "all"],
    typer.Option(
        help="Split to use: val (the validation images, or the tenth that training holds out), train, or all (train "
        "and val). For a folder that holds only test images, take all."
    ),
]


def weights_from(weights: str | None, prefix: str | None) -> str | WeightsFrom | None:
    """Values of `--weights` and `--weights-prefix` -> weights as a network takes them."""
    if prefix is None:
        return weights
    if weights is None:
        raise ArgumentError(f"--weights-prefix is for --weights, which was not given. Received: {prefix}")
    return WeightsFrom(weights, prefix)


def tell_reading(read_as: str | None) -> None:
    """Prints how a model was read on which nobody stated anything, on stderr."""
    if read_as is not None:
        print(printable_lines(read_as), file=sys.stderr)
