"""The true effect of a fault: how many real images an artifact names rightly, as one of its readers asks it."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.answers import IMAGE, PROBABILITIES
from keras_resnet.export.artifact import Artifact, open_artifact
from keras_resnet.export.runtimes import predict, quantized_values, real_values
from keras_resnet.preprocessing import apply_contract

BATCH = 100  # images at a time for a TFLite file, which is resized


@dataclass
class Labelled:
    """Real images with the names of what they show."""

    images: list[np.ndarray]  # uint8 [H, W, 3]
    names: list[str]
    encoded: list[bytes]
    _prepared: dict[Any, np.ndarray] = field(default_factory=dict)

    def pixels(self, contract: Any) -> np.ndarray:
        if contract not in self._prepared:
            self._prepared[contract] = np.stack([apply_contract(contract, image) for image in self.images])
        return self._prepared[contract]

    def first(self, count: int) -> "Labelled":
        return Labelled(self.images[:count], self.names[:count], self.encoded[:count])


class Seen(NamedTuple):
    """What a reader of the artifact gets."""

    top1_percent: float
    answers: Any  # [N, classes], or all arrays flattened
    decided: list[str]


def _named(predictions: np.ndarray, names: list[str] | None, labelled: Labelled) -> Seen:
    finite = np.where(np.isfinite(predictions), predictions, -np.inf)
    top = finite.reshape(len(finite), -1).argmax(1)
    unknown = ~np.isfinite(predictions.reshape(len(finite), -1)).all(1)
    decided = [
        "not finite" if bad else names[i] if names and i < len(names) else f"class {i}"
        for i, bad in zip(top, unknown, strict=True)
    ]
    right = float(np.mean([a == b for a, b in zip(decided, labelled.names, strict=True)]))
    return Seen(100 * right, predictions, decided)


def _asked(artifact: Artifact, labelled: Labelled) -> np.ndarray:
    pixels = labelled.pixels(artifact.contract)
    if artifact.format.any_batch:
        return artifact.predict(pixels)[PROBABILITIES]
    try:
        return predict(artifact.runtime, pixels, BATCH)[PROBABILITIES]
    except Exception:  # noqa: BLE001  a file that can't be resized
        return artifact.predict(pixels)[PROBABILITIES]


def by_predictor(path: Path, labelled: Labelled) -> Seen:
    artifact = open_artifact(path, threads=1)
    if artifact.task.name != "classify":
        raise ValueError(f"another task: {artifact.task.name}")
    return _named(_asked(artifact, labelled), artifact.class_names, labelled)


def by_labels_file(path: Path, labelled: Labelled) -> Seen:
    artifact = open_artifact(path, threads=1)
    if path.is_dir():
        text = (path / "assets" / "labels.txt").read_text()
    else:
        with zipfile.ZipFile(path) as archive:
            text = archive.read("labels.txt").decode()
    return _named(_asked(artifact, labelled), text.splitlines(), labelled)


def by_labels_property(path: Path, labelled: Labelled) -> Seen:
    import onnx

    artifact = open_artifact(path, threads=1)
    [text] = [entry.value for entry in onnx.load(str(path)).metadata_props if entry.key == "labels"]
    return _named(_asked(artifact, labelled), json.loads(text), labelled)


def by_manifest(path: Path, labelled: Labelled) -> Seen:
    artifact = open_artifact(path, threads=1)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    [entry] = [e for e in manifest["artifacts"].values() if e["file"] == path.name]
    return _named(_asked(artifact, labelled), entry["description"]["labels"], labelled)


def by_subgraph(path: Path, labelled: Labelled) -> Seen:
    """As most programs read a TFLite file: the first input and the first output of the interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    artifact = open_artifact(path, threads=1)
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    given = interpreter.get_input_details()[0]
    pixels, answers = labelled.pixels(artifact.contract), []
    for start in range(0, len(pixels), BATCH):
        batch = pixels[start : start + BATCH]
        interpreter.resize_tensor_input(given["index"], batch.shape, strict=False)
        interpreter.allocate_tensors()
        if given["dtype"] == np.uint8:  # bytes of the picture, as such programs give them
            interpreter.set_tensor(given["index"], batch)
        else:
            interpreter.set_tensor(given["index"], quantized_values(batch, given))
        interpreter.invoke()
        details = interpreter.get_output_details()[0]
        answers.append(real_values(interpreter.get_tensor(details["index"]), details))
    return _named(np.concatenate(answers), artifact.class_names, labelled)


