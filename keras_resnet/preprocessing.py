"""The input contract: decode, resize, crop, normalise."""

import functools
import glob
import io
import os
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_resnet import layer_names
from keras_resnet.errors import ArgumentError, ImageError, ImageTooLargeError
from keras_resnet.image_files import (
    has_image_suffix,
    image_kind,
    is_hidden,
    kind_of_bytes,
    no_heic,
    readable_formats,
)
from keras_resnet.limits import MOST_PIXELS, PIXELS_VARIABLE, most_pixels
from keras_resnet.regular_files import open_regular, read_regular
from keras_resnet.variants import IMAGENET, Contract, InputContract, WholeImage
from keras_resnet.whole_images import BYTES_PER_PIXEL, hold, whole_image

# Per-channel mean and standard deviation of ImageNet's training pixels, scaled to 0..1, in RGB order.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MEAN_COLOUR = (124, 116, 104)  # the mean in 0..255, which becomes zero when normalised

IMAGENET_CONTRACT = IMAGENET.contract

STRIP_PIXELS = 1 << 20  # pixels of a large image that are converted at a time

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}  # both filters antialias

_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {  # EXIF orientation -> operation that turns the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRANSPOSED = (5, 6, 7, 8)  # orientations that exchange height and width


def list_images(patterns: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files, folders and globs -> paths in the order given; a folder yields its images at any depth, sorted.

    A glob is expanded as a shell would; a file is taken whatever its suffix, in a folder
    an image by suffix or by content that is not hidden. HEIC files are listed, too, so that whoever reads them without
    pillow-heif is told what to install.

    Raises:
        ImageError: A pattern matches nothing.
    """
    paths: list[Path] = []
    for pattern in patterns:
        matches = [pattern] if os.path.exists(pattern) else sorted(glob.glob(os.fspath(pattern), recursive=True))
        if not matches:
            raise ImageError(f"{pattern}: no such file or folder, and no file matches this glob")
        files = [path for match in matches for path in _files(Path(match))]
        if not files:
            raise ImageError(f"{pattern}: no image in this folder")
        paths += files
    return paths


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = []
    for parent, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not is_hidden(name)]
        inside = [Path(parent, name) for name in files if not is_hidden(name)]
        found += [file for file in inside if (has_image_suffix(file.name) or image_kind(file)) and file.is_file()]
    return sorted(found)


def load_images(paths: Iterable[str | os.PathLike[str]], contract: Contract = IMAGENET_CONTRACT) -> np.ndarray:
    """Image files -> uint8 RGB `[N, size, size, 3]`, or `[N, height, width, 3]` for a `WholeImage`; see `load_image`.

    Raises:
        ImageError: Some files can't be read; the message lists each with its reason.
        ValueError: There are no paths.
    """
    images, failures = [], []
    for path in paths:
        try:
            images.append(load_image(path, contract))
        except ImageError as error:
            failures.append(str(error))
    if failures:
        raise ImageError(
            f"{len(failures)} of {len(failures) + len(images)} images failed:", *(f"  {line}" for line in failures)
        )
    if not images:
        raise ValueError("`paths` must name at least one image. Received: no path")
    return np.stack(images)


def load_image(source: str | os.PathLike[str] | bytes, contract: Contract = IMAGENET_CONTRACT) -> np.ndarray:
    """Path or encoded bytes of one image -> uint8 RGB `[size, size, 3]`: decoded, resized, centre-cropped.

    With a `WholeImage`, the result is `[height, width, 3]`: the whole image, resized to fit, on the mean colour.

    Raises:
        ImageError: The file can't be read as an image; the message starts with its name.
    """
    with whole_image():
        pixels = decode_image(source)
        try:
            return apply_contract(contract, pixels)
        except ImageError as error:
            raise ImageError(f"{name_of(source)}: {error}") from error


@functools.singledispatch
def apply_contract(contract: Contract, pixels: np.ndarray) -> np.ndarray:
    """Contract, uint8 RGB `[H, W, 3]` -> pixels for the network, by `resize_and_crop` or `fit_whole`.

    Raises:
        ImageError: The image is too elongated for the contract.
    """
    raise TypeError(f"`contract` must be an InputContract or a WholeImage. Received: {contract!r}")


@apply_contract.register
def _(contract: InputContract, pixels: np.ndarray) -> np.ndarray:
    return resize_and_crop(pixels, contract)


@apply_contract.register
def _(contract: WholeImage, pixels: np.ndarray) -> np.ndarray:
    return fit_whole(pixels, contract)


def decode_image(source: str | os.PathLike[str] | bytes) -> np.ndarray:
    """Path or encoded bytes of one image -> uint8 RGB `[H, W, 3]`, bit for bit as Pillow decodes it.

    The first frame is decoded and turned upright by its EXIF orientation. Grey is repeated over the channels, 16-bit
    values keep their upper 8 bits, and transparent pixels are composited over white.

    Raises:
        ImageError: The file can't be read as an image; the message starts with its name.
    """
    return read_pixels(source, readable_formats(), _rgb_pixels)


def read_pixels(
    source: str | os.PathLike[str] | bytes, formats: tuple[str, ...], convert: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    """Path or encoded bytes of one image, allowed formats of Pillow -> result of `convert` on its first frame.

    Raises:
        ImageError: The file can't be read as an image of these formats; the message starts with its name.
    """
    name = name_of(source)
    # catch_warnings would swap the filters of all threads, and decoding in several threads would lose filters.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        encoded = source if isinstance(source, bytes) else read_regular(source)
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or error}") from error
    if not encoded:
        raise ImageError(f"{name}: the file is empty")
    try:
        with whole_image(), _opened(encoded, formats) as image:
            hold(image.width * image.height)
            image.load()
            return convert(image)
    except UnidentifiedImageError as error:
        if kind_of_bytes(encoded[:16]) == "heic":
            raise ImageError(f"{name}: {no_heic()}") from error
        raise ImageError(f"{name}: not an image of the formats {', '.join(formats)}, or incomplete") from error
    except ImageError as error:
        raise type(error)(f"{name}: {error}") from error
    except ArgumentError:
        raise
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, struct.error and others
        raise ImageError(f"{name}: the image data is broken ({str(error) or type(error).__name__})") from error


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Path of an image -> height and width of the upright image, from the head of the file.

    Raises:
        ImageError: The head can't be read as an image's.
    """
    try:
        with open_regular(path) as stream, Image.open(stream, formats=readable_formats()) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION, 1) in _TRANSPOSED
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, struct.error and others
        raise ImageError(f"{name_of(path)}: the image data is broken ({str(error) or type(error).__name__})") from error
    return (width, height) if turned else (height, width)


def _opened(encoded: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Encoded image, allowed formats of Pillow -> image of which only the head is read.

    Raises:
        ImageTooLargeError: It has too many pixels.
    """
    most = most_pixels()
    if most > MOST_PIXELS:  # the user has raised the limit, and Pillow has one of its own for the process
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or most, most)
    try:
        image = Image.open(io.BytesIO(encoded), formats=formats)
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        raise ImageTooLargeError(_too_many(int(pixels[0]) if pixels else most + 1, "")) from error
    width, height = image.size
    if width * height > most:
        raise ImageTooLargeError(_too_many(width * height, f" ({width} x {height})"))
    return image


def _too_many(pixels: int, size: str) -> str:
    return (
        f"too many pixels: it has {pixels:,}{size}, and the limit is {most_pixels():,}. To read it, set the "
        f"environment variable {PIXELS_VARIABLE}={pixels}; it takes up to {BYTES_PER_PIXEL} bytes of memory a pixel"
    )


def resize_and_crop(pixels: np.ndarray, contract: InputContract = IMAGENET_CONTRACT) -> np.ndarray:
    """uint8 RGB `[H, W, 3]` -> `[size, size, 3]`: short side resized to `contract.resize`, antialiased; centre crop.

    Sizes and offsets are rounded as in torchvision's `Resize` and `CenterCrop`.

    Raises:
        ImageError: The image is so long and narrow that the resized image would not fit into memory.
        ValueError: The pixels are no uint8 RGB image, or the contract's `size` is larger than its `resize`.
    """
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            "`pixels` must be a uint8 array [H, W, 3]. "
            f"Received: {getattr(pixels, 'dtype', type(pixels).__name__)} {list(getattr(pixels, 'shape', []))}"
        )
    if min(pixels.shape) < 1:
        raise ValueError(f"`pixels` must have at least one row and one column. Received: {list(pixels.shape)}")
    if not 1 <= contract.size <= contract.resize:
        raise ValueError(f"`contract` must have 1 <= size <= resize. Received: contract={contract!r}")

    height, width = pixels.shape[:2]
    short, long = sorted((height, width))
    new_long = int(contract.resize * long / short)
    if contract.resize * new_long > MOST_PIXELS:
        raise ImageError(
            f"{width}x{height} pixels are too elongated: with the short side at {contract.resize} the image would "
            f"have more than {MOST_PIXELS:,} pixels"
        )
    new_size = (contract.resize, new_long) if width <= height else (new_long, contract.resize)
    # If the size stays, Pillow returns an identical copy.
    resized = np.asarray(Image.fromarray(pixels).resize(new_size, _RESAMPLING[contract.interpolation]))

    height, width = resized.shape[:2]
    top = round((height - contract.size) / 2)  # rounds half to even, as torchvision does
    left = round((width - contract.size) / 2)
    return resized[top : top + contract.size, left : left + contract.size].copy()


def fit_whole(pixels: np.ndarray, contract: WholeImage) -> np.ndarray:
    """uint8 RGB `[H, W, 3]` -> `[height, width, 3]` of the contract: antialiased, top left, on the mean colour."""
    if contract.height is None or contract.width is None:
        return pixels
    height, width = contract.area_of(*pixels.shape[:2])
    return fill(np.asarray(Image.fromarray(pixels).resize((width, height), _RESAMPLING["bilinear"])), contract)


def fill(pixels: np.ndarray, contract: WholeImage) -> np.ndarray:
    """uint8 RGB `[H, W, 3]`, no larger than the contract -> `[height, width, 3]`, padded with the mean colour."""
    if contract.height is None or contract.width is None:
        return pixels
    filled = np.full((contract.height, contract.width, 3), MEAN_COLOUR, np.uint8)
    filled[: pixels.shape[0], : pixels.shape[1]] = pixels
    return filled


def name_of(source: str | os.PathLike[str] | bytes) -> str:
    """Path or encoded bytes of one image -> its name in messages."""
    return f"image of {len(source)} bytes" if isinstance(source, bytes) else os.fspath(source)


def _rgb_pixels(image: Image.Image) -> np.ndarray:
    """Loaded image of any mode -> uint8 `[H, W, 3]`, upright and opaque."""
    image = _upright(image)
    width, height = image.size
    if width * height <= STRIP_PIXELS or image.mode == "I" or image.mode.startswith("I;16"):
        return np.array(_opaque_rgb(image))
    # In strips, since a conversion of the whole image would hold it three times more.
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(_opaque_rgb(image.crop((0, top, width, bottom))))
    return pixels


def _upright(image: Image.Image) -> Image.Image:
    # Pillow's exif_transpose rewrites the EXIF block, and fails if any tag in it is broken.
    method = _TRANSPOSE.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    return image if method is None else image.transpose(method)


def _opaque_rgb(image: Image.Image) -> Image.Image:
    """Loaded image of any mode -> mode "RGB"; transparent pixels are composited over white."""
    if image.mode == "F":
        raise ImageError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit greys -> mode "L" or "LA" with the upper 8 bits of each value, as Pillow reads 16-bit colours."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"its greys lie in {values.min()}..{values.max()}, outside the 16 bits 0..65535; save it with 8 or 16 bits"
        )
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey


def normalisation_layer(channels: int) -> Any:
    """Number of channels -> layer: pixels 0..255 `[N, H, W, channels]` -> `(pixels / 255 - mean) / std`, float32.

    One channel takes the mean of the three statistics, and more than three channels repeat them, just as a pretrained
    stem is summed or repeated over its input channels.
    """
    from keras import layers

    mean, std = _channel_statistics(channels)
    return layers.Rescaling(
        scale=[1 / (255 * s) for s in std],
        offset=[-m / s for m, s in zip(mean, std, strict=True)],
        name=layer_names.PREPROCESSING,
        dtype="float32",
    )


def mean_colour(channels: int) -> list[float]:
    """Number of channels -> the colour of pixels 0..255 that `normalisation_layer` makes zero."""
    return [255 * mean for mean in _channel_statistics(channels)[0]]


def _channel_statistics(channels: int) -> tuple[list[float], list[float]]:
    if channels == 1:
        return [sum(IMAGENET_MEAN) / 3], [sum(IMAGENET_STD) / 3]
    return [IMAGENET_MEAN[c % 3] for c in range(channels)], [IMAGENET_STD[c % 3] for c in range(channels)]
