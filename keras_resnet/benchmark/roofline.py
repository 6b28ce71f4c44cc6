"""The machine's own limits, as measured: float32 arithmetic, and traffic to memory.

The number of operations for each moved byte decides which of the two limits holds for a layer (Williams et al. 2009,
the roofline model). The limits are measured: a program can reach them, unlike the numbers of a data sheet.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from keras_resnet.errors import ArgumentError, MeasurementError
from keras_resnet.quiet import quiet_stderr

SIDE = 2048  # side of the matrices: 48 MB, and 17 GFLOP
COPIED_BYTES = 256_000_000  # far above the caches
REPEATS = 7
TIMEOUT_S = 300
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Peak:
    """What the machine can do on so many threads."""

    gflops: float  # 10^9 float32 multiplications and additions a second
    bandwidth_gb_per_s: float  # 10^9 bytes read or written a second
    how: str

    def roof_gflops(self, flop_per_byte: float) -> float:
        """Arithmetic intensity -> the most that can be reached, in GFLOP/s."""
        return min(self.gflops, flop_per_byte * self.bandwidth_gb_per_s)


def measure_peak(threads: int | None = None) -> Peak:
    """CPU threads (default: all) -> `Peak`, the fastest of several runs each, in a process of its own.

    A library's number of threads is settled when it is loaded. Arithmetic is a product of two large float32 matrices,
    by numpy or by TensorFlow, whichever is faster; traffic is the copy of a large array, each thread a part. The roof
    is for float32: integer layers can lie above it.

    Raises:
        ArgumentError: `threads` is below 1.
        MeasurementError: The process failed, or gave no answer in five minutes.
    """
    threads = threads if threads is not None else os.cpu_count() or 1
    if threads < 1:
        raise ArgumentError(f"`threads` must be at least 1. Received: threads={threads}")
    command = [sys.executable, "-m", __name__, str(threads)]
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"the machine's peak can't be measured: no answer in {TIMEOUT_S} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        raise MeasurementError(f"the machine's peak can't be measured: exit status {done.returncode}: {said[-1]}")
    return Peak(**json.loads(done.stdout))


def _measure(threads: int) -> Peak:
    """The other side, in the process itself."""
    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE), "float32")
    found = {name: 2e-9 * SIDE**3 / _fastest_s(product(matrix, threads)) for name, product in _PRODUCTS.items()}
    best = max(found, key=lambda name: found[name])
    source, target = np.ones(COPIED_BYTES // 8), np.empty(COPIED_BYTES // 8)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        copied_s = _fastest_s(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)))
    how = (
        f"{best}: product of two {SIDE}x{SIDE} float32 matrices; numpy: copy of {source.nbytes / 1e6:.0f} MB; "
        f"threads: {threads}; fastest of {REPEATS}"
    )
    return Peak(found[best], 2e-9 * source.nbytes / copied_s, how)


def _numpy_product(matrix: np.ndarray, threads: int) -> Callable[[], object]:
    result = np.empty_like(matrix)
    return lambda: np.matmul(matrix, matrix, out=result)


def _tensorflow_product(matrix: np.ndarray, threads: int) -> Callable[[], object]:
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    constant = tf.constant(matrix)
    return lambda: tf.matmul(constant, constant).numpy()


_PRODUCTS: Mapping[str, Callable[[np.ndarray, int], Callable[[], object]]] = {
    "numpy": _numpy_product,
    "TensorFlow": _tensorflow_product,
}


def _fastest_s(call: Callable[[], object]) -> float:
    times_s = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start)
    return min(times_s[1:])


if __name__ == "__main__":
    with quiet_stderr():
        peak = _measure(int(sys.argv[1]))
    print(json.dumps(asdict(peak)))
