"""TFLite file -> opened in TensorFlow Lite Micro, the runtime of microcontrollers, in one block of memory: its arena.

A device keeps the file itself in flash memory. Everything else is in the arena: tensors, and what the runtime notes
about the graph. Here this is measured on a 64-bit computer, whose pointers take twice the room of a device's, with the
runtime's reference kernels. Kernels that are made for a CPU, such as CMSIS-NN, can need some room of their own.
"""

import re
from typing import Any

from keras_resnet.errors import ExportError
from keras_resnet.optional import require
from keras_resnet.printable import printable
from keras_resnet.quiet import quiet_stderr

LARGEST_ARENA_BYTES = 4_194_304  # 4 MiB: about the most memory that a microcontroller has on its chip (STM32N6: 4.2 MB)
_ALL_TENSORS_BYTES = 16 * LARGEST_ARENA_BYTES  # where no tensor may take the place of another
_STEP_BYTES = 16  # to which the runtime aligns its tensors


def open_micro(content: bytes, arena_bytes: int = LARGEST_ARENA_BYTES) -> Any:
    """TFLite file, size of the arena -> TensorFlow Lite Micro's interpreter.

    Raises:
        ExportError: The runtime lacks an operator of the file, or the arena is too small.
        MissingDependencyError: The runtime is not installed.
    """
    return _interpreter(content, arena_bytes, "kAllocationRecording")


def open_all_tensors(content: bytes) -> Any:
    """TFLite file -> interpreter that keeps all tensors (`GetTensor`), in an arena as large as that needs.

    Raises: see `open_micro`.
    """
    return _interpreter(content, _ALL_TENSORS_BYTES, "kPreserveAllTensors")


def smallest_arena_bytes(content: bytes) -> int:
    """TFLite file that `open_micro` opens -> size of the smallest arena in which it does."""
    too_small, enough = 0, LARGEST_ARENA_BYTES
    while enough - too_small > _STEP_BYTES:
        middle = (too_small + enough) // (2 * _STEP_BYTES) * _STEP_BYTES
        try:
            open_micro(content, middle)
            enough = middle
        except ExportError:
            too_small = middle
    return enough


def _interpreter(content: bytes, arena_bytes: int, config: str) -> Any:
    runtime = require("tflite_micro", "micro").runtime
    with quiet_stderr() as said:
        try:
            return runtime.Interpreter.from_bytes(
                content, arena_size=arena_bytes, intrepreter_config=runtime.InterpreterConfig[config]
            )
        except RuntimeError as error:
            said.seek(0)
            raise ExportError(_reason(said.read().decode(errors="replace"), arena_bytes) or str(error)) from error


def _reason(said: str, arena_bytes: int) -> str | None:
    """What the runtime wrote to stderr, size of the arena -> why it opened no file."""
    lacking = re.search(r"Didn't find op for builtin opcode '(\w+)'|registration from op code (\S+)", said)
    if lacking is not None:
        name = printable(lacking[1] or lacking[2])
        return f"the runtime of microcontrollers has no operator {name}, which this file needs"
    if re.search(r"Failed to (allocate|resize)", said) is not None:
        return (
            f"its tensors need an arena of more than {arena_bytes:,} bytes, and hardly a microcontroller has more. "
            "Export a narrower network, or one of smaller images"
        )
    return said.strip().splitlines()[0] if said.strip() else None
