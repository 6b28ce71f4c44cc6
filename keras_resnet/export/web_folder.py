"""The files in a folder of the format `web` that a browser runs, and their check before one does.

| file | is |
| --- | --- |
| `index.html` | the page |
| `worker.js`, `pixels.js`, `answers.js` | image files -> pixels -> answers, beside the page |
| `runtime/` | ONNX Runtime Web, with its licence |
| `model.onnx` | the network |
| `description.json`, `labels.txt` | its description and its class names |
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from keras_resnet.errors import ExportError
from keras_resnet.export.files import PAGE_FILE
from keras_resnet.export.web_runtime import FILES, FOLDER
from keras_resnet.page import PROGRAMS, page_with, text_of

POLICY = "worker-src 'self'"  # the page may run the worker beside it, which loads the rest


def programs() -> Mapping[str, str]:
    """-> content of each file that this package writes and a browser runs, by its name."""
    return {PAGE_FILE: page_with("exported.js", POLICY), **{name: text_of(name) for name in PROGRAMS}}


def check_programs(folder: Path) -> None:
    """Raises `ExportError` if a browser would run other programs in the folder than this version writes."""
    known = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in programs().items()}
    known |= {f"{FOLDER}/{file.name}": file.sha256 for file in FILES}
    wrong = [name for name, digest in known.items() if _digest(folder / name) != digest]
    if wrong:
        raise ExportError(
            f"{folder}: {', '.join(wrong)} must be as this version of the package writes them. They are other ones, "
            "and a browser would run them; it was not started. If you trust the place where they came from, give "
            "--trust (in Python, trust=True)"
        )


def _digest(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
