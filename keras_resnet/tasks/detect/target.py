"""The target of detection: the objects of an image, in the pipeline and in packed sets.

A target is one vector of float32: the height and width of the image, a row of six numbers for each object, with rows of
zeros up to the largest number of objects of an image in the set, and, where objects have masks, the instance map of the
image. A value k of the map is the object of row k, counted from 1, and 0 is background. All are whole numbers far below
2^24, or coordinates in pixels, so that float32 holds them.

A row holds left, top, right and bottom in pixels, the class, and the state: no object, object, or ignored. An ignored
object is neither taught nor background, such as a crowd, or an object of which a crop has left too little.
"""

import functools
import io
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from keras_resnet.data.base import fingerprint_of
from keras_resnet.data.targets import Target
from keras_resnet.errors import ImageError
from keras_resnet.preprocessing import read_pixels
from keras_resnet.tasks.detect.settings import REFUSED
from keras_resnet.variants import Contract, WholeImage

if TYPE_CHECKING:
    import tensorflow as tf

TASK, TITLE = "detect", "detection"
NOTHING, OBJECT, IGNORED = 0, 1, 2  # states of a row
HEAD, COLUMNS = 2, 6
LEAST_VISIBLE = 0.2  # share of a box that must lie in a crop, so that its object is taught
LEAST_PIXELS = 1.0  # shorter sides of a box are not taught

_PACKED_HEAD = struct.Struct("<III")  # height, width, number of rows


class Detections(NamedTuple):
    """Targets taken apart; the arrays may have a dimension for the batch in front."""

    boxes: Any  # float32 [G, 4]: left, top, right, bottom in pixels
    classes: Any  # float32 [G]
    states: Any  # float32 [G]
    instances: Any  # float32 [H, W]; None where objects have only boxes


def make_target(
    size: tuple[int, int],
    boxes: np.ndarray,
    classes: np.ndarray,
    ignored: np.ndarray,
    most_objects: int,
    instances: np.ndarray | None,
) -> np.ndarray:
    """Height and width, objects, the number of rows, instance map -> float32 `[2 + 6 * rows (+ H * W)]`.

    An object without a pixel in the instance map becomes ignored: smaller ones may cover it.
    """
    rows = np.zeros((most_objects, COLUMNS), np.float32)
    count = len(boxes)
    rows[:count, :4], rows[:count, 4], rows[:count, 5] = boxes, classes, np.where(ignored, IGNORED, OBJECT)
    shown = []
    if instances is not None:
        pixels = np.bincount(instances.ravel(), minlength=count + 1)[1 : count + 1]
        rows[:count, 5] = np.where(pixels > 0, rows[:count, 5], IGNORED)
        shown = [instances.ravel().astype(np.float32)]
    return np.concatenate([np.array(size, np.float32), rows.ravel(), *shown])


def taken_apart(target: Any, most_objects: int, height: int, width: int) -> Detections:
    """Targets `[..., L]`, NumPy or of Keras' backend, number of rows, height and width of the pixels -> their parts."""
    reshape: Any = np.reshape
    if not isinstance(target, np.ndarray):
        from keras import ops

        reshape = ops.reshape
    # An unknown number of images is -1 in a reshape.
    lead, end = tuple(-1 if n is None else n for n in target.shape[:-1]), HEAD + COLUMNS * most_objects
    rows = reshape(target[..., HEAD:end], (*lead, most_objects, COLUMNS))
    instances = reshape(target[..., end:], (*lead, height, width)) if target.shape[-1] > end else None
    return Detections(rows[..., :4], rows[..., 4], rows[..., 5], instances)


