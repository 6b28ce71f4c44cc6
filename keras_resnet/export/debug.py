"""Quantization error of an integer artifact by layer: a table and a plot."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from keras_resnet.optional import require
from keras_resnet.printable import csv_cell, printable
from keras_resnet.whole_files import write_whole

LAYERS_SHOWN = 10  # number of layers in an error message


def worst_layers(errors: Mapping[str, float]) -> list[str]:
    """Signal to noise by layer, in dB -> lines about the worst layers, for a message."""
    lines = [f"  {decibels:6.1f} dB  {name}" for name, decibels in sorted(errors.items(), key=lambda pair: pair[1])]
    return ["layers with the largest quantization error (signal to noise):", *lines[:LAYERS_SHOWN]]


def write_layer_errors(folder: Path, format_name: str, errors: Mapping[str, float]) -> list[Path]:
    """Signal to noise by layer, in graph order -> `quantization-error-<format>.csv` and `.png` in the folder."""
    table = folder / f"quantization-error-{format_name}.csv"
    rows, drawn = io.StringIO(newline=""), io.BytesIO()
    writer = csv.writer(rows)
    writer.writerow(["layer", "signal_to_noise_db"])
    writer.writerows((csv_cell(name), f"{decibels:.2f}") for name, decibels in errors.items())
    write_whole(table, rows.getvalue().encode("utf-8", "backslashreplace"))
    figure = require("matplotlib.figure", "plots").Figure(figsize=(8, 1 + 0.16 * len(errors)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(errors)), list(errors.values()), color="tab:blue")
    axes.set_yticks(range(len(errors)), [printable(name) for name in errors], parse_math=False)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=6)
    axes.set_xlabel("signal to quantization noise in dB (low is bad)")
    axes.set_title(format_name)
    plot = table.with_suffix(".png")
    figure.savefig(drawn, format="png", dpi=120)
    write_whole(plot, drawn.getvalue())
    return [table, plot]
