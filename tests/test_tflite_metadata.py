"""TFLite Metadata, read by a walk over the flatbuffers that knows the public schemas and nothing of the writer.

The numbers are those of TensorFlow Lite's schema.fbs and metadata_schema.fbs. MediaPipe's and TFLite Support's readers
gave the same; neither installs beside this project.
"""

import json
import zipfile

import numpy as np
import pytest

from keras_resnet.export.tflite_metadata import metadata_buffer

flatbuffers = pytest.importorskip("flatbuffers")
pytest.importorskip("ai_edge_litert")

NONE, RGB, GREY = 0, 1, 2  # ColorSpaceType
IMAGE_PROPERTIES, NORMALIZATION, TENSOR_AXIS_LABELS = 2, 1, 2


class Table:
    """One table of a flatbuffer; its fields are numbered in the order of the schema."""

    def __init__(self, buffer, position=None):
        from flatbuffers.table import Table as Raw

        self.raw = Raw(buffer, int.from_bytes(buffer[:4], "little") if position is None else position)

    def _place(self, field):
        offset = self.raw.Offset(4 + 2 * field)
        return self.raw.Pos + offset if offset else None

    def number(self, field, kind):
        place = self._place(field)
        return 0 if place is None else self.raw.Get(getattr(flatbuffers.number_types, f"{kind}Flags"), place)

    def text(self, field):
        place = self._place(field)
        return None if place is None else self.raw.String(place).decode()

    def table(self, field):
        place = self._place(field)
        return None if place is None else Table(self.raw.Bytes, self.raw.Indirect(place))

    def tables(self, field):
        start, count = self._vector(field)
        return [Table(self.raw.Bytes, self.raw.Indirect(start + 4 * index)) for index in range(count)]

    def floats(self, field):
        start, count = self._vector(field)
        return np.frombuffer(bytes(self.raw.Bytes[start : start + 4 * count]), "<f4").tolist()

    def bytes(self, field):
        start, count = self._vector(field)
        return bytes(self.raw.Bytes[start : start + count])

    def _vector(self, field):
        offset = self.raw.Offset(4 + 2 * field)
        return (self.raw.Vector(offset), self.raw.VectorLen(offset)) if offset else (0, 0)


def metadata_of(path):
    """TFLite file -> root of its metadata: the buffer that Model.metadata names TFLITE_METADATA."""
    model = Table(path.read_bytes())
    [entry] = [entry for entry in model.tables(6) if entry.text(0) == "TFLITE_METADATA"]
    content = model.tables(4)[entry.number(1, "Uint32")].bytes(0)
    assert content[4:8] == b"M001"
    return Table(content)


def files_of(table, field):
    """-> (name, type) of each AssociatedFile."""
    return [(file.text(0), file.number(2, "Int8")) for file in table.tables(field)]


@pytest.mark.parametrize("name", ["tflite", "tflite-float16", "tflite-dynamic", "tflite-int8", "tflite-int16x8"])
def test_every_tflite_file_carries_standard_metadata(name, small_exports):
    path = small_exports.paths[name]
    root = metadata_of(path)
    assert (root.text(0), root.text(1)) == ("small", "image classification, 10 classes")
    assert root.text(4) == "keras-resnet-kit"
    assert root.text(7) == "1.0.0"
    [graph] = root.tables(3)
    [image], [answer] = graph.tables(2), graph.tables(3)

    assert image.text(0) == "image"
    assert image.table(3).number(0, "Uint8") == IMAGE_PROPERTIES
    properties = image.table(3).table(1)
    size = properties.table(1)
    assert (properties.number(0, "Int8"), size.number(0, "Uint32"), size.number(1, "Uint32")) == (RGB, 32, 32)
    [unit] = image.tables(4)
    assert unit.number(0, "Uint8") == NORMALIZATION
    assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ([0.0], [1.0])  # pixels go in as they are
    assert (image.table(5).floats(0), image.table(5).floats(1)) == ([255.0], [0.0])  # greatest, least

    assert answer.text(0) == "probabilities"
    assert files_of(answer, 6) == [("labels.txt", TENSOR_AXIS_LABELS)]
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["labels.txt", "description.json"]
        assert archive.read("labels.txt").decode().splitlines() == small_exports.class_names
        assert json.loads(archive.read("description.json"))["format"] == name


@pytest.mark.parametrize(
    ("size", "order", "labels", "colour"),
    [([48, 64, 3], "RGB", ["a", "b"], RGB), ([20, 30, 1], None, None, GREY), ([9, 8, 4], None, [], NONE)],
)
def test_other_sizes_colours_and_no_labels(size, order, labels, colour):
    description = {
        "task": "classify",
        "network": "other",
        "weights": {"licence": "BSD-3-Clause"},
        "input": {"name": "image", "size": size, "colour_order": order},
        "output": {"name": "probabilities", "classes": 2},
        "labels": labels,
        "package": {"name": "keras-resnet-kit", "version": "1.2.3"},
    }
    root = Table(metadata_buffer(description))
    assert (root.text(2), root.text(5)) == ("1.2.3", "weights: BSD-3-Clause")
    [graph] = root.tables(3)
    properties = graph.tables(2)[0].table(3).table(1)
    assert properties.number(0, "Int8") == colour
    width, height = properties.table(1).number(0, "Uint32"), properties.table(1).number(1, "Uint32")
    assert [height, width] == size[:2]
    assert files_of(graph.tables(3)[0], 6) == ([("labels.txt", TENSOR_AXIS_LABELS)] if labels else [])
