"""Checks of what an artifact states: its format, class names, contract for image files, and the tables for other tools.

A description is compared with the model by its effect: the model answers image files that are prepared as the file
states, and must answer as on image files that are prepared for the model.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_resnet import __version__, inference
from keras_resnet.answers import IMAGE
from keras_resnet.errors import ExportError
from keras_resnet.export.description import DESCRIPTION_KEY, NO_CONTRACT, properties_of
from keras_resnet.export.files import IR_FILE, LABELS_FILE, kind_of
from keras_resnet.export.formats import FORMATS, Format
from keras_resnet.export.graph_format import format_in_graph
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.integrity import KEY
from keras_resnet.export.ir_file import read_properties
from keras_resnet.export.manifest import artifact_sha256, read_manifest
from keras_resnet.export.runtimes import runtime_errors
from keras_resnet.export.tflite_metadata import BUFFER_NAME, labels_text, metadata_buffer, outputs_in
from keras_resnet.facts import facts_of
from keras_resnet.optional import require
from keras_resnet.predictor import Predictor
from keras_resnet.tasks import TASKS, checked_task_of
from keras_resnet.tasks.base import Check
from keras_resnet.variants import Contract

# Height and width of the picture files, in units of the network's side: smaller and larger, wide and high.
_FILE_SIDES = ((0.6, 0.9), (1.9, 1.3), (1.1, 2.3), (3.1, 3.0))
NAMES_SHOWN = 3
FEWEST_ROUNDED = 1024  # values of a kernel; LiteRT's converter leaves smaller ones of `tflite-dynamic` in float


def stated_checks(
    path: Path,
    format: Format,
    description: Mapping[str, Any] | None,
    model: keras.Model,
    class_names: Sequence[str] | None,
    contract: Contract | None,
) -> Iterator[Check]:
    """Artifact, its format, its description if it has one, prepared model, the model's class names and contract ->
    checks of what the file states.
    """
    found = format_in_graph(path)
    is_right = _numbers_of(FORMATS[found]) == _numbers_of(format)
    if format.name == "tflite-dynamic" and found == "tflite":  # of a tiny network
        is_right = all(values.size < FEWEST_ROUNDED for values in model.get_weights())
    yield Check("format", f"the numbers of {found}", format.name, is_right)
    if description is None:
        return
    task = checked_task_of(model)
    classes = task.classes_of(model)
    stated = f"{description['task']}, {description['output']['classes']} classes"
    yield _equal_check("task", stated, f"{task.name}, {classes} classes")
    yield _task_facts_check(description.get("task_facts", {}), facts_of(model).task_facts)
    yield _names_check(path, description, class_names)
    if description["package"]["version"] == __version__:  # others may have written the tables in other words
        yield _tables_check(path, description)
    yield from _manifest_checks(path, description)
    yield _network_check(description, format, model, contract)
    if contract is not None and description["task"] == task.name and model.inputs[0].shape[-1] == 3:
        yield _contract_check(model, contract, description)


def _numbers_of(row: Format) -> tuple[Any, ...]:
    """Row of the table -> what tells the numbers of its graphs from those in other rows."""
    return row.name.partition("-")[0], row.bytes_per_parameter, row.integer and row.calibrated, row.integer_answers


def _equal_check(name: str, measured: str, required: str) -> Check:
    return Check(name, measured, required, measured == required)


def _task_facts_check(stated: Mapping[str, Any], own: Mapping[str, Any]) -> Check:
    """Checks the facts that only this task has, as far as both the file and the model state them."""
    wrong = [f"{key}: {stated[key]!r}, not {value!r}" for key, value in own.items() if stated.get(key, value) != value]
    return Check("facts of the task", ", ".join(wrong) or "equal", "the model's", not wrong)


# --- class names --------------------------------------------------------------------------------------------------


def _names_check(path: Path, description: Mapping[str, Any], expected: Sequence[str] | None) -> Check:
    """Checks the class names in all places where tools read them."""
    stated = description["labels"]
    if expected is None and stated is not None:
        return Check("class names", f"{len(stated)} names", "not compared: the model states no class names", True)
    wanted = None if expected is None else list(expected)
    places = {"description": (stated, wanted), **_further_places(path, wanted)}
    wrong = [_difference(place, *names) for place, names in places.items() if names[0] != names[1]]
    count = "no names" if wanted is None else f"{len(wanted)} names"
    return Check("class names", "; ".join(wrong) or f"equal in {', '.join(places)}", f"the model's {count}", not wrong)


def _further_places(path: Path, wanted: list[str] | None) -> dict[str, tuple[Any, Any]]:
    """-> name of each further place in the file: the names there, and the names that must be there."""
    text = labels_text(wanted).splitlines() if wanted else None
    kind = kind_of(path)
    if kind in ("saved_model", "web"):
        file = (path / "assets" if kind == "saved_model" else path) / LABELS_FILE
        return {LABELS_FILE: (file.read_text("utf-8").splitlines() if file.is_file() else None, text)}
    if kind == "tflite":
        with zipfile.ZipFile(path) as archive:
            held = LABELS_FILE in archive.namelist()
            return {LABELS_FILE: (archive.read(LABELS_FILE).decode("utf-8").splitlines() if held else None, text)}
    return {"property labels": (json.loads(_properties(path).get("labels", "null")), wanted)}


def _difference(place: str, received: Sequence[str] | None, expected: Sequence[str] | None) -> str:
    if received is None or expected is None or len(received) != len(expected):
        return f"{place}: {'no' if received is None else len(received)} names"
    wrong = [index for index, pair in enumerate(zip(received, expected, strict=True)) if pair[0] != pair[1]]
    shown = ", ".join(f"class {index} is {received[index]!r}, not {expected[index]!r}" for index in wrong[:NAMES_SHOWN])
    return f"{place}: {shown}" + (f" and {len(wrong) - NAMES_SHOWN} more" if len(wrong) > NAMES_SHOWN else "")


def _manifest_checks(path: Path, description: Mapping[str, Any]) -> Iterator[Check]:
    """Checks that `manifest.json` beside the file, if it has an entry for it, records this file and its description."""
    try:
        entries = read_manifest(path.parent)["artifacts"].values()
    except ExportError:  # it is another program's, or damaged; `info` names it
        return
    for entry in entries:
        if entry["file"] == path.name:
            wrong = "another description" if entry["description"] != description else ""
            wrong = wrong or ("another file" if entry["sha256"] != artifact_sha256(path) else "")
            yield Check("manifest", f"it records {wrong or 'this file'}", "it records this file", not wrong)


# --- tables for other tools ---------------------------------------------------------------------------------------


def _tables_check(path: Path, description: Mapping[str, Any]) -> Check:
    """Checks that the tables which other tools read repeat the description: TFLite's metadata, properties."""
    kind = kind_of(path)
    if kind in ("saved_model", "web"):
        wrong = []
    elif kind == "tflite":
        wrong = [] if _tflite_metadata(path) == metadata_buffer(dict(description)) else ["TFLite's metadata"]
    else:
        wanted, held = properties_of(dict(description)), _properties(path)
        keys = (set(wanted) | set(held)) - {DESCRIPTION_KEY, KEY.decode()}
        wrong = sorted(key for key in keys if wanted.get(key) != held.get(key))
    return Check("tables for other tools", ", ".join(wrong) or "equal", "equal to the description", not wrong)


