"""Images with boxes -> what `data check` says about the sizes of the objects, and a picture of some images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_resnet.tasks.detect.anchors import Sizes, fit_of, proposed_sizes, taught_boxes
from keras_resnet.tasks.detect.contact_sheet import chosen_for_sheet, contact_sheet
from keras_resnet.tasks.detect.detected import DetectedSource
from keras_resnet.variants import ANCHOR_SIZES, WholeImage
from keras_resnet.whole_files import whole_file

SIDES = (256, 320, 512, 800)  # sides of the training images, for which anchors are compared
PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
MOST_PICTURES = 16  # images in the picture


def findings(sources: Sequence[DetectedSource], pictures: Path | None = None) -> Iterator[str]:
    """Training and validation images, PNG file for a picture -> lines on the objects and on anchors.

    Raises:
        MissingDependencyError: A picture is wanted, and matplotlib, which brings the font, is not installed.
    """
    boxes = np.concatenate([each.boxes[~each.ignored] for source in sources for each in source.objects])
    counts = [len(each.boxes) for source in sources for each in source.objects]
    if len(boxes):
        width, height = (boxes[:, 2:] - boxes[:, :2]).T
        yield ""
        yield f"{'objects':16}" + "".join(f"{f'{share} %':>8}" for share in PERCENTILES)
        for name, values in (("width", width), ("height", height), ("in an image", np.array(counts))):
            yield f"{name:16}" + "".join(f"{value:>8,.0f}" for value in np.percentile(values, PERCENTILES))
        yield from _anchors(sources)
    if pictures is not None:
        with whole_file(pictures, suffix=".png") as partial:
            contact_sheet(sources[0], chosen_for_sheet(sources[0], MOST_PICTURES)).save(partial)
        yield ""
        yield f"images with their boxes: {pictures}"


def _anchors(sources: Sequence[DetectedSource]) -> Iterator[str]:
    """-> a table: recall of torchvision's anchors, and of anchors that fit the objects, by the side of the images."""
    yield ""
    yield f"{'size':>4}  {'recall %, IoU 0.5':>17}  {'0.7':>5}  anchor_sizes"
    for side in SIDES:
        boxes = taught_boxes(sources, WholeImage(side, side))
        for sizes, remark in ((ANCHOR_SIZES, ", the default"), (proposed_sizes(boxes), ", proposed")):
            recall = fit_of(boxes, sizes).recall_percent
            yield f"{side:>4}  {recall[0.5]:>17.1f}  {recall[0.7]:>5.1f}  {_listed(sizes)}{remark}"


def _listed(sizes: Sizes) -> str:
    return ",".join(f"{size:g}" for size in sizes)
