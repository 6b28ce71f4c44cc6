"""Labels and colours of masks -> classes, void labels, and unknown labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_resnet.data.base import EncodedSource
from keras_resnet.data.labelled import class_indices, known_names
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.labels import VOID
from keras_resnet.tasks.segment.class_tables import CLASSES, COLOURS, VOID_NAME, ClassTable, colours_of
from keras_resnet.tasks.segment.masks import count_labels, decode_mask, of_each

UNKNOWN = 254  # value of unknown labels in a look-up table, so that there are at most 254 classes
VALUES_LISTED = 10  # in an error message


@dataclass(frozen=True)
class Legend:
    """The meaning of the values in mask files."""

    labels: np.ndarray  # uint8 [256]: label of a file -> class, VOID or UNKNOWN
    colours: np.ndarray | None = None  # int [n], red << 16 | green << 8 | blue, ascending
    colour_labels: np.ndarray | None = None  # label of each colour

    def classes_of(self, values: np.ndarray) -> np.ndarray:
        """Labels, integers `[H, W]`, or colours uint8 `[H, W, 3]` -> classes uint8 `[H, W]`.

        Raises:
            ImageError: A value is neither a class nor void.
        """
        if values.ndim == 3:
            values = self._labels_of(values)
        known = (values >= 0) & (values < 256)
        classes = self.labels[np.where(known, values, 0)]
        wrong = ~known | (classes == UNKNOWN)
        if wrong.any():
            unknown = values[wrong]
            raise ImageError(
                f"{unknown.size:,} pixels have the label {unknown[0]}, which is neither one of the "
                f"{np.sum(self.labels < UNKNOWN)} classes nor void. Add it to {CLASSES}, to `mask_values` "
                "(--mask-values) or, if it means no class, to `void_labels` (--void-labels)"
            )
        return classes

    def _labels_of(self, pixels: np.ndarray) -> np.ndarray:
        if self.colours is None or self.colour_labels is None:
            if _is_grey(pixels):
                return pixels[..., 0]
            raise ImageError(
                f"its pixels are colours, and there is no {CLASSES} with their classes; add one with the columns name, "
                f"{', '.join(COLOURS)}"
            )
        red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
        codes = red << 16 | green << 8 | blue
        place = np.minimum(np.searchsorted(self.colours, codes), len(self.colours) - 1)
        wrong = self.colours[place] != codes
        if wrong.any():
            raise ImageError(
                f"{np.sum(wrong):,} pixels have the colour {', '.join(map(str, pixels[wrong][0]))}, "
                f"which {CLASSES} does not have; add a row for it, named {VOID_NAME} if it means no class"
            )
        return self.colour_labels[place]


def packed_legend(classes: np.ndarray) -> Legend:
    """Network's class of each packed class, int `[classes]` -> legend."""
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[: len(classes)] = classes
    lookup[VOID] = VOID
    return Legend(lookup)


def make_legend(
    masks: EncodedSource,
    table: ClassTable | None,
    wanted: Sequence[str] | None,
    void_labels: Sequence[int] = (),
    mask_values: Sequence[int] = (),
) -> tuple[Sequence[str], Legend]:
    """Masks, `classes.csv`, names that the user wants, labels that are void besides 255, values of the classes in
    order -> names of classes, legend.

    Without `mask_values`, the labels that are not void are the classes, in their order. Without a table, they are as
    many as the user wants, or go up to the highest that a mask has.

    Raises:
        ArgumentError: A name that `wanted` does not have, no two classes, or a class without a pixel.
    """
    if mask_values:
        return _legend_of_values(masks, wanted, void_labels, mask_values)
    wrong = [label for label in void_labels if not 0 <= label <= VOID]
    if wrong:
        raise ArgumentError(f"`void_labels` (--void-labels) must lie in 0..255. Received: {wrong}")
    void = {VOID, *void_labels}
    if table is not None:
        labels = range(len(table.names))
        void |= {label for label in labels if table.names[label] == VOID_NAME}
    elif wanted is not None:
        labels = range(min(VOID, len(wanted) + len(void)))
    else:
        labels = range(_highest_label(masks, void) + 1)
    of_classes = [label for label in labels if label not in void]
    if table is None and wanted is not None:
        of_classes = of_classes[: len(wanted)]
    names = [table.names[label] for label in of_classes] if table else [f"class {i}" for i in range(len(of_classes))]
    classes = tuple(names if wanted is None else wanted)
    if not 2 <= len(classes) <= UNKNOWN:
        raise ArgumentError(
            f"{masks.path}: the masks must have 2 to {UNKNOWN} classes besides the void labels "
            f"({', '.join(map(str, sorted(void)))}). Received: {len(classes)}. Check the masks, `void_labels` "
            f"(--void-labels) and {CLASSES}"
        )
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[of_classes] = class_indices(masks.path, names, known_names(classes)) if table else range(len(names))
    lookup[[*void]] = VOID
    return classes, Legend(lookup, *(colours_of(table) or ()))


