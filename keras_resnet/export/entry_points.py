"""Checks of all ways into an artifact: every signature of a SavedModel, and both ways of running a TFLite file."""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import keras
import numpy as np
from PIL import Image

from keras_resnet import inference
from keras_resnet.answers import (
    DEFAULT_SIGNATURE,
    FILES_SIGNATURE,
    IMAGE,
    IMAGE_BYTES,
    PIXELS_SIGNATURE,
    PROBABILITIES,
    Answer,
)
from keras_resnet.errors import ExportError
from keras_resnet.export.fold import fold
from keras_resnet.export.formats import BROWSER, Format
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.page_checks import page_checks
from keras_resnet.export.runtimes import Runtime, runtime_errors
from keras_resnet.facts import facts_of
from keras_resnet.tasks import checked_task_of
from keras_resnet.tasks.base import Asked, Check, Task
from keras_resnet.variants import Contract, InputContract, WholeImage

FEATURES_ERROR = 1e-4  # largest error of a feature map / its largest value; deep features add up more rounding
FEW_IMAGES = 4


def entry_point_checks(
    runtime: Runtime,
    format: Format,
    model: keras.Model,
    images: np.ndarray,
    class_names: Sequence[str] | None,
    contract: Contract | None,
    own: bool,
) -> Iterator[Check]:
    """Opened artifact, its format, prepared model, pixels, the model's class names and contract, whether this package
    wrote the file -> checks of the ways into it besides `Runtime.run`.
    """
    images = images[:FEW_IMAGES]
    if format.runtime == "LiteRT":
        yield from _tflite_checks(runtime, format, images)
    elif format.runtime == "TensorFlow" and own:
        yield from _savedmodel_checks(runtime, format, model, images, class_names, contract)
    elif format.runtime == BROWSER and contract is not None:
        yield from _page_checks(runtime, model, class_names, contract)


def _tflite_checks(runtime: Any, format: Format, images: np.ndarray) -> Iterator[Check]:
    """A program may call the signature, or set the first input and read the outputs in order: both must agree."""
    names = runtime.signatures
    yield Check("signatures", ", ".join(names) or "none", DEFAULT_SIGNATURE, names == [DEFAULT_SIGNATURE])
    required = "the answers of serving_default"
    by_name = runtime.run(images[:1])
    in_order = {output.name: by_name[output.name] for output in format.outputs}
    for name, way, expected in (
        ("by signature", runtime.run_signature, by_name),
        ("by first tensors", runtime.run_tensors, in_order),
    ):
        yield _guarded(name, partial(_other_answers, way, images[:1], _bytes_of(expected)), required)


def _page_checks(
    runtime: Any, model: keras.Model, class_names: Sequence[str] | None, contract: Contract
) -> Iterator[Check]:
    task = checked_task_of(model)
    try:
        with runtime_errors():
            yield from page_checks(
                runtime.page, task, facts_of(model).task_facts, task.classes_of(model), class_names, contract
            )
    except ExportError as error:
        yield Check("page", str(error), "answers to image files", False)


# --- SavedModel ---------------------------------------------------------------------------------------------------


def _savedmodel_checks(
    runtime: Any,
    format: Format,
    model: keras.Model,
    images: np.ndarray,
    class_names: Sequence[str] | None,
    contract: Contract | None,
) -> Iterator[Check]:
    """Checks `features`, `serve_jpeg`, the function `serve`, and that there is no other signature.

    The signature for pixels is what `Runtime.run` calls, so that all other checks are about it.
    """
    from keras_resnet.export.to_savedmodel import feature_outputs, served_from_files

    task = checked_task_of(model)
    folded = fold(model)
    features = keras.Model(folded.inputs, feature_outputs(folded))
    signatures: dict[str, Callable[[], str | None]] = {"features": lambda: _wrong_features(runtime, features, images)}
    served = served_from_files(task, model, contract)
    files = {None: (), "pixels": (FILES_SIGNATURE,), "jpeg": (FILES_SIGNATURE, DEFAULT_SIGNATURE)}
    for name in files[format.default_signature if served else None]:
        ask = partial(runtime.call, name, IMAGE_BYTES)
        if served == "objects":
            signatures[name] = partial(_wrong_objects, ask, format, model, cast(WholeImage, contract), images)
        else:
            signatures[name] = partial(
                _wrong_image_files, ask, format, model, cast(InputContract, contract), class_names
            )
    pixels = DEFAULT_SIGNATURE if format.default_signature == "pixels" else PIXELS_SIGNATURE
    names, wanted = runtime.signatures, sorted([pixels, *signatures])
    yield Check("signatures", ", ".join(names), ", ".join(wanted), names == wanted)
    for name in names:
        if name in signatures:
            yield _guarded(name, signatures[name])
    yield _guarded("serve", lambda: _wrong_serve(runtime, format, task, images))


def _guarded(name: str, wrong: Callable[[], str | None], required: str = "the model's answers") -> Check:
    """Name of an entry point, function that yields what is wrong with it -> check."""
    try:
        with runtime_errors():
            found = wrong()
    except ExportError as error:
        found = str(error)
    return Check(name, found or "equal", required, found is None)


