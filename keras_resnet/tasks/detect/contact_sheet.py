"""Images with their boxes, names and masks, as one picture for people to look at."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.errors import ImageError
from keras_resnet.evaluation.lettering import shortened
from keras_resnet.evaluation.tiles import LINE_PIXELS, captioned, draw_line
from keras_resnet.tasks.detect.checked import Objects
from keras_resnet.tasks.detect.detected import DetectedSource
from keras_resnet.whole_images import whole_image

COLUMNS, TILE_PIXELS, GAP_PIXELS = 4, 320, 8
OPACITY = 0.35  # opacity of a mask over the image
LINE_WIDTH = 2
NAME_LENGTH = 40
# Paul Tol's "bright", which differs for people who are colour-blind as well; https://personal.sron.nl/~pault/
COLOURS = np.array(
    [(238, 102, 119), (68, 119, 170), (34, 136, 51), (204, 187, 68), (102, 204, 238), (170, 51, 119)], np.uint8
)
IGNORED_COLOUR = (187, 187, 187)


def contact_sheet(source: DetectedSource, indices: Sequence[int]) -> Image.Image:
    """Source, places of images -> picture of these images with their boxes, and a legend of the classes above.

    Ignored objects are grey. An image that can't be read has its reason instead.

    Raises:
        MissingDependencyError: matplotlib, which brings the font, is not installed.
    """
    tiles = [_tile(source, index) for index in indices]
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    heights = [max(tile.height for tile in row) + GAP_PIXELS for row in rows]
    legend = _legend(source)
    width = COLUMNS * (TILE_PIXELS + GAP_PIXELS) + GAP_PIXELS
    sheet = Image.new("RGB", (width, legend.height + sum(heights) + GAP_PIXELS), "white")
    sheet.paste(legend, (GAP_PIXELS, 0))
    top = legend.height
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (GAP_PIXELS + column * (TILE_PIXELS + GAP_PIXELS), top))
        top += height
    return sheet


def chosen_for_sheet(source: DetectedSource, count: int) -> list[int]:
    """Source, number of images -> places of that many images, spread evenly over the set, in its order."""
    count = min(count, source.count)
    return [source.count * place // count for place in range(count)]


def _legend(source: DetectedSource) -> Image.Image:
    rows = -(-len(source.classes) // COLUMNS)
    legend = Image.new("RGB", (COLUMNS * (TILE_PIXELS + GAP_PIXELS), LINE_PIXELS * rows + GAP_PIXELS), "white")
    draw = ImageDraw.Draw(legend)
    for index, (name, count) in enumerate(zip(source.classes, source.class_counts.tolist(), strict=True)):
        left = (index % COLUMNS) * (TILE_PIXELS + GAP_PIXELS)
        top = LINE_PIXELS * (index // COLUMNS) + GAP_PIXELS // 2
        draw.rectangle((left, top + 2, left + 12, top + 14), fill=_colour(index), outline="black")
        draw_line(draw, (left + 18, top), f"{name}: {count:,}", TILE_PIXELS - 24)
    return legend


def _tile(source: DetectedSource, index: int) -> Image.Image:
    found, name = source.objects[index], shortened(source.name_of(index), NAME_LENGTH)
    try:
        with whole_image():
            decoded = source.decode(index)
            shown = decoded.pixels if source.instances is None else _with_masks(decoded.pixels, source, index)
            picture = Image.fromarray(shown)
    except ImageError as error:
        return captioned(np.full((TILE_PIXELS // 2, TILE_PIXELS, 3), 230, np.uint8), [name, str(error)], TILE_PIXELS)
    scale = TILE_PIXELS / picture.width
    height = max(1, round(picture.height * scale))
    filter_ = (
        Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    )  # an enlarged picture shows its pixels
    picture = picture.resize((TILE_PIXELS, height), filter_)
    _draw_boxes(picture, found, scale, height / decoded.pixels.shape[0])
    ignored = int(found.ignored.sum())
    words = f"{len(found.boxes) - ignored} objects" + (f", {ignored} ignored" if ignored else "")
    return captioned(np.asarray(picture), [name, words], TILE_PIXELS)


def _with_masks(pixels: np.ndarray, source: DetectedSource, index: int) -> np.ndarray:
    """Pixels, source, place of the image -> pixels under the colours of its masks."""
    instances, found = source.instances(index), source.objects[index]  # type: ignore[misc]  # the caller has looked
    colours = np.array([(0, 0, 0), *(_colour_of(found, place) for place in range(len(found.boxes)))], np.uint8)
    coloured = (1 - OPACITY) * pixels + OPACITY * colours[instances]
    return np.where((instances > 0)[..., None], coloured, pixels).astype(np.uint8)


def _draw_boxes(picture: Image.Image, found: Objects, across: float, down: float) -> None:
    draw = ImageDraw.Draw(picture)
    # Large boxes first, so that small ones stay visible.
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    for place in np.argsort(-sides.prod(axis=1), kind="stable").tolist():
        left, top, right, bottom = (found.boxes[place] * [across, down, across, down]).tolist()
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        draw.rectangle(corners, outline=_colour_of(found, place), width=LINE_WIDTH)


def _colour_of(found: Objects, place: int) -> tuple[int, ...]:
    return IGNORED_COLOUR if found.ignored[place] else _colour(int(found.classes[place]))


def _colour(index: int) -> tuple[int, ...]:
    return tuple(COLOURS[index % len(COLOURS)].tolist())