@functools.cache  # the pipeline keeps its traced functions for each target object
def objects_of(most_objects: int, has_masks: bool) -> Target:
    """Largest number of objects of an image, whether they have masks -> the kind of the targets."""
    end = HEAD + COLUMNS * most_objects

    def shape(height: int | None, width: int | None) -> tuple[int | None]:
        if not has_masks:
            return (end,)
        return (None,) if height is None or width is None else (end + height * width,)

    def packed(target: np.ndarray) -> bytes:
        rows = target[HEAD:end].reshape(most_objects, COLUMNS)
        count = int(np.count_nonzero(rows[:, 5]))
        height, width = map(int, target[:HEAD])
        instances = target[end:].reshape(height, width).astype(np.uint16) if has_masks else None
        return pack_objects((height, width), rows[:count], instances)

    def counts(target: np.ndarray, classes: int) -> np.ndarray:
        rows = target[HEAD:end].reshape(most_objects, COLUMNS)
        return np.bincount(rows[rows[:, 5] == OBJECT, 4].astype(int), minlength=classes)

    return Target(
        TASK,
        TITLE,
        dtype="float32",
        shape=shape,
        exact=True,
        cut=_cutter(most_objects, has_masks),
        mirrored=_mirrorer(most_objects, has_masks),
        fit=_fitter(most_objects, has_masks),
        shares=None,
        columns=("objects_offset", "objects_length"),
        feature="objects",
        packed=packed,
        counts=counts,
        fingerprint=_fingerprint,
        refused=REFUSED,
    )


def pack_objects(size: tuple[int, int], rows: np.ndarray, instances: np.ndarray | None) -> bytes:
    """Height and width, rows float32 `[n, 6]`, instance map uint16 -> bytes, the map as a PNG file of 16 bits."""
    stream = io.BytesIO()
    stream.write(_PACKED_HEAD.pack(*size, len(rows)))
    stream.write(rows.astype("<f4").tobytes())
    if instances is not None:
        Image.fromarray(instances).save(stream, "PNG")
    return stream.getvalue()


def unpack_objects(packed: bytes) -> tuple[tuple[int, int], np.ndarray, bytes]:
    """Bytes of `pack_objects` -> height and width, rows float32 `[n, 6]`, the PNG file of the map, maybe empty.

    Raises:
        ImageError: They are damaged.
    """
    if len(packed) < _PACKED_HEAD.size:
        raise ImageError("its objects are damaged; pack the set again")
    height, width, count = _PACKED_HEAD.unpack_from(packed)
    end = _PACKED_HEAD.size + 4 * COLUMNS * count
    if len(packed) < end:
        raise ImageError("its objects are damaged; pack the set again")
    rows = np.frombuffer(packed[_PACKED_HEAD.size : end], "<f4").reshape(count, COLUMNS)
    return (height, width), rows, packed[end:]


def unpack_instances(png: bytes, size: tuple[int, int], objects: int) -> np.ndarray:
    """PNG file of a packed map, height and width, number of objects -> uint16 `[H, W]`.

    Raises:
        ImageError: It is damaged, of another size, or names an object that is not there.
    """
    instances = read_pixels(png, ("PNG",), np.array)
    if instances.shape != size or instances.dtype.kind not in "iu" or instances.max(initial=0) > objects:
        raise ImageError("its instance map does not fit its objects; pack the set again")
    return instances.astype(np.uint16)


