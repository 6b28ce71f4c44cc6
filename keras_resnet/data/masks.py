"""Masks: which class each pixel of an image is."""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet.data.base import Contract, Decoded, EncodedSource, fingerprint_of
from keras_resnet.data.labelled import LISTED, class_indices, known_names
from keras_resnet.data.problems import reason_of
from keras_resnet.data.targets import MASK
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.labels import VOID
from keras_resnet.preprocessing import decode_image, fit_whole, read_pixels
from keras_resnet.variants import WholeImage

CLASSES = "classes.csv"
VOID_NAME = "void"  # rows of that name in `classes.csv` are no class
UNKNOWN = 254  # within a look-up table: what no class and no void is; so 254 classes are the most
COLOURS = ("red", "green", "blue")

_GREY_8_BIT = b"\x08\x00"  # of a PNG file, the bytes 24 and 25: bits of a sample, colour type


@dataclass(frozen=True)
class Legend:
    """What the values of mask files stand for."""

    labels: np.ndarray  # uint8 [256]: label of a file -> class, VOID or UNKNOWN
    colours: np.ndarray | None = None  # int [n], red << 16 | green << 8 | blue, ascending
    colour_labels: np.ndarray | None = None  # of each, its label

    def classes_of(self, values: np.ndarray) -> np.ndarray:
        """Labels, integers `[H, W]`, or colours uint8 `[H, W, 3]` -> classes uint8 `[H, W]`.

        Raises:
            ImageError: A value that is no class, and not void.
        """
        if values.ndim == 3:
            values = self._labels_of(values)
        known = (values >= 0) & (values < 256)
        classes = self.labels[np.where(known, values, 0)]
        wrong = ~known | (classes == UNKNOWN)
        if wrong.any():
            unknown = values[wrong]
            raise ImageError(
                f"{unknown.size:,} pixels have the label {unknown[0]}, which is none of the "
                f"{np.sum(self.labels < UNKNOWN)} classes, and not void"
            )
        return classes

    def _labels_of(self, pixels: np.ndarray) -> np.ndarray:
        if self.colours is None or self.colour_labels is None:
            raise ImageError(f"its pixels are colours, and there is no {CLASSES} that says which class each colour is")
        red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
        codes = red << 16 | green << 8 | blue
        place = np.minimum(np.searchsorted(self.colours, codes), len(self.colours) - 1)
        wrong = self.colours[place] != codes
        if wrong.any():
            raise ImageError(
                f"{np.sum(wrong):,} pixels have the colour {', '.join(map(str, pixels[wrong][0]))}, "
                f"which {CLASSES} does not have"
            )
        return self.colour_labels[place]


def make_legend(
    masks: EncodedSource,
    table: "ClassTable | None",
    wanted: Sequence[str] | None,
    void_labels: Sequence[int],
) -> tuple[Sequence[str], Legend]:
    """Masks, `classes.csv`, names that the user wants, labels that are void besides 255 -> names of classes, legend.

    The labels that are not void are the classes, in their order. Without a table, they are as many as the user wants,
    or go up to the highest that a mask has.

    Raises:
        ArgumentError: A name that `wanted` does not have, or no two classes.
    """
    wrong = [label for label in void_labels if not 0 <= label <= VOID]
    if wrong:
        raise ArgumentError(f"`void_labels` must lie in 0..255. Received: {wrong}")
    void = {VOID, *void_labels}
    if table is not None:
        labels = range(len(table.names))
        void |= {label for label in labels if table.names[label] == VOID_NAME}
    elif wanted is not None:
        labels = range(min(VOID, len(wanted) + len(void)))
    else:
        labels = range(highest_label(masks, void) + 1)
    of_classes = [label for label in labels if label not in void]
    if table is not None:
        names = [table.names[label] for label in of_classes]
    else:
        of_classes = of_classes if wanted is None else of_classes[: len(wanted)]
        names = [f"class {index}" for index in range(len(of_classes))] if wanted is None else list(wanted)
    classes = tuple(names if wanted is None else wanted)
    if not 2 <= len(classes) <= UNKNOWN:
        raise ArgumentError(
            f"{masks.path}: its masks must have 2 to {UNKNOWN} classes besides void "
            f"({', '.join(map(str, sorted(void)))}). Received: {len(classes)}"
        )
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[of_classes] = class_indices(masks.path, names, known_names(classes, names))
    lookup[[*void]] = VOID
    return classes, Legend(lookup, *(colours_of(table) or ()))


def decode_mask(encoded: bytes) -> np.ndarray:
    """Encoded PNG -> labels, integers `[H, W]`, or colours uint8 `[H, W, 3]`: the values as the file has them.

    Raises:
        ImageError: It is no PNG file of labels or colours.
    """
    return read_pixels(encoded, ("PNG",), _values)


