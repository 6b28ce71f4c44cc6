"""Folder that `train` or `export` wrote -> the model or artifact in it."""

import importlib.util
import logging
import os
from pathlib import Path

from keras_resnet.errors import ArgumentError, ExportError
from keras_resnet.export.files import is_artifact_folder
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.manifest import FILE_NAME, check_recorded, read_manifest
from keras_resnet.export.running import AS_WRITTEN, RUNTIME_MODULES, Running
from keras_resnet.fastest import FILE_NAME as FASTEST
from keras_resnet.fastest import fastest_in
from keras_resnet.printable import printable
from keras_resnet.training.run_files import BEST
from keras_resnet.variants import VARIANTS

NAMES_LISTED = 10  # names in an error message
_LOG = logging.getLogger("keras_resnet")


def model_in(model: str, running: Running | None = None) -> str:
    """Model as the user names it -> network's name, file or an artifact's folder; one line is logged about a folder.

    Of a run directory, this is the model of the best epoch. Of a folder of artifacts, it is the first one in the order
    float32, float16, int8, and among these SavedModel, TFLite, ONNX, OpenVINO.

    Args:
        running: How the model will be run, if it is only asked for answers. Then the artifact that `keras-resnet
            benchmark` found the fastest on this machine is taken, if there is one; or the first that can be run so.

    Raises:
        ArgumentError: A folder is neither a run directory nor a folder of artifacts.
        ExportError: The folder's manifest can't be read, or the artifact is not the one that it records.
    """
    folder = Path(model)
    named = model in VARIANTS or model.endswith((".keras", ".tflite", ".onnx"))
    if named or not folder.is_dir() or is_artifact_folder(folder):
        return model
    found = [name for name in (BEST,) if (folder / name).is_file()] + artifacts_in(folder)
    if not found:
        raise ArgumentError(
            f"{model}: this folder has neither {BEST}, as `keras-resnet train` writes it, nor artifacts with "
            f"{FILE_NAME}, as `keras-resnet export` writes them. {_content(folder)}. Name such a folder, or a file"
        )
    fastest = None
    if running is not None and found[0] != BEST:
        fit = [file for file in found if _can_run(file, running)]
        fastest = fastest_in(folder, fit) if running == AS_WRITTEN else None
        found.sort(key=lambda file: (file != fastest, file not in fit))
    taken, *others = found
    for entry in read_manifest(folder)["artifacts"].values() if taken != BEST else ():
        if entry["file"] == taken:
            check_recorded(folder, entry)
    why = f", the fastest on this machine by {FASTEST}" if fastest else ""
    more = f" (also there: {', '.join(others)})" if others else ""
    _LOG.warning("model: %s", printable(f"{folder / taken}{why}{more}"))
    return str(folder / taken)


def _can_run(file: str, running: Running) -> bool:
    """Name of an artifact -> whether its runtime is installed here, and can run it so."""
    [row] = [row for row in FORMATS.values() if row.file_name == file]
    try:
        row = running.of(row)
    except ExportError:
        return False
    return importlib.util.find_spec(RUNTIME_MODULES[row.runtime].partition(".")[0]) is not None


def artifacts_in(folder: Path) -> list[str]:
    """Folder -> names of the artifacts that its manifest has and that are there, the most exact ones first."""
    written = read_manifest(folder)["artifacts"]
    rows = sorted(
        FORMATS.values(), key=lambda row: -row.bytes_per_parameter
    )  # rows of equal precision keep their order
    return [row.file_name for row in rows if row.name in written and (folder / row.file_name).exists()]


def _content(folder: Path) -> str:
    """Folder -> its content in words."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder))
    more = f" and {len(names) - NAMES_LISTED} more" if len(names) > NAMES_LISTED else ""
    return f"It holds {', '.join(names[:NAMES_LISTED])}{more}" if names else "It is empty"
