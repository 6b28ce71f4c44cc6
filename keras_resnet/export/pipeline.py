"""The way of one export: prepare, write under a temporary name, verify, rename, record."""

import importlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.errors import ExportError, KerasResnetError, VerificationError
from keras_resnet.export.formats import UNVERIFIED, Format, format_named, format_of
from keras_resnet.export.manifest import FILE_NAME, file_sha256, provenance, read_manifest, size_bytes, write_manifest
from keras_resnet.export.prepare import check_prepared, prepare
from keras_resnet.export.verify import Report, examine, reference, synthetic_images, verify
from keras_resnet.labels import imagenet_labels
from keras_resnet.preprocessing import list_images, load_images
from keras_resnet.quiet import quiet_stderr
from keras_resnet.variants import InputContract

MINIMUM_CALIBRATION_IMAGES = 32


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
    progress: Callable[[str], None] = lambda step: None,
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
            `[N, H, W, C]`. They also serve the verification, which else uses synthetic pictures.
        labels: Names of the classes, in order. Default: ImageNet's for 1000 classes.
        contract: How image files become pixels. Default: centre crop of the model's input size, or of 224.
        overwrite: Whether artifacts of the same name in the folder are replaced.
        progress: Called with a line of text at each step.

    Raises:
        ExportError: The model or an argument does not allow the export, or a converter failed.
        VerificationError: An artifact is not equal to its model.
    """
    folder = Path(folder)
    rows = _rows(formats, folder, calibration, overwrite)
    progress("prepare")
    prepared = prepare(_with_fixed_size(model, contract))
    height, width, channels = prepared.inputs[0].shape[1:]
    contract = contract or InputContract.for_size(height)
    if (height, width) != (contract.size, contract.size) and calibration is not None and not _is_array(calibration):
        raise ExportError(
            f"`contract` must have the model's input size. Received: a crop of {contract.size} for {height}x{width}"
        )
    calibration_images = None if calibration is None else _calibration_images(calibration, contract, prepared)
    class_labels = _labels(labels, prepared)
    images = synthetic_images((height, width, channels)) if calibration_images is None else calibration_images
    check_prepared(model, prepared, images[:4])
    expected = reference(prepared, images)

    folder.mkdir(parents=True, exist_ok=True)
    origin = {
        **provenance(model),
        "labels": class_labels,
        "input": {
            "size": [height, width, channels],
            "range": [0, 255],
            "colour_order": "RGB" if channels == 3 else None,
            "resize_short_side": contract.resize,
            "centre_crop": contract.size,
            "interpolation": contract.interpolation,
        },
        "calibration_images": None if calibration_images is None else len(calibration_images),
    }
    paths, reports, failures = {}, {}, []
    for row in rows:
        path, unverified = folder / row.file_name, folder / (row.file_name + UNVERIFIED)
        try:
            _remove(unverified)
            progress(f"write {row.name}")
            _write(row, prepared, unverified, calibration_images)
            progress(f"verify {row.name}")
            reports[row.name] = verify(unverified, row, expected)
        except ExportError as error:
            failures.append(error)
            continue
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
        write_manifest(folder, row.name, entry)
    if failures:
        kind = VerificationError if all(isinstance(error, VerificationError) for error in failures) else ExportError
        raise kind("\n".join(str(error) for error in failures))
    return ExportReport(folder, paths, reports, folder / FILE_NAME)


def _rows(formats: Sequence[str], folder: Path, calibration: Any, overwrite: bool) -> list[Format]:
    """Checks what can be checked before the work starts."""
    if isinstance(formats, str) or not formats:
        raise ExportError(f"`formats` must be a non-empty list of names. Received: formats={formats!r}")
    rows = [format_named(name) for name in dict.fromkeys(formats)]
    uncalibrated = [row.name for row in rows if row.quantized and calibration is None]
    if uncalibrated:
        raise ExportError(f"`calibration` must give images for {', '.join(uncalibrated)}. Received: calibration=None")
    read_manifest(folder)  # one that can't be added to is an error now, not after the work
    existing = [str(folder / row.file_name) for row in rows if (folder / row.file_name).exists()]
    if existing and not overwrite:
        raise ExportError(f"{', '.join(existing)} exists already: give another folder or overwrite=True (--overwrite)")
    return rows


def _with_fixed_size(model: keras.Model, contract: InputContract | None) -> keras.Model:
    """Model whose height and width may be free -> the same with the contract's size."""
    if not isinstance(model, keras.Model) or not model.inputs or None not in model.inputs[0].shape[1:]:
        return model
    size = (contract or InputContract()).size
    image = keras.Input((size, size, model.inputs[0].shape[-1]), name="image")
    fixed = keras.models.clone_model(model, input_tensors=image)
    fixed.set_weights(model.get_weights())
    return fixed


def _is_array(calibration: Any) -> bool:
    return isinstance(calibration, np.ndarray)


def _calibration_images(calibration: Any, contract: InputContract, model: keras.Model) -> np.ndarray:
    """Folder, glob or array -> pixels uint8 `[N, H, W, C]`."""
    images = calibration if _is_array(calibration) else load_images(list_images([calibration]), contract)
    if images.dtype != np.uint8 or images.shape[1:] != tuple(model.inputs[0].shape[1:]):
        raise ExportError(
            f"`calibration` must be uint8 pixels [N, {', '.join(map(str, model.inputs[0].shape[1:]))}]. "
            f"Received: {images.dtype} {list(images.shape)}"
        )
    if len(images) < MINIMUM_CALIBRATION_IMAGES:
        raise ExportError(
            f"`calibration` must have at least {MINIMUM_CALIBRATION_IMAGES} images. Received: {len(images)}"
        )
    return images


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
    prepared = prepare(_with_fixed_size(model, contract))
    pixels = (
        synthetic_images(prepared.inputs[0].shape[1:])
        if images is None
        else load_images(list_images([images]), contract)
    )
    return examine(path, row, reference(prepared, pixels))


def _replace(unverified: Path, path: Path) -> None:
    """Gives the artifact its name; a folder in the way is moved aside first, since only a file can be replaced."""
    if path.is_dir():
        aside = path.with_name(path.name + ".replaced")
        _remove(aside)
        os.replace(path, aside)
        os.replace(unverified, path)
        _remove(aside)
    else:
        os.replace(unverified, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
