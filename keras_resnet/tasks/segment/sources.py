"""Sources of images with masks: folders, CSV files, packed sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_resnet.data.base import Source
from keras_resnet.data.files import FileSource, check_pairs, has_masks, list_csv, list_masked, mask_folders
from keras_resnet.data.labelled import MASK_COLUMNS, class_indices, known_names
from keras_resnet.data.shards import DESCRIPTION, open_pair, read_dataset_description, task_of_index
from keras_resnet.data.splits import chosen_of, opened_part
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks.segment.legend import CLASSES, Legend, make_legend, packed_legend, read_class_table
from keras_resnet.tasks.segment.masked import MaskedSource
from keras_resnet.tasks.segment.target import MASKS


def is_segment_layout(text: str) -> bool:
    """Data as users name it -> whether it holds images with masks."""
    path = Path(text)
    if (path / DESCRIPTION).is_file():
        return task_of_index(read_dataset_description(path)) == MASKS.task
    if path.is_dir():
        return mask_folders(path) is not None
    return path.is_file() and path.suffix.lower() != ".npz" and has_masks(path)


def open_masked(text: str, split: str, labels: Sequence[str] | None, void_labels: Sequence[int]) -> Source:
    """Data with masks, one of `SPLITS`, class names, void labels -> images of that split.

    Raises:
        ArgumentError: Images and masks form no pairs, or `void_labels` are given for packed masks.
        ImageError: A folder has no images.
    """
    path = Path(text)
    if (path / DESCRIPTION).is_file():
        if void_labels:
            raise ArgumentError(
                f"`void_labels` must be left out for packed masks, whose void pixels are already marked. "
                f"Received: void_labels={[*void_labels]} for {text}"
            )
        return _open_shards(path, split, labels)
    if path.is_dir():
        return _open_masked_folder(path, split, labels, void_labels)
    return _open_masked_csv(path, split, labels, void_labels)


def _open_shards(folder: Path, split: str, labels: Sequence[str] | None) -> Source:
    description = read_dataset_description(folder)
    classes = description["classes"]
    own_classes = classes if labels is None else labels
    split = opened_part(split, has_validation=True)
    new = (
        class_indices(folder, classes, known_names(labels, classes)) if labels is not None else np.arange(len(classes))
    )
    images, masks = open_pair(folder, split, description, own_classes, MASKS)
    return MaskedSource(images, masks, packed_legend(new))


def _open_masked_folder(folder: Path, split: str, labels: Sequence[str] | None, void_labels: Sequence[int]) -> Source:
    train, val = mask_folders(folder) or (("", ""), None)
    split = opened_part(split, has_validation=val is not None)
    names_of = val if split == "val" and val is not None else train
    files, masks = list_masked(folder, *names_of)
    masks = [f"{names_of[1]}/{mask}" for mask in check_pairs(folder / names_of[0], files, masks)]
    files = [f"{names_of[0]}/{file}" for file in files]
    trained = masks if names_of == train else [f"{train[1]}/{mask}" for mask in list_masked(folder, *train)[1]]
    classes, legend = _legend(folder, folder, trained, labels, void_labels)
    if val is None:
        chosen = chosen_of(files, np.zeros(len(files), int), split)
        files, masks = [files[index] for index in chosen], [masks[index] for index in chosen]
    images, shown = (
        FileSource("folder", folder, each, str(folder), split, classes, each, None, held_out=val is None, target=MASKS)
        for each in (files, masks)
    )
    return MaskedSource(images, shown, legend)


def _open_masked_csv(file: Path, split: str, labels: Sequence[str] | None, void_labels: Sequence[int]) -> Source:
    files, masks, validates = list_csv(file, MASK_COLUMNS)
    split = opened_part(split, has_validation=validates is not None)
    own = None if validates is None else np.flatnonzero(validates == (split == "val"))
    chosen = chosen_of(files, np.zeros(len(files), int), split) if own is None else own
    if not len(chosen):
        raise ArgumentError(f"{file}: no row has {split} in the column split")
    classes, legend = _legend(file, file.parent, masks, labels, void_labels)
    images, shown = (
        FileSource(
            "csv", file.parent, each, str(file), split, classes, each, None, held_out=validates is None, target=MASKS
        )
        for each in ([files[index] for index in chosen], [masks[index] for index in chosen])
    )
    return MaskedSource(images, shown, legend)


def _legend(
    data: Path, root: Path, masks: Sequence[str], labels: Sequence[str] | None, void_labels: Sequence[int]
) -> tuple[Sequence[str], Legend]:
    """Masks -> class names, legend. The masks are searched for classes if neither `labels` nor a table names them."""
    searched = FileSource("", root, masks, str(data), "", (), masks, None, target=MASKS)
    return make_legend(searched, read_class_table(root / CLASSES), labels, void_labels)
