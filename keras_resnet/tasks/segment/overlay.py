"""Masks for people to look at: palette, PNG file, and an overlay of classes on the image with a legend."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.evaluation.tiles import LINE_PIXELS, captioned, draw_line
from keras_resnet.labels import VOID

OPACITY = 0.55  # opacity of the classes over the image
LEGEND_PIXELS = 240  # width of the legend
ROWS_AT_ONCE = 128
EXAMPLE_PIXELS = 280  # width of an image beside its masks


def palette(classes: int) -> np.ndarray:
    """-> colours uint8 `[classes, 3]` that differ: Pascal VOC's, in which the bits of the class are interleaved."""
    indices = np.arange(classes)
    colours = np.zeros((classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((indices >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def mask_png(mask: np.ndarray, colours: np.ndarray) -> bytes:
    """Classes uint8 `[H, W]`, palette -> PNG file of the classes, shown in their colours, void in white."""
    image = Image.fromarray(mask, "P")
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    table[VOID] = 255
    image.putpalette(table.tobytes())
    return _png(image)


def draw_overlay(pixels: np.ndarray, mask: np.ndarray, names: Sequence[str], colours: np.ndarray) -> bytes:
    """uint8 RGB `[H, W, 3]`, classes uint8 `[H, W]`, names, palette -> PNG of the coloured image and a legend.

    The legend lists the classes in the image, the largest first, with their share of the pixels.

    Raises:
        MissingDependencyError: matplotlib, which brings the font, is not installed.
    """
    shares = shares_percent(mask)
    height, width = mask.shape
    picture = Image.new("RGB", (width + LEGEND_PIXELS, max(height, LINE_PIXELS * (len(shares) + 1))), "white")
    for top in range(0, height, ROWS_AT_ONCE):  # the colours of a whole photograph would take a gigabyte in between
        rows = slice(top, top + ROWS_AT_ONCE)
        known = (mask[rows] < len(names))[..., None]
        coloured = (1 - OPACITY) * pixels[rows] + OPACITY * colours[np.minimum(mask[rows], len(names) - 1)]
        picture.paste(Image.fromarray(np.where(known, coloured, pixels[rows]).astype(np.uint8)), (0, top))
    draw = ImageDraw.Draw(picture)
    for row, (index, share) in enumerate(shares.items()):
        top, left = LINE_PIXELS * row + LINE_PIXELS // 2, width + 10
        draw.rectangle((left, top + 2, left + 12, top + 14), fill=tuple(colours[index].tolist()), outline="black")
        draw_line(draw, (left + 20, top), f"{share:5.1f} %  {names[index]}", LEGEND_PIXELS - 34)
    return _png(picture)


@dataclass(frozen=True, eq=False)
class Example:
    """One image, its mask and its predicted mask."""

    name: str
    pixels: np.ndarray  # uint8 [H, W, 3]
    mask: np.ndarray  # uint8 [H, W]
    predicted: np.ndarray  # uint8 [H, W]

    @property
    def pixel_accuracy_percent(self) -> float:
        """Pixel accuracy; NaN if all pixels are void."""
        counted = self.mask != VOID
        return 100 * float(np.mean(self.mask[counted] == self.predicted[counted])) if counted.any() else float("nan")


def draw_examples(examples: Sequence[Example], names: Sequence[str]) -> bytes:
    """Examples, class names -> PNG: image, mask and prediction of each example side by side, and a legend.

    Raises:
        MissingDependencyError: matplotlib, which brings the font, is not installed.
    """
    colours = np.concatenate([palette(len(names)), np.full((256 - len(names), 3), 255, np.uint8)])
    rows = []
    for example in examples:
        parts = (example.pixels, colours[example.mask], colours[example.predicted])
        caption = f"{example.name}: {example.pixel_accuracy_percent:.1f} % of the pixels"
        rows.append(captioned(np.concatenate(parts, axis=1), [caption], 3 * EXAMPLE_PIXELS))
    legend = Image.new("RGB", (3 * EXAMPLE_PIXELS, LINE_PIXELS * -(-len(names) // 3) + 8), "white")
    draw = ImageDraw.Draw(legend)
    for index, name in enumerate(names):
        left, top = EXAMPLE_PIXELS * (index % 3), LINE_PIXELS * (index // 3)
        draw.rectangle((left + 4, top + 2, left + 16, top + 14), fill=tuple(colours[index].tolist()), outline="black")
        draw_line(draw, (left + 22, top), name, EXAMPLE_PIXELS - 26)
    sheet = Image.new("RGB", (3 * EXAMPLE_PIXELS, legend.height + sum(row.height for row in rows)), "white")
    top = 0
    for part in (legend, *rows):
        sheet.paste(part, (0, top))
        top += part.height
    return _png(sheet)


def shares_percent(mask: np.ndarray) -> dict[int, float]:
    """Classes uint8 `[H, W]` -> percent of the pixels by class, the largest first, without void."""
    counts = np.bincount(mask.ravel(), minlength=256)[:VOID]
    order = np.argsort(-counts, kind="stable")
    return {int(index): 100 * float(counts[index]) / mask.size for index in order if counts[index]}


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
