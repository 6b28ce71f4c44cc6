"""The options that commands have for segmentation."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.errors import ArgumentError


def sides_of(text: str, option: str) -> tuple[int, int]:
    """Value of an option, 512 or 360x480, its name -> height, width.

    Raises:
        ArgumentError: It is neither.
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
            Path | None, typer.Option(help="Folder for the masks and overlays of a segmentation network, as PNG files.")
        ],
        "window": Annotated[
            str | None,
            typer.Option(
                metavar="HxW",
                help="Size of the parts in which a segmentation network is given larger images, with half of overlap; "
                "one number for a square.",
            ),
        ],
        "longest_side": Annotated[
            int | None,
            typer.Option(min=32, help="Longest side to which larger images are resized for a segmentation network."),
        ],
    },
    "export": {
        "image_size": Annotated[
            str | None,
            typer.Option(
                metavar="HxW",
                help="Image size of the files of a segmentation network that takes any size, for example 360x480.",
            ),
        ],
        "argmax": Annotated[
            bool | None,
            typer.Option("--argmax", help="Write the class of each pixel, uint8, in place of probabilities."),
        ],
    },
}
