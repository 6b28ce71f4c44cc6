"""The options `--model`, `--weights`, `--weights-prefix` and `--split`, which several commands share."""

from typing import Annotated, Literal

import typer

from keras_resnet.errors import ArgumentError
from keras_resnet.variants import VARIANTS
from keras_resnet.weights_from import WeightsFrom

ModelOption = Annotated[
    str, typer.Option(help=f"Network: {', '.join(VARIANTS)}, or a .keras file that takes RGB pixels 0..255.")
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
        help="Network in the file of --weights, by the beginning of its tensors' names, where the file has several.",
        show_default="the one that fits, before its moving average",
    ),
]
SplitOption = Annotated[
    Literal["val", "train", "all"],
    typer.Option(
        help="Split of the data: val (its validation images, or the images that training holds out), train, or all."
    ),
]


def weights_from(weights: str | None, prefix: str | None) -> str | WeightsFrom | None:
    """Values of `--weights` and `--weights-prefix` -> weights as a network takes them."""
    if prefix is None:
        return weights
    if weights is None:
        raise ArgumentError(f"--weights-prefix is for --weights, which was not given. Received: {prefix}")
    return WeightsFrom(weights, prefix)
