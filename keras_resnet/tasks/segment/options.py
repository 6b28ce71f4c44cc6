"""The options that commands have for segmentation."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.errors import ArgumentError


def sides_of(text: str, option: str) -> tuple[int, int]:
    """Value of an option, for example 512 or 360x480, and the option's name -> height, width.

    Raises:
        ArgumentError: The value has another form.
    """
    sides = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip())
    if sides is None or min(int(side or 32) for side in sides.groups()) < 32:
        raise ArgumentError(
            f"{option} takes a height and a width of at least 32, for example 360x480, or one side. Received: {text}"
        )
    return int(sides[1]), int(sides[2] or sides[1])


SEGMENT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "predict": {
        "out": Annotated[
            Path | None,
            typer.Option(help="Folder for masks and overlays (PNG files). Only for segmentation networks."),
        ],
        "window": Annotated[
            str | None,
            typer.Option(
                metavar="HxW",
                help="Height and width of the windows in which a segmentation network is given a larger image, for "
                "example 360x480; windows overlap by half, and one number means a square. Without it, a network "
                "of any size is given an image of up to 2,097,152 pixels whole, and a larger one in windows of "
                "1024x1024.",
            ),
        ],
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
