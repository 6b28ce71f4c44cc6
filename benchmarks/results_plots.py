"""Figures of the records -> the plots of benchmarks/RESULTS.md, each of which notes what it was drawn of."""

import hashlib
import io
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from keras_resnet.benchmark.networks import OURS, THEIRS, Row
from keras_resnet.optional import require
from keras_resnet.whole_files import write_whole

SOURCE = "Source"  # key of a PNG's text: hash of the figures that it shows

Record = dict[str, Any]


def accuracy_plot(contenders: Record, ours: Collection[str]) -> Any:
    """Contenders, names of ours -> top-1 against latency and file size of those whose accuracy was measured."""
    pyplot = require("matplotlib.pyplot", "plots")
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    known = {name: result for name, result in contenders.items() if result.get("top1_percent") is not None}
    latency = {name: result["timings"]["1"]["latency"]["median_ms"] for name, result in known.items()}
    size = {name: result["size_mb"] for name, result in known.items() if result["size_mb"] is not None}
    for panel, values, label in zip(panels, (latency, size), ("latency ms, batch 1", "file MB"), strict=True):
        for index, (name, value) in enumerate(values.items()):
            panel.plot(value, known[name]["top1_percent"], "o" if name in ours else "s", label=name, color=f"C{index}")
        panel.set_xlabel(label)
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("top-1 %")
    panels[0].legend(fontsize=8)
    return figure


def networks_plot(networks: Sequence[tuple[Row, Record]]) -> Any:
    """Networks and what was measured of them -> published top-1 against MACs, latency and file size."""
    pyplot = require("matplotlib.pyplot", "plots")
    figure, panels = pyplot.subplots(1, 3, figsize=(15, 5), sharey=True, layout="constrained")
    measures: dict[str, Callable[[Row, Record], float]] = {
        "GMACs": lambda row, result: row.gmacs,
        "latency ms, batch 1": lambda row, result: result["latency"]["median_ms"],
        "file MB": lambda row, result: result["size_bytes"] / 1e6,
    }
    for panel, (label, measure) in zip(panels, measures.items(), strict=True):
        for row, result in networks:
            ours = row.package == OURS
            place = (measure(row, result), row.top1_percent)
            panel.plot(*place, "o" if ours else "s", color="C0" if ours else "C1")
            panel.annotate(row.network, place, (4, -10 if ours else 4), textcoords="offset points", fontsize=7)
        panel.set(xlabel=label, xscale="log")
        panel.margins(x=0.2)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("published top-1 %")
    for mark, color, package in (("o", "C0", OURS), ("s", "C1", THEIRS)):
        panels[0].plot([], [], mark, color=color, label=package)
    panels[0].legend(fontsize=8)
    return figure


def growth_plot(curves: Record) -> Any:
    """Curves of cost_growth -> latency against batch and image size, with the line of equal time for the work."""
    pyplot = require("matplotlib.pyplot", "plots")
    figure, panels = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for panel, what, label in zip(
        panels, ("batch", "size", "classes"), ("batch", "image size, pixels", "classes"), strict=True
    ):
        rows = curves[what]
        values, times = [row["value"] for row in rows], [row["median_ms"] for row in rows]
        first = rows[0]
        panel.plot(values, times, "o-", label="measured")
        panel.plot(
            values,
            [first["median_ms"] * row["work_gmacs"] / first["work_gmacs"] for row in rows],
            "--",
            color="grey",
            label="as the work grows",
        )
        if what == "classes":  # hardly grows: from zero, or the plot would exaggerate
            panel.set(xlabel=label, ylabel="ms", xscale="log", ylim=(0, None))
        else:
            panel.set(xlabel=label, ylabel="ms", xscale="log", yscale="log")
            panel.set_yticks(times, [f"{time:.0f}" for time in times], minor=False)
        panel.set_xticks(values, [f"{value:,}" for value in values], minor=False)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    return figure


def segmentation_plot(runs: Record) -> Any:
    """Runs of segmentation_training -> mean IoU of validation, and the training's loss, by epoch."""
    pyplot = require("matplotlib.pyplot", "plots")
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for panel, key, label in zip(
        panels, ("val_mean_iou_percent", "loss"), ("mean IoU %, validation", "loss, training"), strict=True
    ):
        for index, (name, run) in enumerate(runs.items()):
            epochs = [row["epoch"] for row in run["history"]]
            values = [row[key] for row in run["history"]]
            panel.plot(epochs, values, "-" if name.endswith("imagenet") else "--", color=f"C{index // 2}", label=name)
        panel.set(xlabel="epoch", ylabel=label, ylim=(0, None))
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
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
