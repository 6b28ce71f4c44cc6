"""Encoded image -> cropped and resized pixels, in the graph of a tf.data pipeline.

JPEG files, of which training sets consist, take a quick path: only the crop is decoded, by libjpeg at a half, a quarter
or an eighth of its size where the crop is so much larger than needed, and then resized. This resize, by a factor below
two, is not antialiased: TensorFlow's antialiasing kernel takes longer than reading and decoding together (1.06 ms of
1.7 ms for a photograph of 500x375; the plain kernel takes 0.19 ms), and the plain result is within 38 to 57 dB of
Pillow's antialiased one. Other files, and files on which the quick path fails, are decoded by
`preprocessing.decode_image` and resized with antialiasing.
"""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet.data.augment import Augmentation
from keras_resnet.data.base import EncodedSource
from keras_resnet.data.targets import Target
from keras_resnet.errors import ImageError
from keras_resnet.image_files import readable_formats
from keras_resnet.limits import most_pixels
from keras_resnet.preprocessing import MEAN_COLOUR
from keras_resnet.whole_images import hold, whole_image

UNUSABLE, USED, UNUSUAL = 0, 1, 2  # status of an image; an unusual image is used
DARK = 1 << 13  # 16-bit images with no larger value are nearly black; cameras of 12 bits give at most half of it
LARGE_PIXELS = 1 << 22  # larger images on the slow path are cropped where their pixels are counted
QUICK_PIXELS = 1 << 25  # larger JPEG files take the slow path, on which threads wait for each other's memory
ELONGATED = 20  # smallest ratio of long to short side that is reported as unusual

STICK_OUT = ("scaled", "fitted")  # crops whose window may stick out of the image

Interpolation = Literal["bilinear", "bicubic"]

# Height, width, seed -> top, left, height, width of a window; with the crops of `STICK_OUT`, beyond the image.
Window = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

_HEAD_BYTES = 1024  # Exif stands first in a file, after JFIF's 20 bytes at most
_ORIENTATION = 0x0112
_WHOLE_IMAGE = np.array([[[0.0, 0.0, 1.0, 1.0]]], "float32")


def window_of(augmentation: Augmentation, size: int) -> Window:
    """Augmentation, side in pixels -> function that picks the part of an image that becomes the training image."""
    if augmentation.crop == "resized":
        return _random_area(augmentation.minimum_area)
    if augmentation.crop in STICK_OUT:
        whole = augmentation.crop == "fitted"
        return _random_scale(size, augmentation.minimum_scale, augmentation.maximum_scale, whole)
    return _centre


@functools.cache
def _random_area(minimum_area: float) -> Window:
    def random_area(height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.stack([height, width, 3]),
            _WHOLE_IMAGE,
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(minimum_area, 1.0),
            max_attempts=10,
        )
        return tf.concat([begin[:2], size[:2]], 0)

    return random_area


