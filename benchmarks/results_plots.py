"""Figures of the records -> the plots of benchmarks/RESULTS.md, each of which notes what it was drawn of."""

import hashlib
import io
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from keras_resnet.benchmark.networks import OURS, THEIRS, Row
from keras_resnet.optional import require
from keras_resnet.whole_files import write_whole

SOURCE = "Source"  # key of a PNG's text: hash of the figures that it shows

Record = dict[str, Any]


def panels(count: int, height: float = 4, **options: Any) -> tuple[Any, Sequence[Any]]:
    """-> a figure, and its panels side by side."""
    figure = require("matplotlib.figure", "plots").Figure(figsize=(5 * count, height), layout="constrained")
    axes = figure.subplots(1, count, **options)
    for panel in axes:
        panel.grid(alpha=0.3)
    return figure, axes


def accuracy_plot(contenders: Record, ours: Collection[str]) -> Any:
    """Contenders, names of ours -> top-1 against latency and file size of those whose accuracy was measured."""
    figure, (by_latency, by_size) = panels(2, sharey=True)
    known = {name: result for name, result in contenders.items() if result.get("top1_percent") is not None}
    for index, (name, result) in enumerate(known.items()):
        look = {"marker": "o" if name in ours else "s", "linestyle": "", "label": name, "color": f"C{index}"}
        by_latency.plot(result["timings"]["1"]["latency"]["median_ms"], result["top1_percent"], **look)
        if result["size_mb"] is not None:
            by_size.plot(result["size_mb"], result["top1_percent"], **look)
    by_latency.set(xlabel="latency ms, batch 1", xlim=(0, None), ylabel="top-1 %")
    by_size.set(xlabel="file MB", xlim=(0, None))
    by_latency.legend(fontsize=8)
    return figure


def networks_plot(networks: Sequence[tuple[Row, Record]]) -> Any:
    """Networks and what was measured of them -> published top-1 against MACs, latency and file size."""
    figure, axes = panels(3, 5, sharey=True)
    for row, result in networks:
        mark, color, drop = ("o", "C0", -10) if row.package == OURS else ("s", "C1", 4)
        for panel, value in zip(
            axes, (row.gmacs, result["latency"]["median_ms"], result["size_bytes"] / 1e6), strict=True
        ):
            panel.plot(value, row.top1_percent, mark, color=color)
            panel.annotate(row.network, (value, row.top1_percent), (4, drop), textcoords="offset points", fontsize=7)
    for panel, label in zip(axes, ("GMACs", "latency ms, batch 1", "file MB"), strict=True):
        panel.set(xlabel=label, xscale="log")
        panel.margins(x=0.2)
    axes[0].set_ylabel("published top-1 %")
    for mark, color, package in (("o", "C0", OURS), ("s", "C1", THEIRS)):
        axes[0].plot([], [], mark, color=color, label=package)
    axes[0].legend(fontsize=8)
    return figure


def growth_plot(curves: Record) -> Any:
    """Curves of cost_growth -> latency against batch and image size, with the line of equal time for the work."""
    figure, axes = panels(3)
    for panel, what, label in zip(
        axes, ("batch", "size", "classes"), ("batch", "image size, pixels", "classes"), strict=True
    ):
        rows = curves[what]
        values, times = [row["value"] for row in rows], [row["median_ms"] for row in rows]
        as_the_work = [times[0] * row["work_gmacs"] / rows[0]["work_gmacs"] for row in rows]
        panel.plot(values, times, "o-", label="measured")
        panel.plot(values, as_the_work, "--", color="grey", label="as the work grows")
        panel.set(xlabel=label, ylabel="ms", xscale="log")
        if what == "classes":  # hardly grows: from zero, or the plot would exaggerate
            panel.set(ylim=(0, None))
        else:
            panel.set(yscale="log")
            panel.set_yticks(times, [f"{time:.0f}" for time in times], minor=False)
        panel.set_xticks(values, [f"{value:,}" for value in values], minor=False)
        panel.minorticks_off()
        panel.legend(fontsize=8)
    return figure


def segmentation_plot(runs: Record) -> Any:
    """Runs of segmentation_training -> mean IoU of validation, and the training's loss, by epoch."""
    figure, axes = panels(2)
    labels = {"val_mean_iou_percent": "mean IoU %, validation", "loss": "loss, training"}
    for panel, (key, label) in zip(axes, labels.items(), strict=True):
        for index, (name, run) in enumerate(runs.items()):
            epochs, values = [row["epoch"] for row in run["history"]], [row[key] for row in run["history"]]
            panel.plot(epochs, values, "-" if name.endswith("imagenet") else "--", color=f"C{index // 2}", label=name)
        panel.set(xlabel="epoch", ylabel=label, ylim=(0, None))
    axes[0].legend(fontsize=8)
    return figure


def hashed(figures: Any) -> str:
    return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()


def save(figure: Any, path: Path, source: str) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={SOURCE: source})
    write_whole(path, buffer.getvalue())


def source_of(path: Path) -> str | None:
    """Plot -> hash of the figures that it was drawn of, or None where it is absent."""
    if not path.exists():
        return None
    with Image.open(path) as image:
        return image.info.get(SOURCE)
