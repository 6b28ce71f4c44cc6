"""Images with their boxes, names and masks, as one picture for people to look at."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from keras_resnet.errors import ImageError
from keras_resnet.evaluation.lettering import shortened
from keras_resnet.evaluation.tiles import captioned
from keras_resnet.tasks.detect.detected import DetectedSource
from keras_resnet.tasks.detect.overlay import Marks, colour_of, draw_legend, draw_marks, marks_of_objects
from keras_resnet.whole_images import whole_image

COLUMNS, TILE_PIXELS, GAP_PIXELS = 4, 320, 8
NAME_LENGTH = 40


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
    counts = zip(source.classes, source.class_counts.tolist(), strict=True)
    entries = [(colour_of(index), f"{name}: {count:,}") for index, (name, count) in enumerate(counts)]
    return draw_legend(entries, COLUMNS * (TILE_PIXELS + GAP_PIXELS))


def _tile(source: DetectedSource, index: int) -> Image.Image:
    found, name = source.objects[index], shortened(source.name_of(index), NAME_LENGTH)
    try:
        with whole_image():
            pixels = source.decode(index).pixels
            picture = draw_marks(pixels, _marks(source, index), TILE_PIXELS)
    except ImageError as error:
        return captioned(np.full((TILE_PIXELS // 2, TILE_PIXELS, 3), 230, np.uint8), [name, str(error)], TILE_PIXELS)
    ignored = int(found.ignored.sum())
    words = f"{len(found.boxes) - ignored} objects" + (f", {ignored} ignored" if ignored else "")
    return captioned(np.asarray(picture), [name, words], TILE_PIXELS)


def _marks(source: DetectedSource, index: int) -> Marks:
    found = source.objects[index]
    instances = None if source.instances is None else source.instances(index)
    return marks_of_objects(found.boxes, found.classes, found.ignored, instances)
