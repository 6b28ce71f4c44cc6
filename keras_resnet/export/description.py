"""The description of an artifact: a JSON object inside each file, in the place that its format provides."""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keras_resnet import __version__
from keras_resnet.answers import IMAGE, Output
from keras_resnet.errors import ExportError, reason
from keras_resnet.export.files import DESCRIPTION_FILE, IR_FILE, LABELS_FILE, kind_of
from keras_resnet.export.formats import CHOICES, FORMATS
from keras_resnet.export.integrity import onnx_with_room, seal
from keras_resnet.export.ir_file import read_properties
from keras_resnet.export.old_schema import current
from keras_resnet.export.onnx_file import read_property
from keras_resnet.export.tflite_metadata import labels_text, write_tflite_metadata
from keras_resnet.facts import facts_of
from keras_resnet.optional import require
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.base import Task
from keras_resnet.variants import LARGEST_SIDE, Contract
from keras_resnet.versions import package_versions

SCHEMA_VERSION = 3
NO_CONTRACT = dict.fromkeys(("resize_short_side", "centre_crop", "interpolation", "antialias"))
DESCRIPTION_KEY = "keras_resnet.description"  # name of the property of ONNX and OpenVINO files
MOST_CLASSES = 10_000_000
LONGEST_MESSAGE = 300  # characters; what a file holds may be longer
LARGEST_DESCRIPTION_BYTES = 16_000_000  # largest description, enough for 100,000 class names


