"""Masks, which hold the class of each pixel: PNG files and arrays."""

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from keras_resnet.errors import ImageError
from keras_resnet.labels import VOID
from keras_resnet.preprocessing import read_pixels
from keras_resnet.variants import WholeImage


def decode_mask(encoded: bytes) -> np.ndarray:
    """Encoded PNG, TIFF or BMP -> labels, integers `[H, W]`, or colours uint8 `[H, W, 3]`: the file's own values.

    Raises:
        ImageError: It is no such file of labels or colours.
    """
    return read_pixels(encoded, ("PNG", "TIFF", "BMP"), _values)


def _values(image: Image.Image) -> np.ndarray:
    if image.mode == "1":
        return np.array(image).astype(np.uint8)
    if image.mode in ("L", "P", "I", "I;16"):
        return np.array(image)
    if image.mode in ("RGB", "RGBA"):
        return np.array(image.convert("RGB"))
    raise ImageError(
        f"its pixels have the mode {image.mode}; a mask must hold labels (a grey or palette PNG file) or colours "
        "(RGB). Save it again in one of these forms"
    )


def encode_mask(classes: np.ndarray) -> bytes:
    """Classes uint8 `[H, W]` -> PNG file of 8-bit grey, which `packed_legend` reads."""
    stream = io.BytesIO()
    Image.fromarray(classes).save(stream, "PNG")
    return stream.getvalue()


def fit_mask(mask: np.ndarray, contract: WholeImage) -> np.ndarray:
    """Classes uint8 `[H, W]` -> `[height, width]` of the contract, by the nearest pixel; free pixels are void."""
    if contract.height is None or contract.width is None:
        return mask
    from keras_resnet.data.crop import nearest_places  # here, since that module imports TensorFlow

    area = contract.area_of(*mask.shape)
    rows, columns = (nearest_places(n, of) for n, of in zip(area, mask.shape, strict=True))
    fitted = np.full((contract.height, contract.width), VOID, np.uint8)
    fitted[: area[0], : area[1]] = mask[rows[:, None], columns]
    return fitted


def count_labels(values: np.ndarray) -> np.ndarray:
    """Labels of a mask int `[H, W]` -> number of pixels of each label, int64 `[256]`; labels above 255 count as 255."""
    return np.bincount(np.minimum(values, VOID).ravel(), minlength=256)


def of_each(made: Callable[[int], np.ndarray], count: int) -> Iterable[np.ndarray]:
    """Function of an index that may raise ImageError, number of indices -> its results for all readable indices."""

    def made_or_nothing(index: int) -> np.ndarray | None:
        try:
            return made(index)
        except ImageError:  # the pipeline reports it
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from (result for result in pool.map(made_or_nothing, range(count)) if result is not None)
