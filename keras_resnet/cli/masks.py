"""What `predict` and `evaluate` do with a network that answers for every pixel."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from keras_resnet.cli.images import read_batches, targets_of
from keras_resnet.cli.network import Predictor
from keras_resnet.errors import ArgumentError, ImageError, reason
from keras_resnet.variants import WholeImage

if TYPE_CHECKING:
    from keras_resnet.evaluation.mask_result import MaskEvaluation

WEAKEST_IMAGES = 6  # that are drawn

WindowOption = Annotated[
    str | None,
    typer.Option(
        metavar="HxW",
        help="Of segmentation: give larger images part by part, with half of overlap; one number for a square.",
    ),
]
LongestSideOption = Annotated[
    int | None, typer.Option(min=32, help="Of segmentation: resize larger images to this longest side first.")
]
MasksOption = Annotated[
    Path | None, typer.Option("--out", help="Of segmentation: folder for the masks and overlays, as PNG files.")
]


def segment_all(
    paths: Sequence[Path],
    predictor: Predictor,
    out: Path | None,
    window: str | None,
    longest_side: int | None,
    top: int,
) -> int:
    """Prints the largest classes of each image, and writes its mask and overlay -> how many can't be read."""
    from keras_resnet.evaluation.overlay import draw_overlay, mask_png, palette, shares_percent
    from keras_resnet.evaluation.segmentation import pixel_scores
    from keras_resnet.optional import require
    from keras_resnet.whole_files import write_whole

    sides = None if window is None else sides_of(window, "--window")
    if out is not None:
        require("matplotlib", "plots")
        out.mkdir(parents=True, exist_ok=True)
    masks, overlays = (targets_of(paths, out or Path(), suffix) for suffix in ("_mask.png", "_overlay.png"))
    unreadable: list[Path] = []
    for [place], [pixels] in read_batches(paths, predictor.contract, 1, unreadable):
        contract = whole_of(predictor, pixels.shape, longest_side)
        scores = pixel_scores(predictor.predict, pixels, contract, sides)
        mask = scores.argmax(axis=-1).astype("uint8")
        names = predictor.labels or [f"class {index}" for index in range(scores.shape[-1])]
        print(paths[place])
        for index, share in list(shares_percent(mask).items())[:top]:
            print(f"  {share:6.2f} %  {names[index]}")
        if out is not None:
            colours = palette(len(names))
            write_whole(masks[place], mask_png(mask, colours))
            write_whole(overlays[place], draw_overlay(pixels, mask, names, colours))
            print(f"  {masks[place]}, {overlays[place]}")
    return len(unreadable)


def whole_of(predictor: Predictor, shape: tuple[int, ...], longest_side: int | None) -> WholeImage:
    """Predictor, shape of an image `(H, W, 3)`, bound of its longest side, if any -> contract for this image.

    Raises:
        ArgumentError: A bound for a network of fixed size.
    """
    contract = cast(WholeImage, predictor.contract)  # as `segments` says
    if longest_side is None:
        return contract
    if contract.height is not None:
        raise ArgumentError(
            f"--longest-side is for networks of any size; this one takes {contract.height}x{contract.width}. "
            f"Received: {longest_side}"
        )
    height, width = shape[:2]
    if max(height, width) <= longest_side:
        return contract
    return WholeImage(*WholeImage(longest_side, longest_side).area_of(height, width))


def sides_of(text: str, option: str) -> tuple[int, int]:
    """Value of an option, 512 or 360x480, its name -> height, width.

    Raises:
        ArgumentError: It is neither.
    """
    sides = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip())
    if sides is None or min(int(side or 32) for side in sides.groups()) < 32:
        raise ArgumentError(f"{option} takes a height and a width of at least 32, 360x480 say, or one side: {text}")
    return int(sides[1]), int(sides[2] or sides[1])


def evaluate_masks(
    model: str, data: str, predictor: Predictor, void_labels: Sequence[int], unreadable: list[Path]
) -> "MaskEvaluation | None":
    """Model, images with masks -> its answers, or None if none of the images can be read; others go to `unreadable`.

    Raises:
        ArgumentError: The data has no masks, or other classes than the model.
    """
    import heapq

    import numpy as np

    from keras_resnet.data.masked import MaskedSource
    from keras_resnet.data.sources import open_source
    from keras_resnet.evaluation.mask_result import MaskEvaluation
    from keras_resnet.evaluation.overlay import Example
    from keras_resnet.evaluation.segmentation import Segmentation, pixel_confusion, pixel_scores

    sources = [open_source(data, "val", predictor.labels, void_labels)]
    if sources[0].held_out:  # of data without validation images, all count
        sources.append(open_source(data, "train", predictor.labels, void_labels))
    confusion, images = None, 0
    worst: list[tuple[float, int, Example]] = []
    for source in sources:
        if not isinstance(source, MaskedSource):
            raise ArgumentError(f"{data}: {model} is a segmentation network, and these images have no masks")
        for index in range(source.count):
            try:
                _, pixels, mask = source.decode(index)
            except ImageError as error:
                unreadable.append(Path(source.name_of(index)))
                print(f"{source.name_of(index)}: {reason(error)}", file=sys.stderr)
                continue
            scores = pixel_scores(predictor.predict, pixels, whole_of(predictor, pixels.shape, None))
            if scores.shape[-1] != len(source.classes):
                raise ArgumentError(
                    f"{data}: must have the {scores.shape[-1]} classes of {model}. It has {len(source.classes)}"
                )
            found = pixel_confusion(scores, mask)
            confusion = found if confusion is None else confusion + found
            example = Example(source.name_of(index), pixels, mask, scores.argmax(axis=-1).astype(np.uint8))
            if found.any():
                heapq.heappush(worst, (-example.pixel_accuracy_percent, images, example))
                if len(worst) > WEAKEST_IMAGES:
                    heapq.heappop(worst)
            images += 1
    if confusion is None:
        return None
    contract = cast(WholeImage, predictor.contract)  # as `segments` says
    names = predictor.labels or sources[0].classes
    weakest = [example for _, _, example in sorted(worst, reverse=True, key=lambda entry: entry[:2])]
    return MaskEvaluation(images, Segmentation(confusion), names, contract, weakest)


def print_masks(evaluation: "MaskEvaluation") -> None:
    """The figures, and the classes from the lowest IoU up, in at most 80 columns."""
    import numpy as np
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    segmentation = evaluation.segmentation
    print(f"images            {evaluation.images}")
    print(f"mean IoU %        {segmentation.mean_iou_percent:.2f}")
    print(f"pixel accuracy %  {segmentation.pixel_accuracy_percent:.2f}")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("IoU %", justify="right", no_wrap=True)
    table.add_column("% of the pixels", justify="right", no_wrap=True)
    table.add_column("class", no_wrap=True, overflow="ellipsis")
    share = 100 * segmentation.confusion.sum(axis=1) / max(1, segmentation.confusion.sum())
    for index in np.argsort(segmentation.class_iou_percent):  # NaN last
        iou = segmentation.class_iou_percent[index]
        shown = "-" if np.isnan(iou) else f"{iou:.2f}"
        table.add_row(shown, f"{share[index]:.2f}", Text(evaluation.names[index]))
    print()
    console = Console()
    console.print(table, width=min(80, console.width))
