"""The pictures of `explain`: images beside heatmaps of what speaks for a class, or for detections."""

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_resnet.cli.images import read_batches
from keras_resnet.cli.progress import progress, status
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.printable import printable

if TYPE_CHECKING:
    from PIL import Image

    from keras_resnet.predictor import Predictor

MAPS_AT_ONCE = 8
TOP = 3  # number of detections of an image that are explained
SHORTEST_SIDE, GAP = 224, 8  # shortest side of a drawn image and gap between two, in pixels
MOST_OPAQUE = 0.65  # the photograph shows through where the heat is largest
FRAME_COLOURS = ("black", "white")  # outside and inside of the line around a detection, seen on every ground


class Opened(NamedTuple):
    """A network that is explained."""

    predictor: "Predictor"
    network: Any  # Keras model; None for an artifact


class Explained(NamedTuple):
    """One explained image."""

    place: int  # among all images
    answer: str  # what is explained, in words
    picture: bytes  # PNG file


def explained_classes(
    paths: Sequence[Path], opened: Opened, wanted: int | None, unreadable: dict[int, str]
) -> Iterator[Explained]:
    """Images, classifier, a class (None: the most probable one) -> each image beside its Grad-CAM.

    `unreadable` gets the place and the error of each image that can't be read.
    """
    import numpy as np

    from keras_resnet.answers import PROBABILITIES
    from keras_resnet.evaluation.tiles import captioned
    from keras_resnet.explain import grad_cam

    predictor, network = opened
    if network is None:
        raise ArgumentError(
            "--model must be a network's name or a .keras file, not an artifact, since the explanation of a class "
            f"reads the network's layers. Received: {predictor.name}"
        )
    for places, images in read_batches(paths, predictor.read, MAPS_AT_ONCE, unreadable):
        pixels = np.stack(images)
        probabilities = predictor.asked.run(pixels)[PROBABILITIES]
        classes = [int(row.argmax()) if wanted is None else wanted for row in probabilities]
        heat = grad_cam(network, pixels, classes)
        for row, place in enumerate(places):
            score = 100 * float(probabilities[row, classes[row]])
            answer = f"{predictor.asked.name_of(classes[row])}  {score:.2f} %"
            pair = beside(pixels[row], heat[row])
            yield Explained(place, answer, _png(captioned(pair, (answer, paths[place].name), pair.shape[1])))


def explained_detections(
    paths: Sequence[Path],
    opened: Opened,
    wanted: int | None,
    unreadable: dict[int, str],
    top: int | None = None,
    masks: int | None = None,
) -> Iterator[Explained]:
    """Images, detector, a class (None: all), largest number of detections, number of masked images -> each image beside
    the D-RISE of its best detections, one below the other.

    Without a number, the best detection of a class is explained, or the best three of all classes. `unreadable` gets
    the place and the error of each image that can't be read.
    """
    from keras_resnet.explain import d_rise
    from keras_resnet.explain.random_masks import MASKS

    asked, count = opened.predictor.asked, masks or MASKS
    most = top or (TOP if wanted is None else 1)
    with progress(status) as show:
        for place, path in enumerate(paths):
            try:
                pixels = opened.predictor.read(path)
            except ImageError as error:
                unreadable[place] = str(error)
                print(printable(error), file=sys.stderr)
                continue
            step = f"masked images of {path.name}"
            found = d_rise(asked, pixels, wanted, most, count, lambda done, step=step: show(step, done, count))  # type: ignore[misc]
            names = [asked.name_of(int(label)) for label in found.labels]
            answers = [f"{name}  {100 * score:.2f} %" for name, score in zip(names, found.scores.tolist(), strict=True)]
            nothing = "no object with a score of 50 % or more" if wanted is None else f"no {asked.name_of(wanted)}"
            yield Explained(
                place, ", ".join(answers) or nothing, _png(_stacked(found, answers or [nothing], path.name))
            )


# By `Task.explained_by`.
METHODS: Mapping[str, Callable[..., Iterator[Explained]]] = {
    "grad_cam": explained_classes,
    "d_rise": explained_detections,
}


def _stacked(found: Any, answers: Sequence[str], name: str) -> "Image.Image":
    """Explained detections, a line for each, the image's name -> picture with a pair for each detection."""
    import numpy as np
    from PIL import Image

    from keras_resnet.evaluation.tiles import captioned

    heat = found.heat if len(found.heat) else np.zeros((1, *found.pixels.shape[:2]), "float32")
    pairs = [beside(found.pixels, own, box) for own, box in zip(heat, [*found.boxes] or [None], strict=True)]
    lines = [*((answer,) for answer in answers[:-1]), (answers[-1], name)]
    tiles = [captioned(pair, own, pair.shape[1]) for pair, own in zip(pairs, lines, strict=True)]
    sheet = Image.new("RGB", (tiles[0].width, sum(tile.height for tile in tiles)), "white")
    top = 0
    for tile in tiles:
        sheet.paste(tile, (0, top))
        top += tile.height
    return sheet


def beside(pixels: Any, heat: Any, box: Any = None) -> Any:
    """Pixels uint8 `[H, W, 3]`, heatmap `[H, W]` in 0..1, maybe a box -> uint8: the image, a gap, and the image with
    the heatmap, both with the box.

    A small image is enlarged by a whole factor. The colour map is "inferno", whose lightness grows evenly.
    """
    import numpy as np

    from keras_resnet.optional import require

    colours = require("matplotlib", "plots").colormaps["inferno"](heat)[..., :3] * 255
    opacity = MOST_OPAQUE * heat[..., None]
    overlay = ((1 - opacity) * pixels + opacity * colours).round().astype("uint8")
    factor = -(-SHORTEST_SIDE // min(pixels.shape[:2]))
    enlarged = (np.kron(part, np.ones((factor, factor, 1), "uint8")) for part in (pixels, overlay))
    left, right = (part if box is None else _framed(part, factor * np.asarray(box)) for part in enlarged)
    return np.concatenate([left, np.full((left.shape[0], GAP, 3), 255, "uint8"), right], axis=1)


def _framed(pixels: Any, box: Any) -> Any:
    """uint8 `[H, W, 3]`, left, top, right and bottom -> the pixels with lines around the box."""
    import numpy as np
    from PIL import Image, ImageDraw

    picture = Image.fromarray(pixels)
    left, top, right, bottom = np.round(box).astype(int).tolist()
    for inset, colour in enumerate(FRAME_COLOURS):
        corners = (left + inset, top + inset)
        ends = (max(corners[0], right - 1 - inset), max(corners[1], bottom - 1 - inset))
        ImageDraw.Draw(picture).rectangle((*corners, *ends), outline=colour)
    return np.asarray(picture)


def _png(picture: "Image.Image") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
