"""The options `--model`, `--weights` and `--split`, which several commands share."""

from typing import Annotated, Literal

import typer

from keras_resnet.variants import VARIANTS

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
SplitOption = Annotated[
    Literal["val", "train", "all"],
    typer.Option(
        help="Split of the data: val (its validation images, or the images that training holds out), train, or all."
    ),
]