def _values(image: Image.Image) -> np.ndarray:
    if image.mode in ("1", "L", "P", "I", "I;16"):
        return np.array(image.convert("L") if image.mode == "1" else image) // (255 if image.mode == "1" else 1)
    if image.mode in ("RGB", "RGBA"):
        return np.array(image.convert("RGB"))
    raise ImageError(f"its mode is {image.mode}; a mask has one label for each pixel, or one colour without alpha")


def encode_mask(classes: np.ndarray) -> bytes:
    """Classes uint8 `[H, W]` -> PNG file of 8-bit grey, which `packed_legend` reads."""
    stream = io.BytesIO()
    Image.fromarray(classes).save(stream, "PNG")
    return stream.getvalue()


def packed_legend(classes: np.ndarray) -> Legend:
    """Class of each packed class, int `[classes]` -> legend."""
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[: len(classes)] = classes
    lookup[VOID] = VOID
    return Legend(lookup)


class MaskedSource(EncodedSource):
    """Images of one source, and the mask of each in another, at the same index.

    The masks' labels stand for what `legend` says.
    """

    target = MASK
    counted = "pixels"

    def __init__(self, images: EncodedSource, masks: EncodedSource, legend: Legend) -> None:
        super().__init__(images.path, images.split, images.classes, images.names, None, images.held_out)
        self.kind, self.images, self.masks, self.legend = images.kind, images, masks, legend

    def read(self, index: int) -> bytes:
        return self.images.read(index)

    def locate(self, indices: tf.Tensor) -> tf.Tensor:
        return self.images.locate(indices)

    def fetch(self, located: tf.Tensor) -> tf.Tensor:
        return self.images.fetch(located)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return self.images.order(seed, epoch)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of([*self.names, *self.masks.names], self.legend.labels)

    def summary(self) -> dict[str, Any]:
        # Without the classes' counts, for which all masks would have to be read.
        return {name: value for name, value in super().summary().items() if name != "class_counts"}

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Pixels of each class in all masks that can be read, int `[classes]`."""
        counts = np.zeros(256, np.int64)
        for counted in _of_each(lambda index: count_labels(self.decode_target(index)), self.count):
            counts += counted
        return counts[: len(self.classes)]

    def decode_target(self, index: int) -> np.ndarray:
        """Index -> classes uint8 `[H, W]`.

        Raises:
            ImageError: The mask can't be read, or has other labels.
        """
        try:
            return self.legend.classes_of(decode_mask(self.masks.read(index)))
        except ImageError as error:
            raise ImageError(f"its mask {self.masks.name_of(index)}: {reason_of(error)}") from error

    def decode(self, index: int) -> Decoded:
        encoded = self.read(index)
        pixels, mask = decode_image(encoded), self.decode_target(index)
        if mask.shape != pixels.shape[:2]:
            sizes = (f"{width} x {height}" for height, width in (mask.shape, pixels.shape[:2]))
            raise ImageError(
                f"its mask {self.masks.name_of(index)} has {' pixels, and the upright image '.join(sizes)}"
            )
        return Decoded(encoded, pixels, mask)

    def prepare(self, decoded: Decoded, contract: Contract) -> tuple[np.ndarray, np.ndarray]:
        if not isinstance(contract, WholeImage):
            raise TypeError(f"`contract` must be a WholeImage for {self.target.task}. Received: {contract!r}")
        return fit_whole(decoded.pixels, contract), fit_mask(decoded.target, contract)

    def locate_targets(self, indices: tf.Tensor) -> tf.Tensor:
        return self.masks.locate(indices)

    def fetch_target(self, located: tf.Tensor) -> tf.Tensor:
        """Of a mask that can't be read, or has other labels, nothing `[0, 0]`."""

        def decode(encoded: bytes) -> np.ndarray:
            try:
                return self.legend.classes_of(decode_mask(encoded))
            except ImageError:
                return np.zeros((0, 0), np.uint8)

        def by_pillow() -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(decode, [encoded], tf.uint8, stateful=False), [None, None])

        def by_tensorflow() -> tf.Tensor:
            labels = tf.io.decode_png(encoded, channels=1)[..., 0]
            classes = tf.gather(tf.constant(self.legend.labels), tf.cast(labels, tf.int32))
            return tf.cond(tf.reduce_any(classes == UNKNOWN), lambda: tf.zeros([0, 0], tf.uint8), lambda: classes)

        encoded = self.masks.fetch(located)
        return tf.cond(tf.strings.substr(encoded, 24, 2) == _GREY_8_BIT, by_tensorflow, by_pillow)


