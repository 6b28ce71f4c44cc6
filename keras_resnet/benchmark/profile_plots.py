"""Profile -> pictures, as PNG: time by layer, and the layers under the machine's roof."""

import io
from typing import Any

import numpy as np

from keras_resnet import layer_names
from keras_resnet.benchmark.layers import KINDS, Layer
from keras_resnet.benchmark.profile import Profile, counted
from keras_resnet.benchmark.roofline import Peak
from keras_resnet.evaluation.plots import DPI
from keras_resnet.optional import require
from keras_resnet.printable import printable

GREY = "0.45"
ROW_INCHES = 0.145
MOST_NAMED = 4  # layers in a roofline: those furthest below the roof
_COLOURS = dict(
    zip(
        KINDS,
        ("#3b6ea8", "#7b4fa3", "#c2410c", "#2f8f5b", "#d9a400", "#c43d7a", "#d62728", "#5bb5c9", "0.55"),
        strict=True,
    )
)
_STAGE_COLOURS = {
    layer_names.STEM: "#c2410c",
    layer_names.stage(2): "#a6cee3",
    layer_names.stage(3): "#6aa5cf",
    layer_names.stage(4): "#3b6ea8",
    layer_names.stage(5): "#173a66",
    "head": "#7b4fa3",
    "other": "0.55",
}


def draw_profile(profile: Profile) -> bytes:
    """Profile -> PNG: a bar for each layer in the order of execution, its length the time, its colour the kind.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    layers = profile.layers
    figure = _figure(8.5, 1.6 + ROW_INCHES * len(layers))
    axes = figure.subplots()
    longest_ms = max(layer.ms for layer in layers)
    for kind, share in profile.by("kind").items():
        rows = [row for row, layer in enumerate(layers) if layer.kind == kind]
        times_ms = [layers[row].ms for row in rows]
        axes.barh(rows, times_ms, height=0.75, color=_COLOURS[kind], label=f"{kind} {share:.1f} %")
    for row, layer in enumerate(layers):
        text = f" {layer.share_percent:.1f} %" + ("" if layer.macs else f"  {printable(layer.operator)}")
        axes.text(layer.ms, row, text, parse_math=False, va="center", fontsize=6.5, color=GREY)
        if row and layer.stage != layers[row - 1].stage:
            axes.axhline(row - 0.5, color="0.85", linewidth=0.8, zorder=0)
    axes.yaxis.set_ticks(
        range(len(layers)), [printable(layer.name) for layer in layers], parse_math=False, fontsize=6.5
    )
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(0, 1.22 * longest_ms)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", top=True, labeltop=True, labelsize=8)
    axes.spines[["right", "left"]].set_visible(False)
    axes.set_xlabel("ms")
    figure.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False, title=_title(profile))
    return _png(figure)


def draw_roofline(profile: Profile, peak: Peak) -> bytes:
    """Profile, the machine's limits -> PNG: speed of each layer against its arithmetic intensity, under the roof.

    Layers without multiply-accumulates have no place in it.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    products = [layer for layer in profile.layers if layer.macs and layer.ms]
    figure = _figure(7.5, 5.5)
    axes = figure.subplots()
    intensities = np.array([layer.flop_per_byte for layer in products])
    ridge = peak.gflops / peak.bandwidth_gb_per_s
    ends = np.geomspace(min(intensities.min(), ridge) / 2, max(intensities.max(), ridge) * 2, 200)
    axes.plot(ends, [peak.roof_gflops(value) for value in ends], color="black", linewidth=1.2, label="roof")
    for stage in dict.fromkeys(layer.stage for layer in products):
        shown = [layer for layer in products if layer.stage == stage]
        axes.scatter(
            [layer.flop_per_byte for layer in shown],
            [layer.gflop_per_s for layer in shown],
            [12 + 12 * layer.share_percent for layer in shown],
            color=_STAGE_COLOURS[stage],
            alpha=0.7,
            linewidths=0,
            label=stage,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(which="major", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    named: list[Layer] = []
    for layer in sorted(products, key=lambda layer: layer.gflop_per_s / peak.roof_gflops(layer.flop_per_byte)):
        if len(named) < MOST_NAMED and not any(_near(layer, other) for other in named):
            place = (layer.flop_per_byte, layer.gflop_per_s)
            style: dict[str, Any] = {"xytext": (5, -9), "textcoords": "offset points", "parse_math": False}
            axes.annotate(printable(layer.name), place, fontsize=7, color=GREY, **style)
            named.append(layer)
    axes.set_xlabel("intensity: FLOP for each byte of input, output and weights")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(
        f"roof: {peak.gflops:.0f} GFLOP/s of float32, {peak.bandwidth_gb_per_s:.1f} GB/s; area of a mark: its time",
        fontsize=8,
        color=GREY,
    )
    axes.legend(loc="lower right", fontsize=8, frameon=True, framealpha=1, edgecolor="0.85")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_title(profile), fontsize=10)
    return _png(figure)


def _near(layer: Layer, other: Layer) -> bool:
    """-> whether their names would lie on one another."""
    speeds, intensities = layer.gflop_per_s / other.gflop_per_s, layer.flop_per_byte / other.flop_per_byte
    return abs(np.log(speeds)) < 0.15 and abs(np.log(intensities)) < 1.5


def _title(profile: Profile) -> str:
    return (
        f"{profile.format}: {profile.layers_ms:.2f} ms in {len(profile.layers)} layers, "
        f"batch {profile.batch_size}, {counted(profile.threads, 'thread')}"
    )


def _figure(width: float, height: float) -> Any:
    return require("matplotlib.figure", "plots").Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    return drawn.getvalue()
