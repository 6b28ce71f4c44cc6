"""Folder of models -> the file that tells a server of all of them."""

import json
from collections.abc import Callable
from pathlib import Path

from keras_resnet.export.files import GRAPH_FILE, IR_FILE
from keras_resnet.serve.named_files import NAME, VERSION

MOUNTED = "/models"  # where the servers' containers have the folder


def models_config(out: Path) -> dict[str, str]:
    """-> `models.config` of TensorFlow Serving: a `ModelServerConfig` as a text of Protocol Buffers."""
    entries = [
        f'  config {{ name: "{name}" base_path: "{MOUNTED}/{name}" model_platform: "tensorflow" }}\n'
        for name in _models(out, lambda version: (version / GRAPH_FILE).is_file())
    ]
    return {"models.config": f"model_config_list {{\n{''.join(entries)}}}\n"}


def config_json(out: Path) -> dict[str, str]:
    """-> `config.json` of OpenVINO Model Server."""
    names = _models(out, lambda version: any((version / name).is_file() for name in _OF_OPENVINO))
    entries = [{"config": {"name": name, "base_path": f"{MOUNTED}/{name}"}} for name in names]
    return {"config.json": json.dumps({"model_config_list": entries}, indent=2) + "\n"}


_OF_OPENVINO = (IR_FILE, "model.onnx")


def _models(out: Path, is_version: Callable[[Path], bool]) -> list[str]:
    """-> names of the folders in which at least one folder of a version is as the server needs it."""
    return [
        folder.name
        for folder in sorted(out.iterdir())
        if NAME.fullmatch(folder.name)
        and folder.is_dir()
        and any(VERSION.fullmatch(entry.name) and is_version(entry) for entry in folder.iterdir())
    ]
