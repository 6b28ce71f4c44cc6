"""Figures -> pictures: confusion matrix, reliability diagram, curves of precision and recall, as PNG."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.evaluation.calibration import Calibration
from keras_resnet.evaluation.lettering import font_files, shortened
from keras_resnet.optional import require

MOST_CLASSES_DRAWN = 50  # largest number of classes in a readable matrix
MOST_CONFUSIONS = 30  # largest number of confusions listed instead of a matrix
MOST_CURVES_NAMED = 10  # largest number of curves that can be told apart by their colours
LABEL_LENGTH = 28  # largest number of characters of a class name
DPI = 110
BLUE, GREY = "#3b6ea8", "0.45"


def draw_confusion_matrix(
    matrix: np.ndarray, names: Sequence[str], counted: str = "images", predicted: Sequence[str] | None = None
) -> bytes:
    """Confusion matrix int `[classes, classes]`, class names, what was counted -> PNG.

    `predicted` are the names of the columns, where rows have other names. For up to 50 classes the matrix is drawn,
    with the number of images in each cell. For more classes, the most frequently confused pairs are listed.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    labels, columns = ([shortened(name, LABEL_LENGTH) for name in each] for each in (names, predicted or names))
    with _text_of([*labels, *columns]):
        draw = _matrix if len(matrix) <= MOST_CLASSES_DRAWN else _largest_confusions
        return _png(draw(matrix, labels, columns, counted))


def _matrix(matrix: np.ndarray, labels: list[str], columns: list[str], counted: str) -> Any:
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
    for axis, texts in ((axes.xaxis, columns), (axes.yaxis, labels)):
        axis.set_ticks(range(classes), texts, parse_math=False, fontsize=font_size)
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


def _largest_confusions(matrix: np.ndarray, labels: list[str], columns: list[str], counted: str) -> Any:
    classes = sum(row == column for row, column in zip(labels, columns, strict=True))
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    images = matrix.sum(axis=1)
    pairs = [(int(row), int(column)) for row, column in np.argwhere(wrong > 0)]
    pairs.sort(key=lambda pair: (-wrong[pair], -wrong[pair] / images[pair[0]], pair))
    shown = pairs[:MOST_CONFUSIONS]
    figure = _figure(9, 1.4 + 0.27 * max(len(shown), 1))
    axes = figure.subplots()
    figure.suptitle(
        f"{classes} classes, {wrong.sum()} of {images.sum()} {counted} wrong: "
        + (f"the {len(shown)} most frequent confusions" if len(shown) < len(pairs) else "all confusions"),
        fontsize=11,
        x=0.01,
        horizontalalignment="left",
    )
    values = [wrong[pair] for pair in shown]
    axes.barh(range(len(shown)), values, color=BLUE, height=0.7)
    for place, pair in enumerate(shown):
        axes.text(wrong[pair], place, f" {wrong[pair]} of {images[pair[0]]}", va="center", fontsize=9, color=GREY)
    names = [f"{labels[row]} → {columns[column]}" for row, column in shown]
    axes.yaxis.set_ticks(range(len(shown)), names, parse_math=False, fontsize=9)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 1.15 * max(values, default=1))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(f"{counted} of the true class (left) that are predicted as the other class (right)")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def draw_calibration(
    calibration: Calibration,
    counted: str = "images",
    right: str = "top-1",
    confidence: str = "confidence (probability of the predicted class)",
) -> bytes:
    """Calibration -> reliability diagram as PNG: accuracy of each bin above, its number of images below.

    The names are of what was counted, of its share that is right, and of its confidence.

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
    upper.set_ylabel(f"{right}, %")
    figure.suptitle(f"expected calibration error {calibration.error_percent:.2f} %", fontsize=11)
    key = f"bar: {right} of a bin; dot: its mean confidence; line: the gap; dashed: no gap"
    upper.set_title(key, fontsize=8, color=GREY)
    lower.set_ylabel(counted)
    lower.set_xlabel(f"{confidence}, %")
    lower.yaxis.get_major_locator().set_params(integer=True)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def draw_curves(recall_percent: np.ndarray, curves: Mapping[str, np.ndarray], mean: np.ndarray, title: str) -> bytes:
    """Recall `[R]`, precision `[R]` in percent by class name, their mean `[R]`, title -> PNG of the curves.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    named = len(curves) <= MOST_CURVES_NAMED
    labels = {name: shortened(name, LABEL_LENGTH) for name in curves}
    with _text_of([title, *labels.values()]):
        figure = _figure(7.5 if named else 5.5, 5)
        axes = figure.subplots()
        for name, curve in curves.items():
            style: dict[str, Any] = {"label": labels[name]} if named else {"color": "0.8", "linewidth": 0.8}
            axes.plot(recall_percent, curve, **style)
        axes.plot(recall_percent, mean, color="black", linewidth=2.2, label="mean of the classes")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        axes.set_xlabel("recall (share of the objects that are found), %")
        axes.set_ylabel("precision (share of the detections that are right), %")
        axes.spines[["top", "right"]].set_visible(False)
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9) if named else None
        for text in legend.get_texts() if legend is not None else ():
            text.set_parse_math(False)
        figure.suptitle(title, fontsize=11)
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
