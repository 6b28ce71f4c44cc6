"""Content of a request -> the images in it, each as an encoded file or as pixels."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.answers import IMAGE, IMAGE_BYTES
from keras_resnet.errors import RequestError

MOST_IMAGES = 64  # in one request: some thousand images of one pixel would fit into a body

GivenImage = bytes | np.ndarray


def images_of_instances(content: Any) -> list[GivenImage]:
    """JSON of protocol V1, `{"instances": [{"b64": text} or pixels [H, W, 3], ...]}` -> images.

    Raises:
        RequestError: The content has another form.
    """
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list):
        raise RequestError(
            'the body must be JSON of the form {"instances": [{"b64": "..."}]}, with the content type application/json'
        )
    _check_count(len(instances))
    return [_image_of(instance, f"instance {place}") for place, instance in enumerate(instances)]


def images_of_tensors(tensors: Sequence[Any]) -> list[GivenImage]:
    """Inputs of the Open Inference Protocol (`kserve.InferInput`) -> images.

    There must be one: `image_bytes`, BYTES `[N]` of images in base64, or `image`, UINT8 or FP32 `[N, H, W, 3]`.

    Raises:
        RequestError: The inputs are others, or their data don't fit their shape.
    """
    if [tensor.name for tensor in tensors] not in ([IMAGE_BYTES], [IMAGE]):
        names = ", ".join(str(tensor.name)[:50] for tensor in tensors[:5])
        raise RequestError(f"`inputs` must hold one input, {IMAGE_BYTES} or {IMAGE}. Received: {names or 'none'}")
    [tensor] = tensors
    allowed = ("BYTES",) if tensor.name == IMAGE_BYTES else ("UINT8", "FP32")
    if tensor.datatype not in allowed:
        raise RequestError(
            f"the input {tensor.name} must have the datatype {' or '.join(allowed)}. Received: "
            f"{str(tensor.datatype)[:50]}"
        )
    try:
        values = tensor.as_numpy()
    except Exception as error:  # NumPy raises ValueError, TypeError, OverflowError and others on a client's numbers
        raise RequestError(
            f"the data of the input {tensor.name} do not fit its datatype and shape. Received: {tensor.datatype} "
            f"{str(tensor.shape)[:100]}"
        ) from error
    if tensor.name == IMAGE_BYTES:
        _check_count(values.size)
        return [_decoded(text, f"element {place}") for place, text in enumerate(values.reshape(-1).tolist())]
    if values.ndim != 4:
        raise RequestError(f"the input {IMAGE} must have the shape [N, H, W, 3]. Received: {list(values.shape)}")
    _check_count(len(values))
    return [_pixels_of(pixels, f"image {place}") for place, pixels in enumerate(values)]


def _check_count(count: int) -> None:
    if not 1 <= count <= MOST_IMAGES:
        raise RequestError(f"a request must hold 1 to {MOST_IMAGES} images. Received: {count}")


def _image_of(instance: Any, place: str) -> GivenImage:
    if isinstance(instance, dict) and set(instance) == {"b64"}:
        return _decoded(instance["b64"], place)
    if isinstance(instance, list):
        try:
            pixels = np.array(instance)
        except (ValueError, OverflowError) as error:  # the rows have different lengths, or a number is too large
            raise RequestError(f"{place}: the pixels must be one array [H, W, 3] of numbers 0..255") from error
        return _pixels_of(pixels, place)
    raise RequestError(
        f'{place} must be {{"b64": "..."}}, which is an image file in base64, or pixels [H, W, 3] as nested lists'
    )


def _decoded(text: Any, place: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:  # no text, not ASCII, no base64
        raise RequestError(f"{place}: an image file must be given as text in base64, without line breaks") from error


def _pixels_of(values: np.ndarray, place: str) -> np.ndarray:
    """Numbers of a client `[H, W, 3]` -> pixels uint8."""
    if values.ndim != 3 or values.shape[2] != 3 or min(values.shape) < 1 or values.dtype.kind not in "uif":
        raise RequestError(
            f"{place}: pixels must be numbers [H, W, 3]. Received: {values.dtype} {list(values.shape)[:8]}"
        )
    pixels = np.clip(np.nan_to_num(values, nan=-1), 0, 255).astype(np.uint8)
    if not np.array_equal(pixels, values):
        raise RequestError(f"{place}: pixels must be whole numbers 0..255, in the order red, green, blue")
    return pixels
