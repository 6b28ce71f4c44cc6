"""Device, software and code of a measurement or a training run."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keras_resnet.versions import package_versions

# Instruction sets on which the speed of the runtimes' float and integer kernels depends.
_CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")


def environment() -> dict[str, Any]:
    """-> the environment as JSON values."""
    modified = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_cpu(),
        "threads": os.cpu_count(),  # number of threads that the runtimes use by default
        "platform": platform.platform(),
        "versions": package_versions(),
        "code_revision": _git("rev-parse", "--short", "HEAD"),
        "code_modified": None if modified is None else bool(modified),
    }


def machine() -> str:
    """-> description of the CPU: its name, its cores and the instruction sets on which speed depends."""
    cpu = _cpu()
    flags = f" ({', '.join(cpu['cpu_flags'])})" if cpu["cpu_flags"] else ""
    return f"{cpu['cpu']}, {cpu['cpu_count']} cores{flags}"


def _cpu() -> dict[str, Any]:
    return {
        "cpu": _cpu_info("model name") or platform.processor() or platform.machine(),
        "cpu_flags": [flag for flag in _CPU_FLAGS if flag in _cpu_info("flags").split()],
        "cpu_count": os.cpu_count(),
    }


def _cpu_info(key: str) -> str:
    """First value of a key in Linux's /proc/cpuinfo, or an empty text on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _git(*arguments: str) -> str | None:
    """Output of a git command in this project's checkout, or None if the package runs outside of a checkout."""
    project = Path(__file__).resolve().parents[1]

    def output(*command: str) -> str:
        run = subprocess.run(["git", "-C", str(project), *command], capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        # A Python environment may lie inside the checkout of another project, whose revision must not be recorded.
        if Path(output("rev-parse", "--show-toplevel")).resolve() != project:
            return None
        return output(*arguments)
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    print(json.dumps(environment(), indent=2))
