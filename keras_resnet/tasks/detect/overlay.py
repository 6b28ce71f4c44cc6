"""Objects drawn on their pictures, with boxes, masks and names that can be read at every size of the picture."""

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, MASKS, Answer
from keras_resnet.evaluation.lettering import line_font, shortened
from keras_resnet.evaluation.run_lengths import MASK_THRESHOLD
from keras_resnet.evaluation.tiles import draw_line
from keras_resnet.masks_in_boxes import mask_parts

OPACITY = 0.35  # opacity of a mask over the image
ROWS_AT_ONCE = 128
SMALLEST_PICTURE_PIXELS = 960  # longer side to which smaller pictures are enlarged
SMALLEST_TEXT_PIXELS, SMALLEST_LINE_PIXELS = 13, 2
PICTURE_BY_TEXT, PICTURE_BY_LINE = 75, 500  # longer side of a picture to the height of its text, to the width of a line
NAME_LENGTH = 24
# Paul Tol's "bright", which differs for people who are colour-blind as well; https://personal.sron.nl/~pault/
COLOURS = np.array(
    [(238, 102, 119), (68, 119, 170), (34, 136, 51), (204, 187, 68), (102, 204, 238), (170, 51, 119)], np.uint8
)
IGNORED_COLOUR = (187, 187, 187)
DARK = 110  # mean of a colour below which text on it is white

Colour = tuple[int, ...]
Rectangle = tuple[int, int, int, int]


class Marks(NamedTuple):
    """Objects to draw on a picture, the most important ones first."""

    boxes: np.ndarray  # [n, 4]: left, top, right, bottom in pixels
    colours: Sequence[Colour]
    texts: Sequence[str]  # an empty text is not drawn
    instances: np.ndarray | None  # [H, W]: k stands for the object at place k - 1, and 0 for none


def colour_of(index: int) -> Colour:
    """Index of a class -> its colour."""
    return tuple(COLOURS[index % len(COLOURS)].tolist())


def marks_of(answer: Answer, names: Sequence[str], height: int, width: int) -> Marks:
    """Detections in an image of that height and width, the best first, class names -> marks with names and scores."""
    labels, boxes = answer[LABELS].tolist(), answer[BOXES]
    texts = [
        f"{shortened(names[label], NAME_LENGTH)} {score:.2f}"
        for label, score in zip(labels, answer[BOX_SCORES].tolist(), strict=True)
    ]
    instances = _instances(answer[MASKS], boxes, height, width) if MASKS in answer else None
    return Marks(boxes, [colour_of(label) for label in labels], texts, instances)


def marks_of_objects(
    boxes: np.ndarray, classes: np.ndarray, ignored: np.ndarray, instances: np.ndarray | None
) -> Marks:
    """Objects `[n, 4]`, `[n]`, `[n]`, their instance map -> marks without texts; ignored objects are grey."""
    colours = [IGNORED_COLOUR if no else colour_of(int(index)) for index, no in zip(classes, ignored, strict=True)]
    return Marks(boxes, colours, [""] * len(boxes), instances)


