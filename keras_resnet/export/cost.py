"""Artifact -> load time, peak memory and latency, in a process of its own.

python -m keras_resnet.export.cost model-int8.tflite
"""

import gc
import importlib
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_resnet.benchmark.latency import Latency, measure_latency
from keras_resnet.benchmark.memory import peak_memory_mb, reset_peak_memory_mb
from keras_resnet.errors import ExportError

TIMEOUT_S = 600
FREE_SIDE = 224  # pixels, where a file leaves height and width free
LONGEST_S = 5  # of timing; slow files get fewer runs, but three at least
RUNTIME_MODULES = {"TensorFlow": "tensorflow", "LiteRT": "ai_edge_litert.interpreter", "ONNX Runtime": "onnxruntime"}


@dataclass(frozen=True)
class ArtifactCost:
    """What it takes to serve one file, beyond the import of its runtime."""

    load_ms: float  # from the path to the first answer
    peak_memory_mb: float  # resident, above what the process held before the file was opened; 1 MB = 10^6 bytes
    latency: Latency  # batch 1


def measure_artifact(path: Path) -> ArtifactCost:
    """Artifact -> its cost on one image, in a fresh process on all CPU threads.

    Raises:
        ExportError: The process failed, or gave no answer in ten minutes.
    """
    command = [sys.executable, "-m", "keras_resnet.export.cost", str(path)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"{path}: its cost can't be measured: no answer in {TIMEOUT_S} s") from error
    lines = run.stdout.splitlines()
    if run.returncode != 0 or not lines:
        reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise ExportError(f"{path}: its cost can't be measured: exit status {run.returncode}: {reason}")
    answer = json.loads(lines[-1])
    return ArtifactCost(answer["load_ms"], answer["peak_memory_mb"], Latency(**answer["latency"]))


def _measure_here(path: Path) -> ArtifactCost:
    """As `measure_artifact`, in this process, which should have done nothing before."""
    from keras_resnet.export.runtimes import format_of, is_nchw, open_runtime

    format = format_of(path)
    importlib.import_module(RUNTIME_MODULES[format.runtime])
    gc.collect()
    before_mb = reset_peak_memory_mb()
    start = time.perf_counter()
    runtime = open_runtime(path, format)
    shape = next(iter(runtime.inputs.values())).shape
    height, width, channels = (*shape[2:], shape[1]) if is_nchw(shape) else shape[1:]
    size = (1, height or FREE_SIDE, width or FREE_SIDE, channels or 3)
    image = np.random.default_rng(0).integers(0, 256, size, "uint8")
    runtime.run(image)
    load_ms = 1e3 * (time.perf_counter() - start)
    peak_mb = peak_memory_mb()
    once_ms = measure_latency(lambda: runtime.run(image), repeats=1, warmup=2).median_ms
    repeats = int(np.clip(1e3 * LONGEST_S / once_ms, 3, 50))
    return ArtifactCost(load_ms, peak_mb - before_mb, measure_latency(lambda: runtime.run(image), repeats, warmup=0))


if __name__ == "__main__":
    print(json.dumps(asdict(_measure_here(Path(sys.argv[1])))))