def fit_mask(mask: np.ndarray, contract: WholeImage) -> np.ndarray:
    """Classes uint8 `[H, W]` -> `[height, width]` of the contract, by the nearest pixel; the rest is void."""
    if contract.height is None or contract.width is None:
        return mask
    area = contract.area_of(*mask.shape)
    # Of each pixel's centre, in halves of a pixel. Not Pillow's NEAREST, which rounds where two are equally near.
    rows, columns = ((2 * np.arange(n) + 1) * of // (2 * n) for n, of in zip(area, mask.shape, strict=True))
    fitted = np.full((contract.height, contract.width), VOID, np.uint8)
    fitted[: area[0], : area[1]] = mask[rows[:, None], columns]
    return fitted


def count_labels(values: np.ndarray) -> np.ndarray:
    """Labels of a mask int `[H, W]` -> pixels of each label, int64 `[256]`; more than 255 counts as 255."""
    return np.bincount(np.minimum(values, VOID).ravel(), minlength=256)


def _of_each(made: Callable[[int], np.ndarray], count: int) -> Iterable[np.ndarray]:
    """Function of an index that may raise ImageError, number of indices -> what it makes of those that can be read."""

    def made_or_nothing(index: int) -> np.ndarray | None:
        try:
            return made(index)
        except ImageError:  # the pipeline reports it
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from (result for result in pool.map(made_or_nothing, range(count)) if result is not None)


def highest_label(masks: EncodedSource, void: Iterable[int]) -> int:
    """Masks of labels, those that are void -> the highest that is not; above 255 counts as void, and is reported later.

    Raises:
        ArgumentError: There is no mask of labels.
    """

    def counted(index: int) -> np.ndarray:
        values = decode_mask(masks.read(index))
        if values.ndim == 3:
            raise ArgumentError(
                f"{masks.path}: the mask {masks.name_of(index)} has colours; give a {CLASSES} with the columns name, "
                f"{', '.join(COLOURS)} that says which class each colour is"
            )
        return count_labels(values)

    counts = sum(_of_each(counted, masks.count), np.zeros(256, np.int64))
    counts[[*void]] = 0
    if not counts.any():
        raise ArgumentError(f"{masks.path}: none of its {masks.count} masks can be read and has a label besides void")
    return int(np.flatnonzero(counts).max())


@dataclass(frozen=True)
class ClassTable:
    """What `classes.csv` says: a row for each label of the masks, in the order of the labels from 0."""

    names: Sequence[str]  # of the labels, `VOID_NAME` among them
    colours: np.ndarray | None  # int [n, 3]


def read_class_table(file: Path) -> ClassTable | None:
    """`classes.csv` -> its rows, or None where there is no such file.

    Raises:
        ArgumentError: It has no column `name`, or a row that is no colour, or a name or colour twice.
    """
    if not file.is_file():
        return None
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [{str(key).strip(): value for key, value in row.items()} for row in csv.DictReader(stream)]
        names = [row["name"].strip() for row in rows]
        colours = np.array([[int(row[each]) for each in COLOURS] for row in rows]) if COLOURS[0] in rows[0] else None
    except (UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ArgumentError(
            f"{file}: it must have a row for each label, the column name and, for masks of colours, "
            f"{', '.join(COLOURS)}, each 0..255. Received: {type(error).__name__} {error}"
        ) from error
    if colours is not None and (colours.min() < 0 or colours.max() > 255):
        raise ArgumentError(f"{file}: colours must lie in 0..255. Received: {colours.min()}..{colours.max()}")
    classes = [name for name in names if name != VOID_NAME]
    twice = sorted({name for name in classes if classes.count(name) > 1 or not name})
    if twice or (colours is not None and len(np.unique(colours, axis=0)) < len(colours)):
        raise ArgumentError(
            f"{file}: no name and no colour may be empty or there twice. Received: {twice or 'a colour'}"
        )
    return ClassTable(names, colours)


def colours_of(table: ClassTable | None) -> tuple[np.ndarray, np.ndarray] | None:
    """-> codes of the colours, ascending, and the label of each, where there are colours."""
    if table is None or table.colours is None:
        return None
    codes = table.colours @ [1 << 16, 1 << 8, 1]
    order = np.argsort(codes)
    return codes[order], order


def check_pairs(where: str | os.PathLike[str], images: Sequence[str], masks: Sequence[str]) -> list[str]:
    """Images and masks, relative to their folders -> the mask of each image, which has the same name but the suffix.

    Raises:
        ArgumentError: An image without a mask, a mask without an image, or a name that two have.
    """
    by_name = {os.path.splitext(mask)[0]: mask for mask in masks}
    stems = [os.path.splitext(image)[0] for image in images]
    counts = Counter(stems)
    problems = [
        f"  {image}: no mask {stem}.png" for image, stem in zip(images, stems, strict=True) if stem not in by_name
    ]
    problems += [f"  {mask}: no image of that name" for stem, mask in by_name.items() if stem not in counts]
    problems += [f"  {stem}: {count} images of that name" for stem, count in counts.items() if count > 1]
    if problems:
        more = [f"  and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
        raise ArgumentError(
            "\n".join([f"{where}: {len(problems)} images and masks are no pairs:", *problems[:LISTED], *more])
        )
    return [by_name[stem] for stem in stems]
