"""`keras-resnet info`: the description that an artifact or a `.keras` file holds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.printable import cell, printable

LABELS_SHOWN = 5


def info(
    artifact: Annotated[
        Path,
        typer.Argument(
            help="A SavedModel folder, a .tflite, .onnx or .keras file, or a folder that `train` or `export` wrote."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole description as JSON.")] = False,
) -> None:
    """Print the description that a file holds: its task, its class names, how images become its input.

    Artifacts also hold network, weights, licence, versions and date.

    For a folder that `export` wrote, print what its manifest.json records, and the state of each file: whole, changed
    or missing. The exit status is 1 if a file has changed.
    """
    import json

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from keras_resnet.errors import ExportError
    from keras_resnet.export.description import read_description
    from keras_resnet.export.integrity import check_whole
    from keras_resnet.export.manifest import FILE_NAME, changed, read_manifest, state_of
    from keras_resnet.model_folders import model_in

    damage: list[str] = []
    is_export = (artifact / FILE_NAME).is_file()
    if not is_export:
        artifact = Path(model_in(str(artifact)))
    if artifact.suffix == ".keras" and artifact.is_file():
        content: Any = content_of_model(artifact)
    elif is_export:
        content = read_manifest(artifact)
        for entry in content["artifacts"].values():
            entry["state"] = state_of(artifact, entry)
            if entry["state"] == "changed":
                damage.append(changed(artifact, entry))
    elif artifact.is_file() or artifact.is_dir():
        check_whole(artifact)
        content = read_description(artifact)
    else:
        raise ExportError(f"{artifact}: no such file or folder")
    if content is None:
        raise ExportError(f"{artifact}: the file holds no description, because another program wrote it")
    if as_json:
        print(json.dumps(content, indent=2))
    for name, description in [] if as_json else _descriptions(content):
        table = Table(title=Text(printable(name), "table.title"), show_header=False, title_justify="left")
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        for key, value in _flat(description):
            table.add_row(cell(key), cell(value))
        Console().print(table)
    if damage:
        raise ExportError("\n".join(damage))


def content_of_model(path: Path) -> dict[str, Any] | None:
    """`.keras` file -> its description in the form that artifacts have; Keras is not imported.

    Raises:
        WeightsError: The file is no archive, or its description is damaged.
    """
    from keras_resnet.model_files import SCHEMA_VERSION, read_model_description

    described = read_model_description(path)
    if described is None:
        return None
    return {
        "schema_version": SCHEMA_VERSION,
        "task": described.task,
        "input": described.contract.describe(),
        "labels": None if described.class_names is None else list(described.class_names),
        "task_facts": dict(described.task_facts),
    }


def _descriptions(content: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    if "artifacts" not in content:
        return [(content.get("format", "Keras model"), content)]
    entries = content["artifacts"].values()
    return [(entry["file"], {"state": entry["state"]} | entry["description"]) for entry in entries]


def _flat(description: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested description -> rows of (dotted key, text)."""
    rows: list[tuple[str, str]] = []
    for key, value in description.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        elif key == "labels" and value:
            more = f", ... ({len(value)} in all)" if len(value) > LABELS_SHOWN else ""
            rows.append((prefix + key, ", ".join(map(str, value[:LABELS_SHOWN])) + more))
        else:
            rows.append((prefix + key, "-" if value is None else str(value)))
    return rows