def _cutter(most_objects: int, has_masks: bool) -> "Callable[[tf.Tensor, tf.Tensor, tf.Tensor, int], tf.Tensor]":
    end = HEAD + COLUMNS * most_objects

    def cut(target: "tf.Tensor", box: "tf.Tensor", shape: "tf.Tensor", size: int) -> "tf.Tensor":
        """Target, top, left, height and width of a part, H and W of the image, size -> target of the resized part.

        Each box is clipped to the part. Its object is ignored if too little of it is left, and gone if nothing is.
        The function fails if the target states another size than the image has.
        """
        import tensorflow as tf

        from keras_resnet.data.crop import nearest_of_part

        stated = tf.cast(target[:HEAD], tf.int32)
        # The target of an image that can't be used states no size.
        fits = tf.reduce_all(stated == shape) | tf.reduce_all(stated == 0)
        with tf.control_dependencies([tf.debugging.Assert(fits, ["not of one size"])]):
            rows = tf.reshape(target[HEAD:end], [most_objects, COLUMNS])
        top, left, height, width = tf.unstack(tf.cast(box, tf.float32))
        scales = size / tf.stack([width, height, width, height])
        corners = (rows[:, :4] - tf.stack([left, top, left, top])) * scales
        clipped = tf.clip_by_value(corners, 0.0, float(size))
        sides, sides_left = (each[:, 2:] - each[:, :2] for each in (corners, clipped))
        share = tf.math.divide_no_nan(tf.reduce_prod(sides_left, 1), tf.reduce_prod(sides, 1))
        taught = (share >= LEAST_VISIBLE) & (tf.reduce_min(sides_left, 1) >= LEAST_PIXELS)
        instances: list[tf.Tensor] = []
        if has_masks:
            whole = tf.reshape(target[end:], shape)
            part = nearest_of_part(whole, box, shape, size, 0.0)
            shown = tf.math.bincount(tf.cast(part, tf.int32), minlength=most_objects + 1, maxlength=most_objects + 1)
            taught &= shown[1:] > 0
            instances = [tf.reshape(part, [-1])]
        states = tf.where(taught, rows[:, 5], float(IGNORED))
        there = (share > 0) & (rows[:, 5] > 0)
        new = tf.concat([clipped, rows[:, 4:5], states[:, None]], 1)
        new = tf.where(there[:, None], new, 0.0)
        head = tf.constant([size, size], tf.float32)
        return tf.concat([head, tf.reshape(new, [-1]), *instances], 0)

    return cut


def _mirrorer(most_objects: int, has_masks: bool) -> "Callable[[tf.Tensor], tf.Tensor]":
    end = HEAD + COLUMNS * most_objects

    def mirrored(target: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        width = target[1]
        rows = tf.reshape(target[HEAD:end], [most_objects, COLUMNS])
        left, top, right, bottom, *rest = tf.unstack(rows, axis=1)
        turned = tf.stack([width - right, top, width - left, bottom, *rest], axis=1)
        parts = [target[:HEAD], tf.reshape(tf.where(rows[:, 5:] > 0, turned, rows), [-1])]
        if has_masks:
            shape = tf.cast(target[:HEAD], tf.int32)
            parts.append(tf.reshape(tf.reverse(tf.reshape(target[end:], shape), [1]), [-1]))
        return tf.ensure_shape(tf.concat(parts, 0), target.shape)

    return mirrored


def _fitter(most_objects: int, has_masks: bool) -> Callable[[np.ndarray, Contract], np.ndarray]:
    end = HEAD + COLUMNS * most_objects

    def fit(target: np.ndarray, contract: Contract) -> np.ndarray:
        """Target of the whole image -> target of the evaluated pixels: the image fills them from the top left."""
        from keras_resnet.data.crop import nearest_places

        if not isinstance(contract, WholeImage):
            raise TypeError(f"`contract` must be a WholeImage for detection. Received: {contract!r}")
        if contract.height is None or contract.width is None:
            return target
        height, width = map(int, target[:HEAD])
        area = contract.area_of(height, width)
        rows = target[HEAD:end].reshape(most_objects, COLUMNS).copy()
        rows[:, :4] *= np.array([area[1] / width, area[0] / height] * 2, np.float32)
        parts = [np.array(contract.sides, np.float32), rows.ravel()]
        if has_masks:
            instances = target[end:].reshape(height, width)
            fitted = np.zeros((contract.height, contract.width), np.float32)
            places = [nearest_places(n, of) for n, of in zip(area, (height, width), strict=True)]
            fitted[: area[0], : area[1]] = instances[places[0][:, None], places[1]]
            parts.append(fitted.ravel())
        return np.concatenate(parts)

    return fit


def _fingerprint(names: Sequence[str], index: Any, classes: int) -> str:
    # The index does not hold the objects; the size of each shard is checked when it is opened.
    return fingerprint_of(names, index["objects_offset"])
