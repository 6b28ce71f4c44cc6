"""This process -> its largest resident memory, in MB (10^6 bytes)."""

import contextlib
import resource
import sys
from pathlib import Path


def peak_memory_mb() -> float:
    """-> largest resident memory so far.

    On Linux not `ru_maxrss`, which a process inherits: the child of a large process would start with its parent's.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def reset_peak_memory_mb() -> float:
    """-> resident memory now, where Linux starts to count the peak again; on other systems, the peak so far."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory_mb()
