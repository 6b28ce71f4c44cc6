"""Figures -> pictures: confusion matrix and reliability diagram, as PNG."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_resnet.evaluation.calibration import Calibration
from keras_resnet.evaluation.lettering import font_files, shortened
from keras_resnet.optional import require

MOST_CLASSES_DRAWN = 50  # largest number of classes in a readable matrix
MOST_CONFUSIONS = 30  # largest number of confusions listed instead of a matrix
LABEL_LENGTH = 28  # largest number of characters of a class name
DPI = 110
BLUE, GREY = "#3b6ea8", "0.45"


def draw_confusion_matrix(matrix: np.ndarray, names: Sequence[str], counted: str = "images") -> bytes:
    """Confusion matrix int `[classes, classes]`, class names, what was counted -> PNG.

    For up to 50 classes the matrix is drawn, with the number of images in each cell. For more classes, the most
    frequently confused pairs are listed.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    labels = [shortened(name, LABEL_LENGTH) for name in names]
    with _text_of(labels):
        if len(matrix) <= MOST_CLASSES_DRAWN:
            return _png(_matrix(matrix, labels, counted))
        return _png(_largest_confusions(matrix, labels, counted))


def _matrix(matrix: np.ndarray, labels: list[str], counted: str) -> Any:
    classes = len(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    digits = len(str(matrix.max()))
    cell = max(0.3, 0.075 * digits + 0.12)  # inches
    margin = 0.4 + 0.075 * max(map(len, labels))
    side = max(classes * cell, 2.5)
    figure = _figure(side + margin + 0.9, side + margin + 0.4)
    axes = figure.subplots()
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    font_size = min(11, 7 + side / classes)
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=font_size)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(classes), labels, parse_math=False, fontsize=font_size)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(0.5, classes - 1), minor=True)
    axes.set_yticks(np.arange(0.5, classes - 1), minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3 / side), aspect=18)
    bar.set_label(f"% of the {counted} of the true class")
    bar.outline.set_visible(False)
    return figure


def _largest_confusions(matrix: np.ndarray, labels: list[str], counted: str) -> Any:
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    images = matrix.sum(axis=1)
    pairs = [(int(row), int(column)) for row, column in np.argwhere(wrong > 0)]
    pairs.sort(key=lambda pair: (-wrong[pair], -wrong[pair] / images[pair[0]], pair))
    shown = pairs[:MOST_CONFUSIONS]
    figure = _figure(9, 1.4 + 0.27 * max(len(shown), 1))
    axes = figure.subplots()
    figure.suptitle(
        f"{len(matrix)} classes, {wrong.sum()} of {images.sum()} {counted} wrong: "
        + (f"the {len(shown)} most frequent confusions" if len(shown) < len(pairs) else "all confusions"),
        fontsize=11,
        x=0.01,
        horizontalalignment="left",
    )
    values = [wrong[pair] for pair in shown]
    axes.barh(range(len(shown)), values, color=BLUE, height=0.7)
    for place, pair in enumerate(shown):
        axes.text(wrong[pair], place, f" {wrong[pair]} of {images[pair[0]]}", va="center", fontsize=9, color=GREY)
    names = [f"{labels[row]} → {labels[column]}" for row, column in shown]
    axes.yaxis.set_ticks(range(len(shown)), names, parse_math=False, fontsize=9)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 1.15 * max(values, default=1))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(f"{counted} of the true class (left) that are predicted as the other class (right)")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def draw_calibration(calibration: Calibration) -> bytes:
    """Calibration -> reliability diagram as PNG: accuracy of each bin above, its number of images below.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = _figure(5.5, 6.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for part in calibration.bins:
        middle, width = (part.above_percent + part.up_to_percent) / 2, part.up_to_percent - part.above_percent
        lower.bar(middle, part.images, width, color=BLUE, edgecolor="white", linewidth=0.8)
        if part.top1_percent is not None and part.confidence_percent is not None:
            upper.bar(middle, part.top1_percent, width, color=BLUE, edgecolor="white", linewidth=0.8)
            upper.plot([part.confidence_percent] * 2, [part.top1_percent, part.confidence_percent], color="#c2410c")
            upper.plot(part.confidence_percent, part.confidence_percent, "o", color="#c2410c", markersize=4)
    upper.plot([0, 100], [0, 100], "--", color=GREY, linewidth=1)
    upper.set_xlim(0, 100)
    upper.set_ylim(0, 100)
    upper.set_ylabel("top-1, %")
    figure.suptitle(f"expected calibration error {calibration.error_percent:.2f} %", fontsize=11)
    key = "bar: top-1 of a bin; dot: its mean confidence; line: the gap; dashed: no gap"
    upper.set_title(key, fontsize=8, color=GREY)
    lower.set_ylabel("images")
    lower.set_xlabel("confidence (probability of the predicted class), %")
    lower.yaxis.get_major_locator().set_params(integer=True)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _text_of(texts: Iterable[str]) -> Any:
    """-> context in which matplotlib draws texts with an installed font for each script."""
    families = [family for family, _ in font_files(frozenset("".join(texts)))]
    return require("matplotlib", "plots").rc_context({"font.family": families})


def _figure(width: float, height: float) -> Any:
    return require("matplotlib.figure", "plots").Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any) -> bytes:
    import warnings

    drawn = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # matplotlib draws a box
        figure.savefig(drawn, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.1)
    return drawn.getvalue()
