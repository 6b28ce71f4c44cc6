"""Options of commands that several tasks have."""

import re
from pathlib import Path
from typing import Annotated

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


OUT = Annotated[
    Path | None,
    typer.Option(
        help="Folder for masks and overlays of segmentation networks, and for pictures with the objects that detectors "
        "find (PNG files)."
    ),
]
WINDOW = Annotated[
    str | None,
    typer.Option(
        metavar="HxW",
        help="Height and width of the windows in which a network is given a larger image, for example 360x480; windows "
        "overlap by half, and one number means a square. A detector is given the whole image as well. Without it, a "
        "segmentation network of any size is given an image of up to 2,097,152 pixels whole, and a larger one in "
        "windows of 1024x1024; a detector is given each image whole. Only for segmentation networks and detectors.",
    ),
]
THRESHOLD = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Smallest probability at which a tagging network names a class, or smallest score of the objects that a "
        "detector shows. Only for tagging networks and detectors.",
        show_default="the tagging network's threshold, or 0.5; for a detector 0.5, and in its tables all objects",
    ),
]
