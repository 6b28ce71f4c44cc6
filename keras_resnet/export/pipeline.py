"""The way of one export: prepare, write under a temporary name, verify, rename, record."""

import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.errors import ExportError, KerasResnetError, VerificationError
from keras_resnet.export.formats import UNVERIFIED, Format, format_named
from keras_resnet.export.images import check_calibration, comparison_images, read_images, synthetic_images
from keras_resnet.export.manifest import (
    FILE_NAME,
    file_sha256,
    forget,
    provenance,
    read_manifest,
    record,
    size_bytes,
)
from keras_resnet.export.prepare import check_prepared, prepare
from keras_resnet.export.runtimes import format_of
from keras_resnet.export.verify import Report, ask, examine, verify
from keras_resnet.labels import imagenet_labels
from keras_resnet.optional import require
from keras_resnet.preprocessing import contract_of
from keras_resnet.quiet import quiet_stderr
from keras_resnet.variants import InputContract


@dataclass(frozen=True)
class ExportReport:
    """What an export made: the artifacts by format, and how each compared with its model."""

    folder: Path
    paths: dict[str, Path]
    reports: dict[str, Report]
    manifest: Path


def export(
    model: keras.Model,
    folder: str | os.PathLike[str],
    formats: Sequence[str] = ("saved_model", "tflite", "onnx"),
    *,
    calibration: str | os.PathLike[str] | np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    contract: InputContract | None = None,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> ExportReport:
    """Classifier, folder -> verified artifacts in that folder, with `manifest.json`.

    Each artifact takes `image`, pixels 0..255 `[N, H, W, C]`, and gives `probabilities` `[N, classes]`. It is written
    as `<name>.unverified` and renamed once it gave its model's answers in its own runtime; one that did not stays
    under that name, for inspection. The other formats go on; the error comes at the end.

    Args:
        model: A network of this package with its head and preprocessing layer, under any dtype policy.
        folder: Created if need be.
        formats: Out of keras_resnet.export.formats.FORMATS.
        calibration: At least 32 representative images for the quantized formats: a folder (or glob), or pixels uint8
            `[N, H, W, C]`. Every artifact is also verified on them; those in float on synthetic pictures besides.
        labels: Names of the classes, in order. Default: ImageNet's for 1000 classes.
        contract: How image files become pixels. Default: that of the published weights that the model was built with,
            else a centre crop of the model's input size, or of 224.
        overwrite: Whether artifacts of the same name in the folder are replaced.
        progress: Called at each step with what it is, the number of steps done, and of all.

    Raises:
        ExportError: The model or an argument does not allow the export, or a converter failed.
        MissingDependencyError: A format needs packages that are not installed.
        VerificationError: An artifact is not equal to its model.
    """
    folder = Path(folder)
    rows = _rows(formats, folder, calibration, overwrite)
    steps = iter(range(2 * len(rows) + 1))

    def advance(step: str) -> None:
        progress(step, next(steps), 2 * len(rows) + 1)

    advance("prepare")
    prepared = prepare(model, contract)
    height, width, channels = shape = prepared.inputs[0].shape[1:]
    contract = contract or contract_of(model)
    if contract is not None and (height, width) != (contract.size, contract.size):
        raise ExportError(
            f"`contract` must crop to the model's input size, {height}x{width}. Received: contract={contract!r}"
        )
    class_labels = _labels(labels, prepared)
    calibration_images = None
    if calibration is not None:
        calibration_images = read_images(calibration, contract, shape)
        check_calibration(calibration_images)
    check_prepared(model, prepared, synthetic_images(shape, count=4))
    references = {
        quantized: ask(prepared, comparison_images(shape, calibration_images, quantized))
        for quantized in {row.quantized for row in rows}
    }

    folder.mkdir(parents=True, exist_ok=True)
    origin = {
        **provenance(model),
        "labels": class_labels,
        "input": {
            "size": [height, width, channels],
            "range": [0, 255],
            "colour_order": "RGB" if channels == 3 else None,
            "resize_short_side": contract.resize if contract else None,
            "centre_crop": contract.size if contract else None,
            "interpolation": contract.interpolation if contract else None,
        },
        "calibration_images": None if calibration_images is None else len(calibration_images),
    }
    paths, reports, failures = {}, {}, []
    for row in rows:
        path, unverified = folder / row.file_name, folder / (row.file_name + UNVERIFIED)
        try:
            _remove(unverified)
            advance(f"write {row.name}")
            _write(row, prepared, unverified, calibration_images)
            advance(f"verify {row.name}")
            reports[row.name] = verify(unverified, row, references[row.quantized])
            forget(folder, row.name)  # what an older manifest says is not true of the file that comes now
            _replace(unverified, path)
            paths[row.name] = path
            entry = {
                "file": row.file_name,
                "runtime": row.runtime,
                "size_bytes": size_bytes(path),
                "sha256": file_sha256(path),
                "verification": reports[row.name].as_dict(),
                **origin,
            }
            record(folder, row.name, entry)
        except (KerasResnetError, OSError) as error:
            failures.append(error)
    if failures:
        kind = VerificationError if all(isinstance(error, VerificationError) for error in failures) else ExportError
        raise kind("\n".join(str(error) for error in failures))
    return ExportReport(folder, paths, reports, folder / FILE_NAME)


def require_converters(rows: Iterable[Format]) -> None:
    """Raises `MissingDependencyError` if a package that these formats need is not installed."""
    for row in rows:
        for module in row.modules:
            require(module, str(row.extra))


def _rows(formats: Sequence[str], folder: Path, calibration: Any, overwrite: bool) -> list[Format]:
    """Checks what can be checked before the work starts."""
    if isinstance(formats, str) or not formats:
        raise ExportError(f"`formats` must be a non-empty list of names. Received: formats={formats!r}")
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"export needs the TensorFlow backend. Received: KERAS_BACKEND={keras.backend.backend()}. Save the model "
            "as a .keras file and export that with KERAS_BACKEND=tensorflow"
        )
    rows = [format_named(name) for name in dict.fromkeys(formats)]
    require_converters(rows)
    uncalibrated = [row.name for row in rows if row.quantized and calibration is None]
    if uncalibrated:
        raise ExportError(f"`calibration` must give images for {', '.join(uncalibrated)}. Received: calibration=None")
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"`folder` must be a folder, or not exist yet. Received: {folder}, which is a file")
    read_manifest(folder)  # one that can't be added to is an error now, not after the work
    existing = [str(folder / row.file_name) for row in rows if (folder / row.file_name).exists()]
    if existing and not overwrite:
        raise ExportError(f"{', '.join(existing)} exists already: give another folder or overwrite=True (--overwrite)")
    return rows


