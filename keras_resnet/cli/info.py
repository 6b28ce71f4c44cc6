"""`keras-resnet info`: what an artifact says about itself."""

from pathlib import Path
from typing import Annotated, Any

import typer

LABELS_SHOWN = 5


def info(
    artifact: Annotated[
        Path, typer.Argument(help="A SavedModel folder, a .tflite or an .onnx file, or a folder with manifest.json.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs, whole.")] = False,
) -> None:
    """Print task, network, weights, licence, input, class names, versions and date that an artifact carries inside."""
    import json

    from rich.console import Console
    from rich.table import Table

    from keras_resnet.errors import ExportError
    from keras_resnet.export.description import read_description
    from keras_resnet.export.integrity import check_whole
    from keras_resnet.export.manifest import FILE_NAME, read_manifest

    if artifact.suffix == ".keras":
        raise ExportError(
            f"{artifact}: info is of a SavedModel folder, a .tflite or an .onnx file, as export writes them"
        )
    if (artifact / FILE_NAME).is_file():
        content: Any = read_manifest(artifact)
    elif artifact.is_file() or artifact.is_dir():
        check_whole(artifact)
        content = read_description(artifact)
    else:
        raise ExportError(f"{artifact}: no such file or folder")
    if content is None:
        raise ExportError(f"{artifact}: it says nothing about itself: this package did not export it")
    if as_json:
        print(json.dumps(content, indent=2))
        return
    for name, description in _descriptions(content):
        table = Table(title=name, show_header=False, title_justify="left")
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        for key, value in _flat(description):
            table.add_row(key, value)
        Console().print(table)


def _descriptions(content: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    if "artifacts" not in content:
        return [(content["format"], content)]
    return [(entry["file"], entry["description"]) for entry in content["artifacts"].values()]


def _flat(description: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested description -> rows of (dotted key, text)."""
    rows: list[tuple[str, str]] = []
    for key, value in description.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        elif key == "labels" and value:
            more = f", ... ({len(value)} in all)" if len(value) > LABELS_SHOWN else ""
            rows.append((prefix + key, ", ".join(value[:LABELS_SHOWN]) + more))
        else:
            rows.append((prefix + key, "-" if value is None else str(value)))
    return rows
