"""OpenVINO's core, which reads models and compiles them: one for the whole process."""

import functools
from types import ModuleType
from typing import Any

from keras_resnet.optional import require


def openvino_core() -> Any:
    """-> `openvino.Core()`, which lives as long as the process.

    On a CPU with AMX, OpenVINO 2026.4 gives the thread that compiles first an alternate stack for signals, and frees it
    with the core. If another thread drops the core, the first thread keeps the address, and its next signal, such as a
    Ctrl-C, ends the process with a segmentation fault.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    return _core_of(require("openvino", "openvino"))


@functools.cache
def _core_of(library: ModuleType) -> Any:
    return library.Core()