def _labels(labels: Sequence[str] | None, model: keras.Model) -> list[str] | None:
    classes = model.outputs[0].shape[-1]
    if labels is None:
        return [name for _, name in imagenet_labels()] if classes == 1000 else None
    if len(labels) != classes:
        raise ExportError(f"`labels` must name the model's {classes} classes. Received: {len(labels)} labels")
    return list(labels)


def _write(row: Format, model: keras.Model, path: Path, calibration: np.ndarray | None) -> None:
    """Imports the one converter that is asked for: each brings packages that the others do without."""
    module, _, function = row.writer.partition(":")
    write = getattr(importlib.import_module(f"keras_resnet.export.{module}"), function)
    try:
        with quiet_stderr():
            write(model, path, *([calibration] if row.quantized else []))
    except KerasResnetError:
        raise
    except Exception as error:  # each converter has exceptions of its own, some derived from Exception alone
        raise ExportError(f"{row.name} can't be written: {type(error).__name__}: {error}") from error


def examine_artifact(
    path: Path, model: keras.Model, *, images: str | os.PathLike[str] | None, contract: InputContract
) -> Report:
    """Artifact, its source model, image files -> report, in which checks may have failed."""
    row = format_of(path)
    if row.quantized and images is None:
        raise ExportError(f"{path}: an integer artifact is verified on real images only: give --images FOLDER")
    prepared = prepare(model, contract)
    shape = prepared.inputs[0].shape[1:]
    real = None if images is None else read_images(images, contract, shape)
    return examine(path, row, ask(prepared, comparison_images(shape, real, row.quantized)))


def _replace(unverified: Path, path: Path) -> None:
    """Gives the artifact its name; a folder in the way is moved aside first, since only a file can be replaced."""
    aside = path.with_name(path.name + ".replaced")
    _remove(aside)  # of a run that was killed half-way
    if path.is_dir():
        os.replace(path, aside)
    os.replace(unverified, path)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
