"""Artifact -> time of each of its layers, in the runtime that serves it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.benchmark.layers import KINDS, Layer, LayerTimer
from keras_resnet.benchmark.onnx_layers import OnnxLayers
from keras_resnet.benchmark.tflite_layers import TfliteLayers
from keras_resnet.errors import ArgumentError, MeasurementError, reason
from keras_resnet.export.files import onnx_file
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.runtimes import format_of, image_shape, open_runtime
from keras_resnet.measure.latency import call_ms
from keras_resnet.measure.process import FREE_SIDE
from keras_resnet.printable import cell, printable

RUNS = 20
WARMUP = 3  # runs that do not count
WIDTH = 110  # characters of a printed table

_TIMERS: Mapping[str, Callable[[Path, np.ndarray, int], LayerTimer]] = {
    "LiteRT": TfliteLayers,
    "ONNX Runtime": OnnxLayers,
}


@dataclass(frozen=True)
class Profile:
    """Layers of one artifact in the order of execution, each with the fastest of its times over the runs.

    Whatever else the machine does can only add to a time, so the fastest tells most about the layer.
    """

    path: str
    format: str
    runtime: str
    batch_size: int
    threads: int
    runs: int
    latency_ms: float  # fastest call of the whole file, as it is served
    layers: tuple[Layer, ...]

    @property
    def layers_ms(self) -> float:
        """Sum over the layers, of which the shares are; what the call takes besides is the runtime's own."""
        return sum(layer.ms for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    def by(self, what: str) -> dict[str, float]:
        """ "kind" or "stage" -> share of each in percent, in the order of the kinds, or of the network."""
        shares: dict[str, float] = dict.fromkeys(KINDS if what == "kind" else (), 0.0)
        for layer in self.layers:
            group = getattr(layer, what)
            shares[group] = shares.get(group, 0.0) + layer.share_percent
        return {group: share for group, share in shares.items() if share}

    def as_dict(self) -> dict[str, Any]:
        """-> JSON object."""
        names = ("path", "format", "runtime", "batch_size", "threads", "runs", "latency_ms", "layers_ms", "macs")
        return {
            **{name: getattr(self, name) for name in names},
            "share_percent_by_kind": self.by("kind"),
            "share_percent_by_stage": self.by("stage"),
            "layers": [layer.as_dict() for layer in self.layers],
        }


def profile_artifact(
    path: Path, batch_size: int = 1, threads: int | None = None, runs: int = RUNS, trust: bool = False
) -> Profile:
    """TFLite or ONNX file -> `Profile`, on `threads` CPU threads (default: all); `trust` as for `open_runtime`.

    The whole file is timed first, then its layers, on one batch of random pixels: ONNX Runtime's threads spin on after
    a run, and would disturb what comes next. How a layer is timed differs with the runtime: see `onnx_layers` and
    `tflite_layers`.

    Raises:
        ArgumentError: A number is below 1, or the artifact is a SavedModel.
        ExportError: The artifact does not exist, is damaged, or can't be opened.
        MeasurementError: The file has not one input, or can't be taken apart.
    """
    threads = threads if threads is not None else os.cpu_count() or 1
    for name, value in (("batch_size", batch_size), ("threads", threads), ("runs", runs)):
        if value < 1:
            raise ArgumentError(f"`{name}` must be at least 1. Received: {name}={value}")
    row = format_of(path, trust)
    if row.runtime not in _TIMERS:
        profiled = ", ".join(other.name for other in FORMATS.values() if other.runtime in _TIMERS)
        raise ArgumentError(f"{path}: layers can be timed only in the formats {profiled}. Received: {row.name}")
    whole = open_runtime(path, row, threads, trust)
    if len(whole.inputs) != 1:
        raise MeasurementError(f"{path}: needs one input, with a signature. It has {len(whole.inputs)}")
    [given] = whole.inputs.values()
    height, width, channels = image_shape(given.shape)
    shape = (batch_size, height or FREE_SIDE, width or FREE_SIDE, channels or 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    latency_ms = min(call_ms(partial(whole.run, pixels)) for _ in range(WARMUP + runs))
    del whole  # and its threads
    try:
        timer = _TIMERS[row.runtime](onnx_file(path), pixels, threads)
    except (ValueError, RuntimeError) as error:
        raise MeasurementError(f"{path}: its layers can't be timed: {reason(error)}") from error
    for _ in range(WARMUP + runs):
        timer.run()
    layers = timer.layers(skip=WARMUP)
    total_ms = sum(layer.ms for layer in layers)
    shared = tuple(replace(layer, share_percent=100 * layer.ms / total_ms) for layer in layers)
    return Profile(str(path), row.name, row.runtime, batch_size, threads, runs, latency_ms, shared)


def print_profile(profile: Profile) -> None:
    """Prints the layers in the order of execution, and the shares of kinds and stages."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("layer", "operator", "output"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for column in ("MMACs", "ms", "%", "GFLOP/s"):
        table.add_column(column, justify="right", no_wrap=True, min_width=7)
    for layer in profile.layers:
        macs, speed = (f"{layer.macs / 1e6:.1f}", f"{layer.gflop_per_s:.1f}") if layer.macs else ("", "")
        output = "x".join(map(str, layer.output_shape[1:]))
        figures = (macs, f"{layer.ms:.3f}", f"{layer.share_percent:.1f}", speed)
        table.add_row(cell(layer.name), cell(layer.operator), output, *figures)
    # A fixed width: on a pipe there is none to ask for.
    Console(width=WIDTH, highlight=False).print(table)
    print()
    for what in ("kind", "stage"):
        shares = ", ".join(f"{group} {share:.1f}" for group, share in profile.by(what).items())
        print(printable(f"% by {what:5}  {shares}"))
    gflop = 2e-9 * profile.macs
    line = (
        f"{profile.latency_ms:.2f} ms a call (batch {profile.batch_size}, {counted(profile.threads, 'thread')}), "
        f"{profile.layers_ms:.2f} ms in the layers; {gflop:.2f} GFLOP, {1e3 * gflop / profile.latency_ms:.1f} GFLOP/s"
    )
    print(printable(line))


def counted(number: int, thing: str) -> str:
    """2, "thread" -> "2 threads"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
