"""Pixels and lines of text -> tile: the picture with its caption below."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.evaluation.lettering import ELLIPSIS, line_font
from keras_resnet.printable import printable

TEXT_PIXELS = 13
LINE_PIXELS = 18


def captioned(pixels: np.ndarray, lines: Sequence[str], width: int) -> Image.Image:
    """uint8 RGB `[H, W, 3]`, lines, width -> tile on white, with text shortened to fit.

    An enlarged picture keeps its pixels visible.

    Raises:
        MissingDependencyError: matplotlib, which brings the font, is not installed.
    """
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    enlarges = width >= pixels.shape[1]
    picture = Image.fromarray(pixels).resize(
        (width, height), Image.Resampling.NEAREST if enlarges else Image.Resampling.LANCZOS
    )
    tile = Image.new("RGB", (width, height + 4 + LINE_PIXELS * len(lines)), "white")
    tile.paste(picture, (0, 0))
    draw = ImageDraw.Draw(tile)
    for index, line in enumerate(lines):
        draw_line(draw, (0, height + 4 + LINE_PIXELS * index), line, width)
    return tile


def draw_line(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, text_pixels: int = TEXT_PIXELS
) -> None:
    """Draws one line of text at (left, top), shortened to that width in pixels."""
    text = printable(text)
    font = line_font(text, text_pixels)
    if font.getlength(text) > width:
        while text and font.getlength(text + ELLIPSIS) > width:
            text = text[:-1]
        text += ELLIPSIS
    draw.text(place, text, fill="black", font=font)