def _legend_of_values(
    masks: EncodedSource, wanted: Sequence[str] | None, void_labels: Sequence[int], mask_values: Sequence[int]
) -> tuple[Sequence[str], Legend]:
    """As `make_legend`, where the user says which value of the masks each class has."""
    classes = tuple(f"class {index}" for index in range(len(mask_values))) if wanted is None else tuple(wanted)
    if len({*mask_values}) < len(mask_values) or len(mask_values) != len(classes) or {*mask_values} & {*void_labels}:
        raise ArgumentError(
            f"`mask_values` (--mask-values) must hold one value for each of the {len(classes)} classes, each value "
            f"once, and no value of `void_labels` (--void-labels). Received: mask_values={[*mask_values]}, "
            f"void_labels={[*void_labels]}"
        )
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[[VOID, *void_labels]] = VOID
    lookup[[*mask_values]] = range(len(mask_values))
    return classes, Legend(lookup)


def _is_grey(pixels: np.ndarray) -> bool:
    """Whether the three channels are equal: labels, by a tool that writes nothing but colours."""
    return bool((pixels == pixels[..., :1]).all())


def _some_colours(pixels: np.ndarray) -> str:
    colours = np.unique(pixels.reshape(-1, 3), axis=0)
    shown = "; ".join(",".join(map(str, colour)) for colour in colours[:VALUES_LISTED])
    return f"{shown} and {len(colours) - VALUES_LISTED} more" if len(colours) > VALUES_LISTED else shown


def _highest_label(masks: EncodedSource, void: Iterable[int]) -> int:
    """Masks of labels, void labels -> the highest other label. A label above 255 counts as void, and is reported later.

    Raises:
        ArgumentError: There is no mask of labels, or a label below the highest has no pixel.
    """

    def counted(index: int) -> np.ndarray:
        values = decode_mask(masks.read(index))
        if values.ndim == 3 and _is_grey(values):
            values = values[..., 0]
        if values.ndim == 3:
            raise ArgumentError(
                f"{masks.path}: the mask {masks.name_of(index)} has colours; add a {CLASSES} with the columns name, "
                f"{', '.join(COLOURS)} and a row for each colour. Its colours: {_some_colours(values)}"
            )
        return count_labels(values)

    counts = sum(of_each(counted, masks.count), np.zeros(256, np.int64))
    found = np.flatnonzero(counts).tolist()
    labels = [label for label in found if label not in void]
    if not labels:
        raise ArgumentError(
            f"{masks.path}: none of the {masks.count} masks can be read and has a label besides void "
            f"({', '.join(map(str, sorted(void)))}). Check the masks and `void_labels` (--void-labels)"
        )
    empty = [label for label in range(labels[-1]) if label not in found and label not in void]
    if empty or found == [0, VOID]:
        shown = ", ".join(map(str, found[:VALUES_LISTED]))
        if len(found) > VALUES_LISTED:
            shown += f" and {len(found) - VALUES_LISTED} more"
        why = (
            f"Labels must count from 0 without gaps, but {len(empty)} of the values 0 to {labels[-1]} have no pixel"
            if empty
            else "255 normally marks pixels without a class, so only one class is left"
        )
        values = ",".join(map(str, found))
        hint = (
            f"If each of these values is a class, add `mask_values` (--mask-values {values}). Otherwise, name the "
            f"class of each label from 0 in {CLASSES}"
        )
        if len(found) > 3 and VOID in found and empty:
            hint = (
                "They look like masks of 0 and 255 that were resized with interpolation: resize the original masks by "
                "nearest neighbour"
            )
        raise ArgumentError(f"{masks.path}: its masks hold the values {shown}. {why}. {hint}")
    return labels[-1]