@functools.cache
def _random_scale(size: int, minimum: float, maximum: float, fitted: bool) -> Window:
    """-> window of a random factor: of the image's own pixels, or of the size at which the whole image just fits."""

    def random_scale(height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        draws = tf.random.stateless_uniform([3], seed)
        unscaled = tf.cast(tf.maximum(height, width), tf.float32) if fitted else size
        side = tf.cast(tf.round(unscaled / (minimum + draws[0] * (maximum - minimum))), tf.int32)
        side = tf.maximum(side, 1)
        free = tf.stack([height, width]) - side  # if negative, the image lies somewhere within the window
        first, last = tf.minimum(free, 0), tf.maximum(free, 0)
        corner = first + tf.cast(draws[1:] * tf.cast(last - first + 1, tf.float32), tf.int32)
        return tf.concat([corner, tf.stack([side, side])], 0)

    return random_scale


def _centre(height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    side = tf.minimum(height, width)
    return tf.stack([(height - side) // 2, (width - side) // 2, side, side])


class Cropping(NamedTuple):
    """How images and their targets are cropped for a training batch."""

    target: Target
    window: Window
    size: int  # side in pixels
    interpolation: Interpolation
    sticks_out: bool  # whether the window may stick out of the image


def cropping_of(target: Target, augmentation: Augmentation, size: int, interpolation: Interpolation) -> Cropping:
    sticks_out = augmentation.crop in STICK_OUT
    return Cropping(target, window_of(augmentation, size), size, interpolation, sticks_out)


Cropped = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # pixels uint8 `[size, size, 3]`; target; UNUSABLE, USED or UNUSUAL
Part = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # resized pixels; place; height and width of the whole image


@functools.cache  # traced once in a process, not in every epoch
def jpeg_cropper(cropping: Cropping) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Cropped]:
    """-> (encoded bytes, target of the whole image, seed of the window) -> cropped.

    The function fails on everything but a whole JPEG file of grey or colour pixels with a target that fits it.
    `crop_any` handles all other images.
    """
    target_kind, window, size, interpolation, sticks_out = cropping
    # A part decoded at a fraction begins at a multiple of 8, 4 or 2 pixels, so that its target would be shifted.
    ratios = () if target_kind.exact or sticks_out else (2, 4, 8)

    def decode(encoded: tf.Tensor, box: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        if not sticks_out:
            return _decode(encoded, box, 1)
        inside = _inside(box, height, width)
        return _pad(_decode(encoded, inside, 1), box, inside)

    def plain(encoded: tf.Tensor, safe: tf.Tensor, height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor) -> Part:
        box = window(height, width, seed)
        pixels = decode(encoded, tf.where(safe, box, -1), height, width)
        return _resize(pixels, size, interpolation), box, tf.stack([height, width])

    def special(encoded: tf.Tensor, safe: tf.Tensor, height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor) -> Part:
        orientation = tf.ensure_shape(tf.numpy_function(_orientation, [encoded], tf.int32, stateful=False), [])
        upright_size = _upright_size(height, width, orientation)
        upright = window(*upright_size, seed)
        box = tf.where(safe, _stored(upright, height, width, orientation), -1)
        # One switch instead of nested conditions: TensorFlow visits each operation of a branch that is not taken, too.
        fits = [tf.cast(tf.reduce_min(box[2:]) >= ratio * size, tf.int32) for ratio in ratios]
        scaled = [lambda ratio=ratio: _decode(encoded, box, ratio) for ratio in ratios]
        whole = [lambda: decode(encoded, box, height, width)]
        pixels = tf.switch_case(tf.add_n(fits), whole + scaled) if ratios else whole[0]()
        return _turned(_resize(pixels, size, interpolation), orientation), upright, tf.stack(upright_size)

    @tf.function(autograph=False)
    def crop_jpeg(encoded: tf.Tensor, target: tf.Tensor, seed: tf.Tensor) -> Cropped:
        # libjpeg would print a line for each file that is no JPEG.
        with tf.control_dependencies([tf.debugging.Assert(tf.io.is_jpeg(encoded), ["not a JPEG file"])]):
            height, width, channels = tf.unstack(tf.image.extract_jpeg_shape(encoded))
        whole = tf.strings.substr(encoded, -2, 2) == b"\xff\xd9"
        most = min(most_pixels(), QUICK_PIXELS)
        small = tf.cast(height, tf.int64) * tf.cast(width, tf.int64) <= most
        safe = whole & small & (channels != 4)  # otherwise there is no window, and decoding fails
        # \C matches a byte; other patterns match UTF-8.
        has_exif = tf.strings.regex_full_match(tf.strings.substr(encoded, 0, _HEAD_BYTES), r"(?s)\C*Exif\C*")
        large = tf.minimum(height, width) >= 2 * size if ratios else False
        pixels, box, shape = tf.cond(
            has_exif | large,
            lambda: special(encoded, safe, height, width, seed),
            lambda: plain(encoded, safe, height, width, seed),
        )
        elongated = tf.maximum(height, width) > ELONGATED * tf.minimum(height, width)
        return pixels, target_kind.cut(target, box, shape, size), tf.where(elongated, UNUSUAL, USED)

    return crop_jpeg


def decode_any(source: EncodedSource, index: int, cropping: Cropping) -> tuple[np.ndarray, np.ndarray, np.int32]:
    """Index of an image -> all its pixels, its target, status, by Pillow. An unusable image is one black pixel."""
    try:
        decoded = source.decode(index)
    except ImageError:
        nothing = np.zeros(cropping.target.shape(1, 1), cropping.target.dtype)
        return np.zeros((1, 1, 3), np.uint8), nothing, np.int32(UNUSABLE)
    return decoded.pixels, decoded.target, np.int32(UNUSUAL if describe_unusual(decoded.encoded) else USED)


def crop_any(source: EncodedSource, index: tf.Tensor, seed: tf.Tensor, cropping: Cropping) -> Cropped:
    """Index of an image, seed of the window -> cropped, by Pillow. It never fails; an unusable image is black."""
    kind, size = cropping.target, cropping.size

    def decode(index: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.int32, np.bool_]:
        with whole_image():
            pixels, target, status = decode_any(source, int(index), cropping)
            if pixels.size <= 3 * LARGE_PIXELS:  # a call from here costs more than the crop of a small image
                return pixels, target, status, np.False_
            return *crop_now(pixels, target, seed, cropping), status, np.True_

    types = (tf.uint8, kind.dtype, tf.int32, tf.bool)
    decoded = tf.numpy_function(decode, [index, seed], types, stateful=False)
    shapes: tuple[Sequence[int | None], ...] = ([None, None, 3], kind.shape(None, None), [], [])
    pixels, target, status, done = (tf.ensure_shape(part, shape) for part, shape in zip(decoded, shapes, strict=True))
    pixels, target = tf.cond(done, lambda: (pixels, target), lambda: smooth_cropper(cropping)(pixels, target, seed))
    target_shape = kind.spec(size).shape
    return tf.ensure_shape(pixels, [size, size, 3]), tf.ensure_shape(target, target_shape), status


def crop_now(
    pixels: np.ndarray, target: np.ndarray, seed: np.ndarray, cropping: Cropping
) -> tuple[np.ndarray, np.ndarray]:
    """Whole image, its target, seed of the window -> pixels and target of the window, outside of a graph."""
    with tf.device("CPU"):
        cropped, target_cropped = smooth_cropper(cropping)(pixels, target, seed)
    return cropped.numpy(), target_cropped.numpy()


@functools.cache  # traced once in a process, not in every epoch
def smooth_cropper(cropping: Cropping) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """-> (whole image, its target, seed of the window) -> pixels and target of the window."""
    target_kind, window, size, interpolation, sticks_out = cropping
    any_target = tf.TensorSpec(target_kind.shape(None, None), target_kind.dtype)
    signature = [tf.TensorSpec([None, None, 3], tf.uint8), any_target, tf.TensorSpec([2], tf.int64)]

    @tf.function(autograph=False, input_signature=signature)
    def crop(pixels: tf.Tensor, target: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.shape(pixels)[:2]
        box = window(shape[0], shape[1], seed)
        cropped = resize_smoothly(pixels_of_part(pixels, box, sticks_out), size, interpolation)
        return cropped, target_kind.cut(target, box, shape, size)

    return crop


def pixels_of_part(pixels: tf.Tensor, box: tf.Tensor, sticks_out: bool) -> tf.Tensor:
    """uint8 `[H, W, 3]`, top, left, height and width of a part -> the part, with the mean colour outside the image."""
    inside = _inside(box, *tf.unstack(tf.shape(pixels)[:2])) if sticks_out else box
    top, left, height, width = tf.unstack(inside)
    part = pixels[top : top + height, left : left + width]
    return _pad(part, box, inside) if sticks_out else part


def _inside(box: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Part, height and width of the image -> the portion of the part inside the image."""
    begin = tf.maximum(box[:2], 0)
    end = tf.minimum(box[:2] + box[2:], tf.stack([height, width]))
    return tf.concat([begin, end - begin], 0)


def _pad(pixels: tf.Tensor, box: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """Pixels inside the image -> pixels of the whole part, with the mean colour outside the image."""
    before = inside[:2] - box[:2]
    after = box[2:] - inside[2:] - before
    margins = tf.concat([tf.stack([before, after], 1), [[0, 0]]], 0)
    mean = tf.constant(MEAN_COLOUR, tf.uint8)
    return tf.pad(pixels - mean, margins) + mean  # subtraction and addition both wrap around


def nearest_of_part(values: tf.Tensor, box: tf.Tensor, shape: tf.Tensor, size: int, outside: Any) -> tf.Tensor:
    """`[H, W]`, top, left, height and width of a part, H and W, size, value -> `[size, size]`.

    Each pixel takes the nearest pixel, by the half-pixel centres of the image's bilinear resize, or the value `outside`
    where the part sticks out.
    """
    centres = 2 * tf.range(size) + 1  # positions in halves of a pixel
    for axis in (0, 1):
        places = box[axis] + centres * box[2 + axis] // (2 * size)
        inside = (places >= 0) & (places < shape[axis])
        values = tf.gather(values, tf.clip_by_value(places, 0, shape[axis] - 1), axis=axis)
        values = tf.where(inside[:, None] if axis == 0 else inside, values, outside)
    return values


def nearest_places(count: int, of: int) -> np.ndarray:
    """Side after a resize, side before -> the nearest pixel before for each pixel, int `[count]`.

    Pillow's NEAREST would round where two pixels are equally near.
    """
    return (2 * np.arange(count) + 1) * of // (2 * count)


def resize_smoothly(pixels: tf.Tensor, size: int, interpolation: Interpolation) -> tf.Tensor:
    """uint8 `[..., H, W, 3]` -> `[..., size, size, 3]`, antialiased."""
    return to_uint8(tf.image.resize(pixels, [size, size], method=interpolation, antialias=True))


def describe_unusual(encoded: bytes) -> str:
    """Encoded bytes of a readable image -> note on what is unusual, or an empty text."""
    with whole_image(), Image.open(io.BytesIO(encoded), formats=readable_formats()) as image:
        (width, height), mode = image.size, image.mode
        deep = mode == "I" or mode.startswith("I;16")
        if deep:
            hold(width * height)
        largest = int(image.getextrema()[1]) if deep else 0  # type: ignore[arg-type]  # one channel, one pair
    notes = ["CMYK, converted"] if mode == "CMYK" else []
    if deep and largest < DARK:
        notes.append(f"16 bits with values up to {largest}: read as nearly black")
    if max(width, height) > ELONGATED * min(width, height):
        notes.append(f"{width:,} x {height:,} pixels")
    return "; ".join(notes)


def _decode(encoded: tf.Tensor, box: tf.Tensor, ratio: int) -> tf.Tensor:
    """Encoded JPEG, top, left, height and width of a part, divisor of its size -> its pixels."""
    return tf.io.decode_and_crop_jpeg(encoded, box // ratio, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _resize(pixels: tf.Tensor, size: int, interpolation: Interpolation) -> tf.Tensor:
    # The resize runs on floats, the only type for which TensorFlow has vector instructions.
    images = tf.cast(pixels, tf.float32)[None]
    if interpolation == "bilinear":  # bilinear values stay within 0..255
        resized = tf.raw_ops.ResizeBilinear(images=images, size=[size, size], half_pixel_centers=True)
        return tf.cast(resized[0] + 0.5, tf.uint8)
    return to_uint8(tf.raw_ops.ResizeBicubic(images=images, size=[size, size], half_pixel_centers=True)[0])


def to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    """Float pixels -> rounded uint8 pixels."""
    return tf.saturate_cast(pixels + 0.5, tf.uint8)  # the cast truncates


# EXIF orientations 2 to 8. Orientations 5 to 8 transpose the stored picture first; these tables say how it is mirrored.
_MIRRORED_LEFT_RIGHT = (2, 3, 6, 7)
_MIRRORED_TOP_BOTTOM = (3, 4, 7, 8)


def _orientation(encoded: bytes) -> np.int32:
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - the Pillow decoder reports what is wrong
        return np.int32(1)
    return np.int32(orientation if orientation in range(2, 9) else 1)


def _is_one_of(orientation: tf.Tensor, values: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(orientation == values)


def _upright_size(height: tf.Tensor, width: tf.Tensor, orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    transposed = orientation >= 5
    return tf.where(transposed, width, height), tf.where(transposed, height, width)


def _stored(box: tf.Tensor, height: tf.Tensor, width: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Part of the upright picture, height and width of the stored picture -> the part in the stored picture."""
    upright_height, upright_width = _upright_size(height, width, orientation)
    top, left, rows, columns = tf.unstack(box)
    top = tf.where(_is_one_of(orientation, _MIRRORED_TOP_BOTTOM), upright_height - top - rows, top)
    left = tf.where(_is_one_of(orientation, _MIRRORED_LEFT_RIGHT), upright_width - left - columns, left)
    return tf.where(orientation >= 5, [left, top, columns, rows], [top, left, rows, columns])


def _turned(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Square of the stored picture -> upright square."""
    pixels = tf.where(orientation >= 5, tf.transpose(pixels, [1, 0, 2]), pixels)
    pixels = tf.where(_is_one_of(orientation, _MIRRORED_LEFT_RIGHT), tf.reverse(pixels, [1]), pixels)
    return tf.where(_is_one_of(orientation, _MIRRORED_TOP_BOTTOM), tf.reverse(pixels, [0]), pixels)
