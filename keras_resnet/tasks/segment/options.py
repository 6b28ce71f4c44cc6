"""The options that commands have for segmentation."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from keras_resnet.tasks.shared_options import OUT, WINDOW

SEGMENT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "predict": {
        "out": OUT,
        "window": WINDOW,
        "longest_side": Annotated[
            int | None,
            typer.Option(
                min=32,
                help="Longest side in pixels for segmentation networks of any size; larger images are resized to it.",
            ),
        ],
    },
    "export": {
        "image_size": Annotated[
            str | None,
            typer.Option(
                metavar="HxW",
                help="Height and width of the images that the exported files take, for example 360x480. Needed for "
                "segmentation networks of any size; with --any-size, the files are verified at it.",
            ),
        ],
        "argmax": Annotated[
            bool | None,
            typer.Option("--argmax", help="Write the class of each pixel (uint8) instead of probabilities."),
        ],
    },
}
