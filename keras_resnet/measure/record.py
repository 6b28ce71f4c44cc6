"""Figures -> a JSON record that says by itself where they come from."""

import json
from pathlib import Path
from typing import Any

from keras_resnet.environment import environment
from keras_resnet.whole_files import write_whole


def write_record(path: Path, name: str, settings: dict[str, Any], results: Any) -> None:
    """Writes `{name, environment, settings, results}` as JSON; the file appears only when it is whole."""
    record = {"name": name, "environment": environment(), "settings": settings, "results": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(record, indent=2) + "\n").encode())
