"""Trained model <-> `.keras` file that says what its classes are called and which pixels it expects.

Keras' format is a zip, and reads its own members alone; the description is one member more, so that such a file stays
an ordinary `.keras` file.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_resnet.errors import WeightsError, reason
from keras_resnet.variants import Contract, contract_of_fields
from keras_resnet.whole_files import whole_file

MEMBER = "keras_resnet.json"
LARGEST_BYTES = 16_000_000  # of the member: labels of 100,000 classes fit


@dataclass(frozen=True)
class ModelDescription:
    """What a model file says about its model."""

    labels: tuple[str, ...] | None  # the name of each class, in the order of the outputs
    contract: Contract  # how image files become its pixels

    def check(self, model: Any) -> None:
        """Raises `ValueError` if the model has another number of classes, or another input size."""
        classes = model.outputs[0].shape[-1]
        if self.labels is not None and len(self.labels) != classes:
            raise ValueError(f"{len(self.labels)} labels for {classes} classes")
        sides, wanted = tuple(model.inputs[0].shape[1:3]), self.contract.sides
        if any(side not in (None, given) for side, given in zip(sides, wanted, strict=True)):
            raise ValueError(f"pixels of {wanted} for an input of {sides}")


def save_model(model: Any, path: str | os.PathLike[str], labels: Sequence[str] | None, contract: Contract) -> None:
    """Keras model, names of its classes, its pixels -> `.keras` file, which replaces an older one when it is whole.

    Raises:
        ValueError: `path` has another suffix, or labels or contract don't fit the model.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"`path` must end in .keras. Received: path={str(path)!r}")
    if isinstance(labels, str):
        raise ValueError(f"`labels` must be a list of names, or None. Received: labels={labels!r}")
    description = ModelDescription(None if labels is None else tuple(labels), contract)
    try:
        member = json.dumps(asdict(description))
        _parsed(member)
        description.check(model)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`labels` and `contract` must fit the model. Received: {error}") from error
    with whole_file(path, suffix=".keras") as partial:
        model.save(partial)
        with zipfile.ZipFile(partial, "a", zipfile.ZIP_STORED) as archive:  # compressed members are refused on loading
            archive.writestr(MEMBER, member)


def read_description(path: str | os.PathLike[str]) -> ModelDescription | None:
    """`.keras` file -> what it says about its model, or None where it says nothing, as files by Keras alone do.

    Raises:
        WeightsError: The file is no archive, or what it says is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                return None
            size_bytes = archive.getinfo(MEMBER).file_size
            if size_bytes > LARGEST_BYTES:
                raise ValueError(f"it has {size_bytes:,} bytes; at most {LARGEST_BYTES:,} are read")
            return _parsed(archive.read(MEMBER))
    # RuntimeError: an encrypted member, one compressed in a way that zipfile lacks, or JSON that is nested too deep.
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f"{os.fspath(path)}: its member {MEMBER!r} can't be read: {reason(error)}") from error


def _parsed(member: str | bytes) -> ModelDescription:
    """JSON text -> description; nothing in it is trusted.

    Raises:
        ValueError: It is not JSON, or a field is absent, of another type or out of range.
    """
    content = json.loads(member)
    if not isinstance(content, dict) or not isinstance(content.get("contract"), dict) or "labels" not in content:
        raise ValueError("not an object with 'labels' and 'contract'")
    labels = content["labels"]
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ValueError("'labels' is neither null nor a list of texts")
    contract = contract_of_fields(content["contract"])
    return ModelDescription(None if labels is None else tuple(labels), contract)
