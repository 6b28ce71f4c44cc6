"""Sources of images with masks: folders, CSV files, packed sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from keras_resnet.data.annotations import is_table, open_table, table_head
from keras_resnet.data.base import Source
from keras_resnet.data.files import FileSource, rows_of_split
from keras_resnet.data.labelled import class_indices, known_names
from keras_resnet.data.pairs import PairFolders, list_pairs, pair_folders
from keras_resnet.data.reading import Reading
from keras_resnet.data.shards import DESCRIPTION, open_pair, read_dataset_description, task_of_index
from keras_resnet.data.splits import chosen_of, opened_part
from keras_resnet.data.tables import MASK_FILE
from keras_resnet.data.taken import UNUSED_SPLIT, LeftAside, Taken
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.segment.class_tables import class_table_of
from keras_resnet.tasks.segment.legend import Legend, make_legend, packed_legend
from keras_resnet.tasks.segment.masked import MaskedSource
from keras_resnet.tasks.segment.target import MASKS


def is_segment_layout(text: str, reading: Reading) -> bool:
    """Data as users name it -> whether it is of images with masks."""
    path = Path(text)
    if (path / DESCRIPTION).is_file():
        return task_of_index(read_dataset_description(path)) == MASKS.task
    table = table_head(path, reading)
    if table is not None:
        return MASK_FILE in table.columns
    return path.is_dir() and pair_folders(path) is not None


def open_masked(text: str, split: str, class_names: Sequence[str] | None, reading: Reading) -> Source:
    """Data of that layout, one of `SPLITS`, names of the classes, choices of the user -> the images of that split.

    Raises:
        ArgumentError: Images and masks are no pairs, or a choice about the masks that packed masks have behind them.
        ImageError: A folder has no images.
    """
    path = Path(text)
    if (path / DESCRIPTION).is_file():
        if reading.void_labels or reading.mask_values:
            raise ArgumentError(
                "`void_labels` (--void-labels) and `mask_values` (--mask-values) are for folders and CSV files; packed "
                "masks hold classes already. Leave them out. "
                f"Received: void_labels={[*reading.void_labels]}, mask_values={[*reading.mask_values]} for "
                f"{text}"
            )
        return _open_shards(path, split, class_names)
    if not is_table(path):
        return _open_masked_folder(path, split, class_names, reading)
    return _open_masked_table(path, split, class_names, reading)


def _open_shards(folder: Path, split: str, class_names: Sequence[str] | None) -> Source:
    description = read_dataset_description(folder)
    classes = description["classes"]
    own_classes = classes if class_names is None else class_names
    split = opened_part(split, has_validation=True)
    new = (
        class_indices(folder, classes, known_names(class_names)) if class_names is not None else np.arange(len(classes))
    )
    images, masks = open_pair(folder, split, description, own_classes, MASKS)
    return MaskedSource(images, masks, packed_legend(new))


def _open_masked_folder(folder: Path, split: str, class_names: Sequence[str] | None, reading: Reading) -> Source:
    where, aside = cast(PairFolders, pair_folders(folder)), LeftAside()
    lists, named = where.lists, where.lists or where.splits
    val = reading.validation_split if reading.validation_split in named else None
    split = opened_part(split, has_validation=val is not None)
    if "train" not in named:
        raise ArgumentError(f"{folder}: has images and masks for {', '.join(named)}, but none for train; add them")
    part = val if split == "val" and val is not None else "train"

    def pairs_of(name: str, into: LeftAside) -> tuple[list[str], list[str]]:
        return list_pairs(folder, where.splits["train" if lists else name], lists, name, reading, into)

    files, masks = pairs_of(part, aside)
    trained = masks if part == "train" else pairs_of("train", LeftAside())[1]
    classes, legend = _legend(folder, folder, trained, class_names, reading)
    if val is None:
        chosen = chosen_of(files, np.zeros(len(files), int), split)
        files, masks = [files[index] for index in chosen], [masks[index] for index in chosen]
    for name in named:
        if name not in ("train", val):
            aside.add(UNUSED_SPLIT, lists.get(name) or where.splits[name][0])
    images, shown = (
        FileSource("folder", folder, each, str(folder), split, classes, each, None, held_out=val is None, target=MASKS)
        for each in (files, masks)
    )
    source = MaskedSource(images, shown, legend)
    folders = where.splits["train" if lists else part]
    words = f"images in {folders[0]}/ and masks in {folders[1]}/"
    source.taken = Taken(words, lists.get(part) or f"{folders[0]}/", aside)
    return source


def _open_masked_table(file: Path, split: str, class_names: Sequence[str] | None, reading: Reading) -> Source:
    table, aside = open_table(file, reading), LeftAside()
    files, masks = table.files(), table.paths(MASK_FILE)
    chosen, split, held_out = rows_of_split(table, files, np.zeros(len(files), int), split, aside)
    classes, legend = _legend(file, table.folder, masks, class_names, reading)
    images, shown = (
        FileSource("csv", table.folder, each, str(file), split, classes, each, None, held_out=held_out, target=MASKS)
        for each in ([files[index] for index in chosen], [masks[index] for index in chosen])
    )
    source = MaskedSource(images, shown, legend)
    source.taken = Taken(table.layout(MASK_FILE), "rows", aside)
    return source


def _legend(
    data: Path, root: Path, masks: Sequence[str], class_names: Sequence[str] | None, reading: Reading
) -> tuple[Sequence[str], Legend]:
    """Masks that are searched for classes where neither `class_names` nor a table names them -> the classes, legend."""
    searched = FileSource("", root, masks, str(data), "", (), masks, None, target=MASKS)
    return make_legend(searched, class_table_of(root), class_names, reading.void_labels, reading.mask_values)
