"""Figures -> a JSON record that says by itself where they come from."""

import json
import os
from pathlib import Path
from typing import Any

from keras_resnet.environment import environment


def write_record(path: Path, name: str, settings: dict[str, Any], results: Any) -> None:
    """Writes `{name, environment, settings, results}` as JSON; the file appears only when it is whole."""
    record = {"name": name, "environment": environment(), "settings": settings, "results": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(record, indent=2) + "\n")
    os.replace(partial, path)
