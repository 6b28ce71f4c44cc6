"""Checks of a page on image files: its pixels, its answers in the user's words, and what it asks other machines for.

The pixels must be equal to this package's, bit by bit. The answers are compared with what prediction computes from the
outputs that the page's own network gives for these pixels.
"""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from keras_resnet.answers import BOXES, MASK, MASKS, Answer
from keras_resnet.export.browser import BrowserPage
from keras_resnet.export.images import synthetic_images
from keras_resnet.preprocessing import decode_image, load_image
from keras_resnet.tasks.base import Asked, Check, ReadFile, Task
from keras_resnet.variants import Contract

MOST_SHOWN = 3
PIXEL_AGREEMENT_PERCENT = 99.9  # classes of some pixels are nearly tied
_OBJECT = ("predicted", "predicted_index", "score", "xmin", "ymin", "xmax", "ymax")

# Height and width in units of the network's side, how the picture is written, and how Pillow is told.
_FILES: Mapping[str, tuple[float, float, str, dict[str, Any]]] = {
    "large JPEG": (3.1, 2.3, "JPEG", {"quality": 95, "subsampling": 0}),
    "progressive JPEG, turned": (1.3, 1.9, "JPEG", {"progressive": True, "subsampling": 2, "exif": 6}),
    "small JPEG, mirrored and turned": (0.6, 0.9, "JPEG", {"exif": 7}),
    "grey JPEG": (1.1, 1.7, "JPEG", {"mode": "L"}),
    "PNG": (1.2, 1.2, "PNG", {}),
    "PNG with a palette": (1.4, 0.9, "PNG", {"mode": "P"}),
    "transparent PNG": (1.1, 1.5, "PNG", {"mode": "RGBA"}),
    "lossless WebP": (0.8, 1.6, "WEBP", {"lossless": True}),
    "GIF": (1.3, 1.1, "GIF", {"mode": "P"}),
    "BMP": (1.0, 1.0, "BMP", {}),
}


def page_checks(
    page: BrowserPage, task: Task, facts: Mapping[str, Any], classes: int, names: Any, contract: Contract
) -> Iterator[Check]:
    """Opened page, the task of its network, facts that only the task knows, number of classes, names, contract ->
    checks.
    """
    files = picture_files(*(side or 1 for side in contract.sides))
    pixels = {kind: page.pixels_of(file) for kind, file in files.items()}
    wrong = [f"{kind}: {text}" for kind in files if (text := _wrong_pixels(pixels[kind], files[kind], contract))]
    yield _check("pixels of image files", len(files), wrong, "equal to this package's")
    asked = Asked("", page.run, contract, names, classes, facts)
    wrong = [f"{kind}: {text}" for kind in files if (text := _wrong_answer(page, task, asked, files[kind]))]
    yield _check("answers to image files", len(files), wrong, "as `predict` computes them")
    outside = [address for address in page.requests if not address.startswith((page.address, "blob:", "data:"))]
    measured = ", ".join(outside[:MOST_SHOWN]) or f"{len(page.requests)} requests to its own server"
    yield Check("requests", measured, "none to other machines", not outside)


def picture_files(height: int, width: int) -> dict[str, bytes]:
    """Size of a network's image -> encoded pictures that are smaller and larger, wide and high, by their kind."""
    return {
        kind: _encoded((max(8, round(down * height)), max(8, round(across * width))), seed, form, dict(options))
        for seed, (kind, (down, across, form, options)) in enumerate(_FILES.items())
    }


def _encoded(size: tuple[int, int], seed: int, form: str, options: dict[str, Any]) -> bytes:
    [pixels] = synthetic_images((*size, 3), count=1, seed=seed)
    picture, mode, stream = Image.fromarray(pixels), options.pop("mode", "RGB"), io.BytesIO()
    if mode == "RGBA":
        alpha = np.linspace(0, 255, size[0] * size[1]).reshape(size).astype("uint8")
        picture.putalpha(Image.fromarray(alpha))
    elif mode == "P":
        picture = picture.quantize(64)
    else:
        picture = picture.convert(mode)
    if "exif" in options:
        exif = Image.Exif()
        exif[0x0112] = options["exif"]  # the orientation
        options["exif"] = exif
    picture.save(stream, form, **options)
    return stream.getvalue()


def _check(name: str, count: int, wrong: list[str], required: str) -> Check:
    more = f" and {len(wrong) - MOST_SHOWN} more" if len(wrong) > MOST_SHOWN else ""
    return Check(name, ("; ".join(wrong[:MOST_SHOWN]) + more) or f"{count} files alike", required, not wrong)


def _wrong_pixels(received: np.ndarray, file: bytes, contract: Contract) -> str | None:
    expected = load_image(file, contract).ravel()
    if received.shape != expected.shape:
        return f"{received.size} values, not {expected.size}"
    error = np.abs(received.astype(int) - expected)
    return f"{np.count_nonzero(error)} values differ, by up to {error.max()}" if error.any() else None


def _wrong_answer(page: BrowserPage, task: Task, asked: Asked, file: bytes) -> str | None:
    """Compares with the cells that `predict` gives for this file."""
    shown = {key: value for key, value in page.answer_to(file)["answer"].items()}
    options, row_options = task.read_options(dict.fromkeys(task.options("predict")))
    pixels = task.prepare(decode_image(file), asked.contract)
    [answer] = task.answers(asked, [pixels], **options)
    # Masks are drawn by the page, and need pycocotools here.
    kept: Answer = {name: values for name, values in answer.items() if name != MASKS}
    rows = task.rows(asked, ReadFile(0, "", pixels), kept, None, row_options)
    if BOXES in kept:
        expected = {key: [row[key] for row in rows if "score" in row] for key in _OBJECT}
        shown = {key: [each[key] for each in shown["objects"]] for key in _OBJECT}
    else:
        [expected] = map(dict, rows)
    if MASK in kept:
        mask = shown.pop(MASK)
        found = mask["classes"].reshape(mask["height"], mask["width"])
        if found.shape != kept[MASK].shape:
            return f"a mask of {found.shape}, not {kept[MASK].shape}"
        agreement = 100 * float(np.mean(found == kept[MASK]))
        if agreement < PIXEL_AGREEMENT_PERCENT:
            return f"a mask with {agreement:.2f} % equal pixels"
    if set(shown) != set(expected):
        return f"{', '.join(sorted(shown))}, not {', '.join(sorted(expected))}"
    wrong = [key for key, values in expected.items() if not _alike(shown[key], values, key)]
    return f"other {', '.join(wrong)}" if wrong else None


def _alike(received: list[Any], expected: list[Any], key: str) -> bool:
    if len(received) != len(expected):
        return False
    if not expected or isinstance(expected[0], (str, int)):
        return received == expected
    least = 100 - PIXEL_AGREEMENT_PERCENT if key == "pixels_percent" else 1e-5 * max(1.0, *map(abs, expected))
    return bool(np.allclose(received, expected, rtol=1e-5, atol=least))
