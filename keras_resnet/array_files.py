"""Archive of NumPy arrays (.npz) -> its arrays, once it is known that they fit into the memory."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from keras_resnet.errors import reason
from keras_resnet.limits import ARRAY_VARIABLE, most_array_bytes
from keras_resnet.printable import printable
from keras_resnet.regular_files import open_regular

LARGEST_HEAD_BYTES = 1 << 17
LONGEST_NAME = 40  # characters of a name in an error message
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNREADABLE = 0x01 | 0x20 | 0x40  # bits of a member's flags: encrypted, patched, strongly encrypted


class Arrays:
    """The arrays of an open archive; use it in a `with` block.

    Each array is read once it is asked for. NumPy would first make room for what its head declares.

    Raises:
        OSError: The file can't be opened, or is a pipe or a device.
        ValueError: An array declares another number of bytes than its member, or all arrays together too many.
        zipfile.BadZipFile, EOFError, zlib.error: The archive is damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(open_regular(path))
        except NotImplementedError as error:  # a member asks for a version of the format that there is not
            raise ValueError(reason(error)) from error
        self.names = [name.removesuffix(".npy") for name in self._archive.namelist()]
        self._read_bytes = 0

    def __enter__(self) -> "Arrays":
        return self

    def __exit__(self, *_: object) -> None:
        file = self._archive.fp
        self._archive.close()
        if file is not None:
            file.close()

    def __getitem__(self, name: str) -> np.ndarray:
        """Raises `KeyError` if there is no such array, `ValueError` if it is damaged or does not hold numbers."""
        member = self._archive.getinfo(f"{name}.npy" if f"{name}.npy" in self._archive.NameToInfo else name)
        shown = printable(name)[:LONGEST_NAME]
        if member.compress_type not in _COMPRESSIONS or member.flag_bits & _UNREADABLE:
            raise ValueError(f"{shown} is compressed or encrypted in a way that NumPy does not write")
        with self._archive.open(member) as stream:
            try:
                size_bytes = _declared_bytes(stream)
            except Exception as error:  # NumPy's reader of a damaged head can raise anything
                raise ValueError(f"{shown} must hold numbers: {reason(error)}") from error
        # The head stands before the values.
        if not 0 <= member.file_size - size_bytes <= LARGEST_HEAD_BYTES:
            raise ValueError(f"{shown} declares {size_bytes:,} bytes, and {member.file_size:,} are stored")
        self._read_bytes += size_bytes
        if self._read_bytes > most_array_bytes():
            raise ValueError(
                f"with {shown} its arrays have {self._read_bytes:,} bytes, and the limit is {most_array_bytes():,}. "
                f"To read them, set the environment variable {ARRAY_VARIABLE} to {self._read_bytes} or more"
            )
        with self._archive.open(member) as stream:
            return npy.read_array(stream, allow_pickle=False)


def _declared_bytes(stream: Any) -> int:
    """Start of a .npy file -> bytes of the values that it declares."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of NumPy's format is unknown")
    shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
    if dtype.kind not in "biufc":
        raise ValueError(f"its type is {dtype}")
    return math.prod(shape) * dtype.itemsize