def _properties(path: Path) -> dict[str, str]:
    """ONNX or OpenVINO file -> its properties."""
    if kind_of(path) == "openvino":
        return read_properties(path / IR_FILE)
    proto = require("onnx", "onnx").load(str(path), load_external_data=False)
    return {prop.key: prop.value for prop in proto.metadata_props}


def _tflite_metadata(path: Path) -> bytes | None:
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry is not None and entry.Name() == BUFFER_NAME.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None


# --- contract -----------------------------------------------------------------------------------------------------


def _network_check(
    description: Mapping[str, Any], format: Format, model: keras.Model, contract: Contract | None
) -> Check:
    """Checks the entries that tell other programs what the network is, how to make pixels, and what its answers are."""
    height, width, channels = model.inputs[0].shape[1:]
    known = checked_task_of(model).outputs
    wanted = {
        "parameters": model.count_params(),
        "name": IMAGE,
        "size": [None, None, channels] if format.any_size else [height, width, channels],
        "range": [0, 255],
        "colour_order": "RGB" if channels == 3 else None,
        **(NO_CONTRACT if contract is None else contract.describe()),
        "outputs": [(each.name, format.dtype_of(each), known[each.name].kind) for each in format.outputs],
    }
    outputs = [(each["name"], each["dtype"], each["kind"]) for each in outputs_in(description)]
    held = {"parameters": description["parameters"], "outputs": outputs, **description["input"]}
    wrong = [f"{key}: {held.get(key)!r}, not {value!r}" for key, value in wanted.items() if held.get(key) != value]
    return Check("stated network", ", ".join(wrong) or "equal", "the model's", not wrong)


def _contract_check(model: keras.Model, contract: Contract, description: Mapping[str, Any]) -> Check:
    """Checks that the model gives equal answers to image files which are prepared as the file states."""
    task = TASKS[description["task"]]
    given = description["input"]
    sides = (model.inputs[0].shape[1], model.inputs[0].shape[2])
    stated = task.contract_of_artifact(sides, given)
    if stated is None:
        return Check("contract", "image files can't become its pixels", str(contract), False)
    if stated == contract:
        return _equal_check("contract", str(stated), str(contract))
    files = picture_files(sides[0] or 1, sides[1] or 1)
    answers = []
    for way in (stated, contract):
        run = partial(inference.answer, model, name=next(iter(task.outputs)))
        predictor = Predictor("", task, None, way, task.classes_of(model), run)
        try:
            with runtime_errors():
                answers.append([values for answer in predictor.predict(files) for values in answer.values()])
        except ExportError as error:  # pixels of another size
            return Check("contract", f"{stated}: {error}", str(contract), False)
    difference = max(
        float(np.abs(a - b).max(initial=0)) if a.shape == b.shape else float("inf")
        for a, b in zip(*answers, strict=True)
    )
    measured = f"{stated}: largest difference {difference:.3g} on {len(files)} image files"
    return Check("contract", measured, f"answers as with {contract}", difference == 0)


def picture_files(height: int, width: int) -> list[bytes]:
    """Size of a network's image -> PNG files of pictures that are smaller and larger, wide and high."""
    files = []
    for seed, (down, across) in enumerate(_FILE_SIDES):
        size = max(8, round(down * height)), max(8, round(across * width))
        stream = io.BytesIO()
        Image.fromarray(synthetic_images((*size, 3), count=1, seed=seed)[0]).save(stream, "PNG")
        files.append(stream.getvalue())
    return files