def by_signature_runner(path: Path, labelled: Labelled) -> Seen:
    """As programs that ask LiteRT for `serving_default` read a TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    from keras_resnet.export.runtimes import format_and_description

    _, description = format_and_description(path)
    assert description is not None
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")
    given, made = runner.get_input_details()[IMAGE], runner.get_output_details()[PROBABILITIES]
    from keras_resnet.variants import InputContract

    told = description["input"]
    pixels = labelled.pixels(InputContract(told["centre_crop"], told["resize_short_side"], told["interpolation"]))
    answers = [
        real_values(runner(**{IMAGE: quantized_values(p[None], given)})[PROBABILITIES], made) for p in pixels[:200]
    ]
    part = labelled.first(200)
    return _named(np.concatenate(answers), description["labels"], part)


def _loaded(artifact: Artifact) -> Any:
    """-> the module that the runtime has opened, since opening it again takes seconds."""
    return artifact.runtime._module  # type: ignore[attr-defined]


def by_serve_jpeg(path: Path, labelled: Labelled) -> Seen:
    """The worst of what `serve_jpeg` gives: its labels, its indices, its probabilities."""
    artifact = open_artifact(path, threads=1)
    serve = _loaded(artifact).signatures["serve_jpeg"]
    seen = []
    import tensorflow as tf

    for start in range(0, len(labelled.encoded), BATCH):
        answer = serve(image_bytes=tf.constant(labelled.encoded[start : start + BATCH]))
        seen.append({name: values.numpy() for name, values in answer.items()})
    answer = {name: np.concatenate([part[name] for part in seen]) for name in seen[0]}
    names = artifact.class_names or []
    ways = [_named(answer[PROBABILITIES], names, labelled)]
    for decided in ([text.decode() for text in answer["labels"][:, 0]], [names[i] for i in answer["indices"][:, 0]]):
        right = float(np.mean([a == b for a, b in zip(decided, labelled.names, strict=True)]))
        ways.append(Seen(100 * right, answer[PROBABILITIES], decided))
    return min(ways, key=lambda way: way.top1_percent)


def by_serve(path: Path, labelled: Labelled) -> Seen:
    import tensorflow as tf

    artifact = open_artifact(path, threads=1)
    module, answers = _loaded(artifact), []
    pixels = labelled.pixels(artifact.contract)
    for start in range(0, len(pixels), BATCH):
        answers.append(module.serve(tf.constant(pixels[start : start + BATCH]))[PROBABILITIES].numpy())
    return _named(np.concatenate(answers), artifact.class_names, labelled)


def by_features(path: Path, labelled: Labelled) -> Seen:
    """All levels; there is no top-1, so that the caller compares the arrays."""
    import tensorflow as tf

    artifact = open_artifact(path, threads=1)
    pixels = labelled.pixels(artifact.contract)[:20].astype("float32")
    answer = _loaded(artifact).signatures["features"](image=tf.constant(pixels))
    flat = [f"{name} {tuple(answer[name].shape)}" for name in sorted(answer)]
    values = np.concatenate([answer[name].numpy().reshape(len(pixels), -1) for name in sorted(answer)], axis=1)
    return Seen(100.0, values, flat)


READERS: dict[str, Callable[[Path, Labelled], Seen]] = {
    "predictor": by_predictor,
    "labels file": by_labels_file,
    "labels property": by_labels_property,
    "manifest": by_manifest,
    "subgraph": by_subgraph,
    "signature": by_signature_runner,
    "serve_jpeg": by_serve_jpeg,
    "serve": by_serve,
    "features": by_features,
    "description": by_predictor,  # a fact that no reader of this package acts on
}


def read_labelled(folder: Path, count: int) -> Labelled:
    """Class folders -> images, as many of each class."""
    from keras_resnet.preprocessing import decode_image, list_images

    by_class = {child.name: list_images([child]) for child in sorted(folder.iterdir()) if child.is_dir()}
    each = -(-count // len(by_class))
    paths = [path for files in zip(*(files[:each] for files in by_class.values()), strict=False) for path in files]
    encoded = [path.read_bytes() for path in paths[:count]]
    return Labelled([decode_image(content) for content in encoded], [p.parent.name for p in paths[:count]], encoded)


def as_png(image: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
