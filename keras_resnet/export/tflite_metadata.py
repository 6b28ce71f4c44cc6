"""Description of an artifact -> TFLite Metadata: a flatbuffer that standard tools read, and the files packed with it.

The tables and fields follow TensorFlow Lite's public metadata_schema.fbs. No small package contains its generated code.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.answers import Output
from keras_resnet.export.files import DESCRIPTION_FILE, LABELS_FILE
from keras_resnet.export.integrity import tflite_with_room
from keras_resnet.tasks import TASKS

IDENTIFIER = b"M001"
BUFFER_NAME = "TFLITE_METADATA"
MINIMUM_PARSER_VERSION = "1.0.0"

_IMAGE_PROPERTIES, _BOX_PROPERTIES = 2, 3  # members of the union ContentProperties
_NORMALIZATION = 1  # member of the union ProcessUnitOptions
_COLOUR_SPACES = {"RGB": 1}
_GREY = 2
_BOUNDARIES, _PIXELS = 1, 1  # members of the enumerations BoundingBoxType and CoordinateType
_TENSOR_AXIS_LABELS, _TENSOR_VALUE_LABELS = 2, 3  # members of the enumeration AssociatedFileType


def write_tflite_metadata(path: Path, description: dict[str, Any]) -> None:
    """Adds the metadata buffer and room for a hash to a TFLite file, and appends labels and description as a zip."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(metadata_buffer(description))
    entry.name, entry.buffer = BUFFER_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    path.write_bytes(tflite_with_room(bytes(flatbuffer_utils.convert_object_to_bytearray(model))))
    with zipfile.ZipFile(path, "a") as archive:  # zip files are read from their end, TFLite files from their start
        if description["labels"]:
            archive.writestr(LABELS_FILE, labels_text(description["labels"]))
        archive.writestr(DESCRIPTION_FILE, json.dumps(description, indent=2))


def outputs_in(description: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Description -> entries of all outputs of its file, in order, each with `name`, `dtype` and `kind`."""
    return [description["output"], *description["output"].get("further", [])]


def labels_text(labels: Sequence[str]) -> str:
    """Labels -> one line each; a line break within a label becomes a space."""
    return "\n".join(" ".join(label.splitlines()) for label in labels) + "\n"


def metadata_buffer(description: dict[str, Any]) -> bytes:
    """Description -> flatbuffer ModelMetadata."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    given, answer = description["input"], description["output"]
    height, width, channels = given["size"]
    size = _table(builder, {0: ("uint32", width or 0), 1: ("uint32", height or 0)})
    colour = _COLOUR_SPACES.get(given["colour_order"], _GREY if channels == 1 else 0)
    properties = _table(builder, {0: ("int8", colour), 1: ("offset", size)})
    content = _table(builder, {0: ("uint8", _IMAGE_PROPERTIES), 1: ("offset", properties)})
    nothing = _table(builder, {0: ("offset", _floats(builder, [0.0])), 1: ("offset", _floats(builder, [1.0]))})
    unit = _table(builder, {0: ("uint8", _NORMALIZATION), 1: ("offset", nothing)})
    limits = _table(builder, {0: ("offset", _floats(builder, [255.0])), 1: ("offset", _floats(builder, [0.0]))})
    image = _table(
        builder,
        {
            0: ("offset", builder.CreateString(given["name"])),
            1: ("offset", builder.CreateString("pixels 0..255, resized and cropped as description.json states")),
            3: ("offset", content),
            4: ("offset", _offsets(builder, [unit])),
            5: ("offset", limits),
        },
    )
    known = TASKS[description["task"]].outputs
    outputs = [known[each["name"]] for each in outputs_in(description)]
    tensors = [_output_fields(builder, output) for output in outputs]
    if description["labels"]:
        [named] = [place for place, output in enumerate(outputs) if output.content == "classes"] or [0]
        kind_of_labels = _TENSOR_VALUE_LABELS if outputs[named].content == "classes" else _TENSOR_AXIS_LABELS
        label_file = _table(
            builder,
            {
                0: ("offset", builder.CreateString(LABELS_FILE)),
                1: ("offset", builder.CreateString("names of the classes, in order")),
                2: ("int8", kind_of_labels),
            },
        )
        tensors[named][6] = ("offset", _offsets(builder, [label_file]))
    graph = _table(
        builder,
        {
            0: ("offset", builder.CreateString(description["network"])),
            2: ("offset", _offsets(builder, [image])),
            3: ("offset", _offsets(builder, [_table(builder, fields) for fields in tensors])),
        },
    )
    licence = (description["weights"] or {}).get("licence") or "not known"
    root = _table(
        builder,
        {
            0: ("offset", builder.CreateString(description["network"])),
            1: ("offset", builder.CreateString(f"{TASKS[description['task']].title}, {answer['classes']} classes")),
            2: ("offset", builder.CreateString(description["package"]["version"])),
            3: ("offset", _offsets(builder, [graph])),
            4: ("offset", builder.CreateString(description["package"]["name"])),
            5: ("offset", builder.CreateString(f"weights: {licence}")),
            7: ("offset", builder.CreateString(MINIMUM_PARSER_VERSION)),
        },
    )
    builder.Finish(root, file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _output_fields(builder: Any, output: Output) -> dict[int, tuple[str, int]]:
    """Output -> fields of its table."""
    fields = {0: ("offset", builder.CreateString(output.name)), 1: ("offset", builder.CreateString(output.kind))}
    if output.content == "boxes":
        order = _integers(builder, range(4))
        box = _table(builder, {0: ("offset", order), 1: ("int8", _BOUNDARIES), 2: ("int8", _PIXELS)})
        content = _table(builder, {0: ("uint8", _BOX_PROPERTIES), 1: ("offset", box)})
        fields[3] = ("offset", content)
    return fields


def _table(builder: Any, fields: dict[int, tuple[str, int]]) -> int:
    """Writes a table: number of a field -> (type, value). Targets of offsets must already be in the builder."""
    builder.StartObject(max(fields) + 1)
    for slot, (kind, value) in fields.items():
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        else:
            {"int8": builder.PrependInt8Slot, "uint8": builder.PrependUint8Slot, "uint32": builder.PrependUint32Slot}[
                kind
            ](slot, value, 0)
    return builder.EndObject()


def _offsets(builder: Any, tables: Sequence[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return builder.EndVector()


def _integers(builder: Any, values: Sequence[int]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependUint32(value)
    return builder.EndVector()


def _floats(builder: Any, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()