def _other_answers(way: Callable[[np.ndarray], Answer], images: np.ndarray, expected: list[bytes]) -> str | None:
    return None if _bytes_of(way(images)) == expected else "other answers"


def _bytes_of(answer: Answer) -> list[bytes]:
    return [values.tobytes() for values in answer.values()]


def _wrong_features(runtime: Any, features: keras.Model, images: np.ndarray) -> str | None:
    pixels = images.astype("float32")
    received = runtime.call("features", IMAGE, pixels)
    expected = {name: np.asarray(values) for name, values in features([pixels], training=False).items()}
    if set(received) != set(expected):
        return f"outputs {', '.join(sorted(received))}, not {', '.join(sorted(expected))}"
    wrong = [name for name, values in expected.items() if not _near(received[name], values, FEATURES_ERROR)]
    return f"other values in {', '.join(wrong)}" if wrong else None


def _wrong_image_files(
    ask: Callable[[list[bytes]], Answer],
    format: Format,
    model: keras.Model,
    contract: InputContract,
    class_names: Sequence[str] | None,
) -> str | None:
    from keras_resnet.export.encoded_images import decode
    from keras_resnet.export.to_savedmodel import TOP

    files = _image_files(contract)
    received = ask(files)
    pixels = np.stack([np.asarray(decode(file, contract)) for file in files])
    expected = inference.predict(model, pixels)
    if not _near(received[PROBABILITIES], expected, format.tolerance.relative_error or 0):
        return "other probabilities"
    count = min(TOP, expected.shape[1])
    order = np.argsort(-received[PROBABILITIES], axis=1, kind="stable")[:, :count]
    if not np.array_equal(received["indices"], order):
        return "indices that are not the most probable classes"
    if class_names is not None:
        names = np.array([str(name).encode() for name in class_names], dtype=object)
        if received["labels"].tolist() != names[order].tolist():
            return "labels that are not the names of the indices"
    return None


def _wrong_objects(
    ask: Callable[[list[bytes]], Answer], format: Format, model: keras.Model, contract: WholeImage, images: np.ndarray
) -> str | None:
    """Compares with what prediction, in NumPy, makes of the network's answers to the pixels of the files."""
    from keras_resnet.export.encoded_images import fit
    from keras_resnet.export.objects_in_files import in_rows

    task = checked_task_of(model)
    files = _files_of(images)
    received = ask(files)
    pixels, sizes = zip(*(map(np.asarray, fit(file, contract)) for file in files), strict=True)
    answer = inference.answer(model, np.stack(pixels))
    asked = Asked(model.name, lambda _: answer, contract, None, task.classes_of(model))
    expected = in_rows(task.answers(asked, [np.zeros((*size, 3), "uint8") for size in sizes]), answer)
    if set(received) != set(expected):
        return f"outputs {', '.join(sorted(received))}"
    return None if _alike(received, expected, format, task) else "other detections"


def _files_of(images: np.ndarray) -> list[bytes]:
    """Pixels `[N, H, W, 3]` -> JPEG and PNG files of parts of them, wide and high, larger and smaller."""
    height, width = images.shape[1:3]
    files = []
    for number, image in enumerate(images):
        part = image[: height * 3 // 5] if number % 2 else image[:, : width * 3 // 4]
        side = 2 if number % 3 == 0 else 1
        stream = io.BytesIO()
        picture = Image.fromarray(part.astype("uint8").repeat(side, axis=0).repeat(side, axis=1))
        picture.save(stream, "JPEG" if number % 2 else "PNG")
        files.append(stream.getvalue())
    return files


def _wrong_serve(runtime: Any, format: Format, task: Task, images: np.ndarray) -> str | None:
    expected = runtime.run(images)
    for dtype in ("float32", "uint8"):
        received = runtime.serve(images.astype(dtype))
        if set(received) != set(expected):
            return f"outputs {', '.join(sorted(received))} for pixels of type {dtype}"
        if not _alike(received, expected, format, task):
            return f"other answers to pixels of type {dtype}"
    return None


def _alike(received: Answer, expected: Answer, format: Format, task: Task) -> bool:
    """Answers of two ways into a file -> whether they differ at most by rounding."""
    by_task = task.compare(received, expected, format.tolerance)
    if by_task is not None:
        return all(check.passed for check in by_task.checks)
    return all(
        np.array_equal(received[name], values) or _near(received[name], values, 1e-6)
        for name, values in expected.items()
    )


def _image_files(contract: InputContract) -> list[bytes]:
    """-> JPEG and PNG files, higher or wider than the network's image, smaller and larger."""
    files = []
    for seed, (kind, down, across) in enumerate((("JPEG", 1.2, 2.1), ("PNG", 2.7, 1.4), ("JPEG", 0.7, 0.8))):
        size = max(8, round(contract.size * down)), max(8, round(contract.size * across))
        stream = io.BytesIO()
        Image.fromarray(synthetic_images((*size, 3), count=1, seed=seed)[0]).save(stream, kind)
        files.append(stream.getvalue())
    return files


def _near(received: np.ndarray, expected: np.ndarray, relative_error: float) -> bool:
    if received.shape != expected.shape:
        return False
    largest = float(np.abs(expected).max()) or 1.0
    return bool(np.abs(received.astype("float64") - expected).max() <= relative_error * largest)
