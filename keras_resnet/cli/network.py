"""The options `--model`, `--weights` and `--split`, which several commands share."""

from typing import Annotated, Literal

import typer

from keras_resnet.variants import VARIANTS

ModelOption = Annotated[
    str, typer.Option(help=f"{', '.join(VARIANTS)}, or a .keras file that takes RGB pixels 0..255.")
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="imagenet, a published tag (see `keras-resnet list`), a path, or hf://owner/repository. "
        "A .keras file brings its own.",
        show_default="imagenet",
    ),
]
SplitOption = Annotated[
    Literal["val", "train", "all"],
    typer.Option(
        help="Images of the data that count: val (its validation images, or those that training on it holds out), "
        "train, or all."
    ),
]
