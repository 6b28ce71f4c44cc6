"""Images -> a network's answers, in the forms of both protocols."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, MASK, Answer
from keras_resnet.errors import RequestError
from keras_resnet.predictor import BATCH_SIZE, Predictor
from keras_resnet.serve.images import GivenImage

TOP = 5  # classes that are named in protocol V2, as in a SavedModel's signature `serve_jpeg`
IMAGE_INDICES = "image_indices"  # output that tells to which image of a request a box belongs
_FREE_AXES = {MASK: 3}  # axes that another image may change: also height and width


def predictions(predictor: Predictor, images: Sequence[GivenImage]) -> list[dict[str, Any]]:
    """Network, images -> a prediction of protocol V1 for each: the cells of `Predictor.rows` that are not empty.

    `mask` is a PNG file in base64.

    Raises:
        ImageError: An image can't be read.
    """
    return [_prediction(predictor, pixels, answer) for pixels, answer in _answered(predictor, images)]


def output_tensors(predictor: Predictor, images: Sequence[GivenImage]) -> dict[str, np.ndarray]:
    """Network, images -> outputs of the Open Inference Protocol by name; see `tensor_types`.

    Raises:
        ImageError: An image can't be read.
        RequestError: The masks of the images have different sizes.
    """
    answers = [answer for _, answer in _answered(predictor, images)]
    if BOXES in answers[0]:
        return _of_boxes(answers)
    if len({answer[MASK].shape for answer in answers if MASK in answer}) > 1:
        raise RequestError("the images of one request must have equal sizes, because their masks are one array")
    stacked = {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}
    [values] = stacked.values()
    if MASK in stacked or not predictor.task.bounded:
        return stacked
    indices = np.argsort(-values, axis=1, kind="stable")[:, :TOP].astype(np.int32)
    names = [[predictor.asked.name_of(index).encode() for index in row] for row in indices]
    return {**stacked, "indices": indices, "labels": np.array(names, dtype=object)}


def tensor_types(outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Outputs for one image -> their rows in the metadata of the Open Inference Protocol."""
    kinds = {"O": "BYTES", "f": "FP32", "u": "UINT8", "i": "INT32"}
    rows = []
    for name, values in outputs.items():
        free = _FREE_AXES.get(name, 1)
        shape = [-1] * free + list(values.shape[free:])
        rows.append({"name": name, "datatype": kinds[values.dtype.kind], "shape": shape})
    return rows


def _answered(predictor: Predictor, images: Sequence[GivenImage]) -> Iterator[tuple[np.ndarray, Answer]]:
    """Network, images -> each prepared image with its answer; no more images than a batch are decoded at once."""
    size = predictor.task.batch_size(predictor.contract, BATCH_SIZE)
    for start in range(0, len(images), size):
        batch = [predictor.read(image) for image in images[start : start + size]]
        yield from zip(batch, predictor.answers(batch), strict=True)


def _prediction(predictor: Predictor, pixels: np.ndarray, answer: Answer) -> dict[str, Any]:
    cells = {name: value for name, value in predictor.row(pixels, answer).items() if value is not None}
    if MASK in cells:
        cells[MASK] = base64.b64encode(cells[MASK]).decode("ascii")
    return cells


def _of_boxes(answers: Sequence[Answer]) -> dict[str, np.ndarray]:
    """Answers of a detector for some images -> the boxes of all images, and the index of the image of each."""
    counts = [len(answer[BOX_SCORES]) for answer in answers]
    joined = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    joined[LABELS] = joined[LABELS].astype(np.int32)
    return {**joined, IMAGE_INDICES: np.repeat(np.arange(len(answers), dtype=np.int32), counts)}
