"""Artifact -> load time, peak memory and latency, in a process of its own."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_resnet.answers import Answer
from keras_resnet.errors import ExportError, MeasurementError
from keras_resnet.export.formats import format_named
from keras_resnet.export.running import RUNTIME_MODULES
from keras_resnet.export.runtimes import format_of, image_shape, open_runtime, predict
from keras_resnet.measure.latency import Latency
from keras_resnet.measure.process import Loader, Opened, Subject
from keras_resnet.optional import require

COST_TIMEOUT_S = 600
LONGEST_S = 5  # seconds of timing; slow files get fewer runs, but at least three
WARMUP_CALLS = 2  # untimed calls after the first one
OPENER = f"{__name__}:artifact_loader"


@dataclass(frozen=True)
class ArtifactCost:
    """The cost of serving one file, without the import of its runtime."""

    load_ms: float  # time from opening the file to the first answer
    peak_memory_mb: float  # peak resident memory minus that before opening; 1 MB = 10^6 bytes
    latency: Latency  # latency at batch size 1


def measure_artifact(path: Path) -> ArtifactCost:
    """Artifact -> cost of serving one image, in a fresh process on all CPU threads.

    Raises:
        ExportError: The process failed, or gave no answer within ten minutes.
    """
    try:
        with Subject(str(path), OPENER, {"path": str(path)}, timeout_s=COST_TIMEOUT_S) as subject:
            once_ms = subject.times_ms(WARMUP_CALLS)[-1]
            times_ms = subject.times_ms(int(np.clip(1e3 * LONGEST_S / once_ms, 3, 50)))
            return ArtifactCost(subject.opening.load_ms, subject.opening.load_memory_mb, Latency.of(times_ms))
    except MeasurementError as error:
        raise ExportError(*error.args) from error


def artifact_loader(
    path: str, threads: int | None = None, format_name: str | None = None, runtime: str | None = None
) -> Loader:
    """Artifact, CPU threads (default: all) -> loader that opens it in this process, with its runtime already imported.

    `runtime` names another runtime than the format's own. `format_name` is needed for a file without a description. To
    find out its format, the file would have to be opened, and would be in memory before the measurement. For the same
    reason, and since its time is measured, a file is opened without the checks of what a stranger has made: whoever
    measures it has opened it before, or has written it.
    """
    row = format_of(Path(path), trust=True) if format_name is None else format_named(format_name)
    row = row if runtime is None else replace(row, runtime=runtime)
    require(RUNTIME_MODULES[row.runtime], row.extra)

    def load() -> Opened:
        opened = open_runtime(Path(path), row, threads, trust=True)
        height, width, channels = image_shape(next(iter(opened.inputs.values())).shape)

        def run(pixels: np.ndarray) -> Answer:
            return predict(opened, pixels, len(pixels) if row.any_batch else 1)

        return Opened(run, (height, width, channels or 3))

    return load
