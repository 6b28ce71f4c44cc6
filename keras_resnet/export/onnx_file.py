"""ONNX file -> its properties, and the names and types in its graph. The package `onnx` need not be installed.

An ONNX file is one message of Protocol Buffers, a `ModelProto` of onnx.proto. A message is a row of fields, and a field
may hold a message itself. Everything here is one loop over fields, which steps over the weights without reading them.
"""

import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from os import SEEK_END
from pathlib import Path
from typing import NamedTuple

from keras_resnet.regular_files import open_regular

FLOAT16 = 10  # member of `TensorProto.DataType`

# A field begins with its number, and the kind of its value in the lowest three bits.
_VARINT, _LONG, _BYTES, _SHORT = 0, 1, 2, 5
_SIZES = {_LONG: 8, _SHORT: 4}  # bytes
_LONGEST_VARINT = 10  # bytes
# Numbers of fields in onnx.proto.
_GRAPH, _PROPERTY = 7, 14  # fields of ModelProto
_KEY, _VALUE = 1, 2  # fields of StringStringEntryProto
_NODE, _CONSTANT = 1, 5  # fields of GraphProto
_INPUT, _OUTPUT, _OPERATION = 1, 2, 4  # fields of NodeProto
_DATA_TYPE, _NAME = 2, 8  # fields of TensorProto


class Node(NamedTuple):
    """One operation of a graph, with the names of what it reads and makes."""

    operation: str
    inputs: list[str]
    outputs: list[str]


class Graph(NamedTuple):
    """Operations in their order, and the type of each constant by its name."""

    nodes: list[Node]
    constants: dict[str, int]


class _Message(NamedTuple):
    """A part of a file."""

    file: mmap.mmap | bytes
    start: int
    end: int

    def fields(self) -> Iterator[tuple[int, "int | _Message"]]:
        """-> number and value of each field; a value of 4 or 8 bytes is left out, since none is needed here."""
        place = self.start
        while place < self.end:
            tag, place = self._varint(place)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                value, place = self._varint(place)
                yield number, value
                continue
            if kind == _BYTES:
                size, place = self._varint(place)
            elif kind in _SIZES:
                size = _SIZES[kind]
            else:
                raise ValueError(f"at byte {place} stands a value of the unknown kind {kind}")
            if size > self.end - place:
                raise ValueError(f"a value of {size:,} bytes begins {self.end - place:,} bytes before the end")
            if kind == _BYTES:
                yield number, _Message(self.file, place, place + size)
            place += size

    def parts(self, wanted: int) -> Iterator["_Message"]:
        """Number of a field -> its values, which are texts or messages."""
        for number, value in self.fields():
            if number == wanted and isinstance(value, _Message):
                yield value

    @property
    def size(self) -> int:
        return self.end - self.start

    def content(self) -> bytes:
        return self.file[self.start : self.end]

    def _varint(self, place: int) -> tuple[int, int]:
        """Place of a whole number, seven bits a byte, the lowest first -> the number, the place behind it."""
        value = 0
        for count in range(_LONGEST_VARINT):
            if place + count >= self.end:
                raise ValueError("it ends within a field")
            byte = self.file[place + count]
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                return value, place + count + 1
        raise ValueError(f"at byte {place} stands a number of more than {_LONGEST_VARINT} bytes")


def read_property(path: Path, name: str, most_bytes: int) -> bytes | None:
    """ONNX file, name of an entry of its `metadata_props` -> value of the entry; None: there is none.

    Raises:
        OSError: The file can't be opened.
        ValueError: It is no ONNX file, or the value is larger than `most_bytes`.
    """
    with _opened(path) as model:
        entries = (entry for entry in model.parts(_PROPERTY) if _first(entry, _KEY) == name.encode())
        value = next((value for entry in entries for value in entry.parts(_VALUE)), None)
        if value is not None and value.size <= most_bytes:
            return value.content()
    if value is not None:
        raise ValueError(f"it has {value.size:,} bytes, more than the limit of {most_bytes:,}")
    return None


def read_graph(path: Path) -> Graph:
    """ONNX file -> its graph, without the graphs that attributes hold.

    Raises:
        OSError: The file can't be opened.
        ValueError: It is no ONNX file.
    """
    nodes, constants = [], {}
    with _opened(path) as model:
        for graph in model.parts(_GRAPH):
            for node in graph.parts(_NODE):
                inputs, outputs = ([part.content().decode() for part in node.parts(each)] for each in (_INPUT, _OUTPUT))
                nodes.append(Node(_first(node, _OPERATION).decode(), inputs, outputs))
            for constant in graph.parts(_CONSTANT):
                types = (value for number, value in constant.fields() if number == _DATA_TYPE)
                constants[_first(constant, _NAME).decode()] = next((kind for kind in types if isinstance(kind, int)), 0)
    return Graph(nodes, constants)


def _first(message: _Message, number: int) -> bytes:
    """-> content of the first field of that number, or nothing."""
    return next((part.content() for part in message.parts(number)), b"")


@contextmanager
def _opened(path: Path) -> Iterator[_Message]:
    """`with _opened(path) as model:` the file as one message. Only the bytes that are looked at are read."""
    with open_regular(path) as stream, ExitStack() as stack:
        size_bytes = stream.seek(0, SEEK_END)
        file: mmap.mmap | bytes = b""  # no system maps an empty file
        if size_bytes:
            file = stack.enter_context(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            yield _Message(file, 0, size_bytes)
        except ValueError as error:
            raise ValueError(f"not an ONNX file: {error}") from error