def describe_artifact(
    model: Any,
    *,
    task: Task,
    format_name: str,
    size: tuple[int | None, int | None, int],
    layout: str,
    colour_order: str,
    default_signature: str,
    input_dtype: str,
    class_names: Sequence[str] | None,
    contract: Contract | None,
    quantization: dict[str, Any] | None,
    outputs: Mapping[Output, str],
) -> dict[str, Any]:
    """Source model, input and outputs of its file -> description.

    `size` is (height, width, channels), None if free; `outputs` holds the type of each output.
    """
    facts = facts_of(model)
    first, *further = (
        {"name": output.name, "dtype": dtype, "kind": task.outputs[output.name].kind}
        for output, dtype in outputs.items()
    )
    origin = facts.weights_origin
    return {
        "schema_version": SCHEMA_VERSION,
        "task": task.name,
        "format": format_name,
        "network": model.name,
        "parameters": model.count_params(),
        "weights": {
            "source": origin.source if origin else None,
            "repository": origin.repository if origin else None,
            "licence": origin.licence if origin else None,
            "file_sha256": origin.file_sha256 if origin else None,
            "sha256": weights_sha256(model),
        },
        "input": {
            "name": IMAGE,
            "dtype": input_dtype,
            "layout": layout,
            "size": list(size),
            "range": [0, 255],
            "colour_order": colour_order if size[2] == 3 else None,
            **(NO_CONTRACT if contract is None else contract.describe()),
        },
        **({"default_signature": default_signature} if "default_signature" in FORMATS[format_name].options else {}),
        "output": {**first, "classes": task.classes_of(model), **({"further": further} if further else {})},
        "labels": None if class_names is None else list(class_names),
        "task_facts": dict(facts.task_facts),
        "quantization": quantization,
        "package": {"name": "keras-resnet-kit", "version": __version__},
        "versions": package_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def weights_sha256(model: Any) -> str:
    """Keras model -> hash over every variable's path, shape and values, in the model's order."""
    from keras import ops

    digest = hashlib.sha256()
    for variable in model.variables:
        values = ops.convert_to_numpy(variable)
        digest.update(f"{variable.path} {values.shape} {values.dtype}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def asset_files(folder: Path, description: dict[str, Any]) -> list[Path]:
    """Writes the description, and the class names if there are any, to files in the folder -> their paths."""
    paths = [folder / DESCRIPTION_FILE]
    paths[0].write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    if description["labels"]:
        paths.append(folder / LABELS_FILE)
        paths[1].write_text(labels_text(description["labels"]), encoding="utf-8")
    return paths


def embed(path: Path, description: dict[str, Any]) -> None:
    """Puts the description and a hash of the file into a written .tflite or .onnx file."""
    if kind_of(path) == "tflite":
        write_tflite_metadata(path, description)
    else:
        _write_onnx_properties(path, description)
    seal(path)


def properties_of(description: dict[str, Any]) -> dict[str, str]:
    """Description -> properties of an ONNX or OpenVINO file: it, and its parts that people and tools look for."""
    given, weights = description["input"], description["weights"]
    return {
        DESCRIPTION_KEY: json.dumps(description),
        "network": description["network"],
        "labels": json.dumps(description["labels"]),
        "input": f"{given['colour_order']} pixels 0..255, {given['layout']} {given['size']}",
        "weights": str(weights["source"]),
        "licence": str(weights["licence"]),
        "created": description["created"],
    }


def _write_onnx_properties(path: Path, description: dict[str, Any]) -> None:
    onnx = require("onnx", "onnx")
    proto = onnx.load(str(path))
    onnx.helper.set_model_props(proto, properties_of(description))
    proto.producer_name, proto.producer_version = description["package"]["name"], description["package"]["version"]
    path.write_bytes(onnx_with_room(proto.SerializeToString()))


def read_description(path: Path) -> dict[str, Any] | None:
    """Artifact -> its description, or None if it has none. The file is not run.

    Raises:
        ExportError: The description can't be read.
    """
    try:
        text = _stored(path)
        if text is None:
            return None
        return checked_description(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile, NotImplementedError) as error:
        what = f"the field {error} is missing" if isinstance(error, KeyError) else reason(error)
        raise ExportError(f"{path}: its description can't be read: {what}") from error


def checked_description(content: dict[str, Any]) -> dict[str, Any]:
    """Untrusted description, maybe of an older version -> description of this version.

    Raises:
        KeyError: A field is missing.
        ValueError: A field is out of range.
        TypeError: A field has the wrong type.
    """
    description = current(content)
    if description["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {description['schema_version']}, but only {SCHEMA_VERSION} is known")
    for name, rule, holds in _rules(description):
        if not holds:
            *folders, field = name.split(".")
            received = description[folders[0]][field] if folders else description[field]
            raise ValueError(f"its {name!r} must {rule}. Received: {received!r}"[:LONGEST_MESSAGE])
    TASKS[description["task"]].checked_facts(description.get("task_facts", {}))
    return description


def _rules(description: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Untrusted description -> name of a field, its rule, whether it holds. A check may assume the earlier ones."""
    for name in ("format", "task", "network"):
        yield name, "be a text", isinstance(description[name], str)
    yield "format", f"be one of {', '.join(FORMATS)}", description["format"] in FORMATS
    yield "task", f"be one of {', '.join(TASKS)}", description["task"] in TASKS
    signatures = CHOICES["default_signature"]
    named = description.get("default_signature", signatures[0]) in signatures
    yield "default_signature", f"be one of {', '.join(signatures)}", named
    for name in ("input", "output"):
        yield name, "be an object", isinstance(description[name], dict)
    for name in ("weights", "quantization"):
        yield name, "be an object or null", description[name] is None or isinstance(description[name], dict)
    yield "task_facts", "be an object", isinstance(description.get("task_facts", {}), dict)
    yield from _input_rules(description["input"])
    reverses = "colour_order" in FORMATS[description["format"]].options
    bgr = description["input"].get("colour_order") == "BGR"
    yield "input.colour_order", f"be RGB in the format {description['format']}", reverses or not bgr
    answer, labels, quantization = description["output"], description["labels"], description["quantization"]
    outputs = TASKS[description["task"]].outputs
    yield "output.dtype", "be a text", isinstance(answer["dtype"], str)
    yield (
        "output.name",
        f"be one of {', '.join(outputs)}",
        isinstance(answer["name"], str) and answer["name"] in outputs,
    )
    further = answer.get("further", [])
    yield (
        "output.further",
        "be a list of objects",
        isinstance(further, list) and all(isinstance(each, dict) for each in further),
    )
    for each in further:
        known = isinstance(each["name"], str) and each["name"] in outputs and isinstance(each["dtype"], str)
        yield "output.further", f"hold names among {', '.join(outputs)}, and types as texts", known
    classes = answer["classes"]
    yield "output.classes", f"lie in 1..{MOST_CLASSES}", type(classes) is int and 0 < classes <= MOST_CLASSES
    yield "labels", "be null or a list of texts", labels is None or _is_texts(labels)
    yield "labels", f"hold a name for each of the {classes} classes", labels is None or len(labels) == classes
    if quantization is not None:
        yield "quantization.keep_float", "be a list of texts", _is_texts(quantization["keep_float"])


def _input_rules(given: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Untrusted description of the input -> as `_rules`."""
    size, crop, resize = given["size"], given["centre_crop"], given["resize_short_side"]
    yield "input.dtype", "be a text", isinstance(given["dtype"], str)
    layouts = CHOICES["layout"]
    yield "input.layout", f"be one of {', '.join(map(str, layouts))}", given["layout"] in layouts
    orders = (None, *CHOICES["colour_order"])
    yield "input.colour_order", f"be one of {', '.join(map(str, orders))}", given.get("colour_order") in orders
    sides = f"hold height, width and channels, each null or 1 to {LARGEST_SIDE}"
    yield "input.size", sides, isinstance(size, list) and len(size) == 3 and all(map(_is_side, size))
    for name, side in (("centre_crop", crop), ("resize_short_side", resize)):
        yield f"input.{name}", f"be null or 1 to {LARGEST_SIDE}", _is_side(side)
    yield "input.resize_short_side", "be null where 'centre_crop' is null", (crop is None) == (resize is None)
    if crop is not None:
        yield "input.resize_short_side", f"be at least 'centre_crop', {crop}", resize >= crop
        fits = all(side in (None, crop) for side in size[:2])
        yield "input.centre_crop", f"be the height and width of 'size', {size[:2]}", fits
        filters = ("bilinear", "bicubic")
        yield "input.interpolation", f"be one of {', '.join(filters)}", given["interpolation"] in filters


def _is_side(side: Any) -> bool:
    return side is None or (type(side) is int and 0 < side <= LARGEST_SIDE)


def _is_texts(texts: Any) -> bool:
    return isinstance(texts, list) and all(isinstance(text, str) for text in texts)


def _stored(path: Path) -> str | bytes | None:
    kind = kind_of(path)
    if kind in ("saved_model", "web"):
        file = (path / "assets" if kind == "saved_model" else path) / DESCRIPTION_FILE
        return _limited(file.stat().st_size, file.read_bytes) if file.is_file() else None
    if kind == "openvino":
        return read_properties(path / IR_FILE).get(DESCRIPTION_KEY)
    if kind == "tflite":
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            if DESCRIPTION_FILE not in archive.namelist():
                return None
            return _limited(archive.getinfo(DESCRIPTION_FILE).file_size, lambda: archive.read(DESCRIPTION_FILE))
    return read_property(path, DESCRIPTION_KEY, LARGEST_DESCRIPTION_BYTES)


def _limited(size_bytes: int, read: Any) -> bytes:
    if size_bytes > LARGEST_DESCRIPTION_BYTES:
        raise ValueError(f"it has {size_bytes:,} bytes, more than the limit of {LARGEST_DESCRIPTION_BYTES:,}")
    return read()
