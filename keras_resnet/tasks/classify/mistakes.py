"""Wrongly classified images, the surest first -> contact sheet."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.errors import ImageError
from keras_resnet.evaluation.accuracy import checked_labels
from keras_resnet.evaluation.tiles import LINE_PIXELS, captioned, draw_line
from keras_resnet.labels import top_indices
from keras_resnet.preprocessing import resize_and_crop
from keras_resnet.variants import InputContract

MOST, COLUMNS = 24, 6
TILE_PIXELS, GAP_PIXELS = 192, 12


def worst_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`[N, classes]`, integer `[N]` -> indices of the wrong rows, by falling probability of the predicted class.

    Raises:
        ValueError: See `topk_accuracy_percent`.
    """
    predicted = top_indices(probabilities, 1)[:, 0]
    wrong = np.flatnonzero(checked_labels(labels, *probabilities.shape) != predicted)
    return wrong[np.argsort(-probabilities[wrong, predicted[wrong]].astype(np.float64), kind="stable")]


def draw_mistakes(
    images: Sequence[str],
    read: Callable[[int], np.ndarray],
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    contract: InputContract,
) -> bytes:
    """Names of N images, `[N, classes]`, integer `[N]`, class names, contract -> PNG of up to 24 mistakes, the surest
    first.

    Each tile is the crop that the network sees. `read` returns an image, uint8 `[H, W, 3]`, by its place.

    Raises:
        ValueError: See `topk_accuracy_percent`.
        MissingDependencyError: matplotlib, which brings the font, is not installed.
    """
    worst = worst_mistakes(probabilities, labels)
    tiles = []
    for index in worst[:MOST]:
        predicted = int(top_indices(probabilities[index : index + 1], 1)[0, 0])
        try:
            pixels = resize_and_crop(read(index), contract)
        except ImageError:  # the image was removed or changed since it was read
            pixels = np.full((contract.size, contract.size, 3), 220, np.uint8)
        lines = (
            f"true: {names[labels[index]]}",
            f"predicted: {names[predicted]}",
            f"{100 * probabilities[index, predicted]:.1f} %  {images[index]}",
        )
        tiles.append(captioned(pixels, lines, TILE_PIXELS))
    heading = f"{len(worst)} of {len(images)} images wrong" + (
        f"; the {len(tiles)} surest are shown" if len(tiles) < len(worst) else ""
    )
    return _sheet(heading, tiles)


def _sheet(heading: str, tiles: list[Image.Image]) -> bytes:
    columns = min(COLUMNS, max(len(tiles), 2))
    step_x = TILE_PIXELS + GAP_PIXELS
    step_y = GAP_PIXELS + (tiles[0].height if tiles else 0)
    top = LINE_PIXELS + 2 * GAP_PIXELS
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (GAP_PIXELS + columns * step_x, top + rows * step_y), "white")
    draw_line(ImageDraw.Draw(sheet), (GAP_PIXELS, GAP_PIXELS), heading, sheet.width - 2 * GAP_PIXELS)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        sheet.paste(tile, (GAP_PIXELS + column * step_x, top + row * step_y))
    drawn = io.BytesIO()
    sheet.save(drawn, "PNG")
    return drawn.getvalue()