def _instances(masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Masks in boxes, the best first -> instance map uint16 `[H, W]`, in which the best one is on top."""
    instances = np.zeros((height, width), np.uint16)
    parts = [*mask_parts(masks, boxes, height, width)]
    for place, (rows, columns, part) in reversed([*enumerate(parts, start=1)]):
        instances[rows, columns][part >= MASK_THRESHOLD] = place
    return instances


def draw_detections(pixels: np.ndarray, answer: Answer, names: Sequence[str]) -> bytes:
    """uint8 RGB `[H, W, 3]`, detections in it, class names -> PNG of the picture with its objects, above a legend of
    their classes.

    Raises:
        MissingDependencyError: matplotlib, which brings the font, is not installed.
    """
    height, width = pixels.shape[:2]
    times = max(1, -(-SMALLEST_PICTURE_PIXELS // max(height, width)))
    picture = draw_marks(pixels, marks_of(answer, names, height, width), times * width)
    counts = zip(*(part.tolist() for part in np.unique(answer[LABELS], return_counts=True)), strict=True)
    text = _text_pixels(picture)
    legend = draw_legend([(colour_of(i), f"{names[i]}: {n:,}") for i, n in counts], picture.width, text)
    sheet = Image.new("RGB", (picture.width, picture.height + legend.height), "white")
    sheet.paste(picture, (0, 0))
    sheet.paste(legend, (0, picture.height))
    return png_of(sheet)


def draw_marks(pixels: np.ndarray, marks: Marks, width: int) -> Image.Image:
    """uint8 RGB `[H, W, 3]`, objects in it, a width -> picture of that width with the objects.

    A text is left out where it would cover another one, or the centre of an object: the colour of the box still tells
    the class.

    Raises:
        MissingDependencyError: There are texts, and matplotlib, which brings the font, is not installed.
    """
    coloured = pixels if marks.instances is None else _coloured(pixels, marks)
    picture = Image.fromarray(coloured)
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    if (width, height) != picture.size:
        enlarges = width > pixels.shape[1]  # an enlarged picture shows its pixels
        picture = picture.resize((width, height), Image.Resampling.NEAREST if enlarges else Image.Resampling.LANCZOS)
    scale = [width / pixels.shape[1], height / pixels.shape[0]] * 2
    boxes = (np.asarray(marks.boxes, np.float64).reshape(-1, 4) * scale).tolist()
    draw = ImageDraw.Draw(picture)
    line = max(SMALLEST_LINE_PIXELS, round(max(picture.size) / PICTURE_BY_LINE))
    # Large boxes first, so that small ones stay visible.
    for place in sorted(range(len(boxes)), key=lambda place: -_area(boxes[place])):
        left, top, right, bottom = boxes[place]
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        draw.rectangle(corners, outline=marks.colours[place], width=line)
    _draw_texts(draw, picture, boxes, marks)
    return picture


def _coloured(pixels: np.ndarray, marks: Marks) -> np.ndarray:
    """-> pixels under the colours of the masks."""
    colours = np.array([(0, 0, 0), *marks.colours], np.float32)
    coloured = pixels.copy()
    for top in range(0, len(pixels), ROWS_AT_ONCE):  # a whole photograph in float would take a gigabyte
        rows = slice(top, top + ROWS_AT_ONCE)
        places = marks.instances[rows]  # type: ignore[index]  # the caller has looked
        mixed = (1 - OPACITY) * pixels[rows] + OPACITY * colours[places]
        coloured[rows] = np.where((places > 0)[..., None], mixed, pixels[rows])
    return coloured


def _draw_texts(
    draw: ImageDraw.ImageDraw, picture: Image.Image, boxes: Sequence[Sequence[float]], marks: Marks
) -> None:
    size = _text_pixels(picture)
    taken: list[Rectangle] = []
    centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in boxes]
    for box, colour, text in zip(boxes, marks.colours, marks.texts, strict=True):
        if not text:
            continue
        font = line_font(text, size)
        wide, high = math.ceil(font.getlength(text)) + size // 2, round(1.4 * size)
        for left, top in _places(box, wide, high, picture.size):
            own = (left, top, left + wide, top + high)
            covers = any(own[0] <= x < own[2] + 1 and own[1] <= y < own[3] + 1 for x, y in centres)  # with its edges
            if not covers and not any(_overlap(own, other) for other in taken):
                taken.append(own)
                draw.rectangle(own, fill=colour)
                ink = "white" if sum(colour) / 3 < DARK else "black"
                draw.text((left + size // 4, top + high / 2), text, fill=ink, font=font, anchor="lm")
                break


def _places(box: Sequence[float], wide: int, high: int, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Box, width and height of a text, size of the picture -> left and top of where it can stand: above the box, below
    it, and within it."""
    left = max(0, min(int(box[0]), size[0] - wide))
    for top in (int(box[1]) - high, int(box[3]), int(box[1])):
        if 0 <= top <= size[1] - high:
            yield left, top


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _text_pixels(picture: Image.Image) -> int:
    return max(SMALLEST_TEXT_PIXELS, round(max(picture.size) / PICTURE_BY_TEXT))


def draw_legend(
    entries: Sequence[tuple[Colour, str]], width: int, text_pixels: int = SMALLEST_TEXT_PIXELS
) -> Image.Image:
    """Colours with their meanings, width, height of the text -> legend in columns, on white.

    Raises:
        MissingDependencyError: matplotlib, which brings the font, is not installed.
    """
    line, columns = round(1.4 * text_pixels), max(1, width // (20 * text_pixels))
    column = width // columns
    legend = Image.new("RGB", (width, line * -(-len(entries) // columns) + text_pixels // 2), "white")
    draw = ImageDraw.Draw(legend)
    for place, (colour, text) in enumerate(entries):
        left, top = column * (place % columns), line * (place // columns) + text_pixels // 4
        draw.rectangle((left, top, left + text_pixels, top + text_pixels), fill=colour, outline="black")
        draw_line(draw, (left + round(1.4 * text_pixels), top), text, column - 2 * text_pixels, text_pixels)
    return legend


def png_of(picture: Image.Image) -> bytes:
    """-> PNG file."""
    stream: Any = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
