"""Image files: folders of class folders, folders of images and masks, CSV files."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_resnet.data.base import EncodedSource
from keras_resnet.data.labelled import CLASS_COLUMNS, MASK_COLUMNS, NAMES_LISTED, read_rows
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.preprocessing import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import tensorflow as tf

TRAIN = "train"
VALIDATION_FOLDERS = ("val", "validation", "test")  # names of a validation folder; the first one found is used
IMAGES, MASKS = "images", "masks"


class FileSource(EncodedSource):
    """Image files, by their paths below `root`."""

    def __init__(self, kind: str, root: Path, files: Sequence[str], *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.kind, self.root, self.files = kind, os.fspath(root), files

    def read(self, index: int) -> bytes:
        try:
            return Path(self.root, self.files[index]).read_bytes()
        except OSError as error:
            raise ImageError(error.strerror or str(error)) from error

    def path_of(self, index: int) -> str:
        return os.path.join(self.root, self.files[index])

    @cached_property
    def _located(self) -> "tf.Tensor":
        import tensorflow as tf

        with tf.device("CPU"), tf.init_scope():
            return tf.constant([os.fsencode(os.path.join(self.root, file)) for file in self.files])

    def locate(self, indices: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        return tf.gather(self._located, indices)

    def fetch(self, located: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        return tf.io.read_file(located)


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Folder of class folders -> files relative to it, their class folders; sorted.

    Images lie at any depth of a class folder. Files are plain strings: a million `Path`s take long to make and sort.

    Raises:
        ImageError: There are no images.
    """
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    files = [(name, file) for name in classes for file in sorted(_files(folder, name))]
    if not files:
        raise ImageError(f"{folder}: its images must lie in a folder for each class")
    return [file for _, file in files], [name for name, _ in files]


def _files(folder: Path, name: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Iterator[str]:
    root = os.fspath(folder)
    for parent, _, files in os.walk(os.path.join(root, name)):
        relative = os.path.relpath(parent, root)
        for file in files:
            if file.lower().endswith(suffixes):
                yield f"{relative}/{file}"


def split_folders(folder: Path) -> tuple[Path | None, Path | None]:
    """Folder -> its training folder and its validation folder, if it has them."""
    train = folder / TRAIN
    if not train.is_dir():
        return None, None
    return train, next((folder / name for name in VALIDATION_FOLDERS if (folder / name).is_dir()), None)


def mask_folders(folder: Path) -> tuple[tuple[str, str], tuple[str, str] | None] | None:
    """Folder -> its folders of images and masks for training, and for validation if it has them; None: no masks.

    The folders are `train/images` and `train/masks`, or `images/train` and `masks/train`, or `images` and `masks` for
    both splits.
    """
    splits = (TRAIN, *VALIDATION_FOLDERS)
    for pairs in (
        {split: (f"{split}/{IMAGES}", f"{split}/{MASKS}") for split in splits},
        {split: (f"{IMAGES}/{split}", f"{MASKS}/{split}") for split in splits},
        {TRAIN: (IMAGES, MASKS)},
    ):
        there = [pair for pair in pairs.values() if all((folder / name).is_dir() for name in pair)]
        if pairs[TRAIN] in there:
            return there[0], (there[1] if len(there) > 1 else None)
    return None


def list_masked(folder: Path, images: str, masks: str) -> tuple[list[str], list[str]]:
    """Folder, its folders of images and masks -> sorted images and PNG files at any depth of them.

    Raises:
        ImageError: There are no images.
    """
    listed = [
        [os.path.relpath(file, name) for file in sorted(_files(folder, name, suffixes))]
        for name, suffixes in ((images, IMAGE_SUFFIXES), (masks, (".png",)))
    ]
    if not listed[0]:
        raise ImageError(f"{folder / images}: no image in this folder (files that end in {', '.join(IMAGE_SUFFIXES)})")
    return listed[0], listed[1]


def check_pairs(where: str | os.PathLike[str], images: Sequence[str], masks: Sequence[str]) -> list[str]:
    """Images and masks, relative to their folders -> mask of each image. Their names differ only in the suffix.

    Raises:
        ArgumentError: An image without a mask, a mask without an image, or two images with one name.
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
        more = [f"  and {len(problems) - NAMES_LISTED} more"] if len(problems) > NAMES_LISTED else []
        raise ArgumentError(
            "\n".join([f"{where}: {len(problems)} images and masks form no pairs:", *problems[:NAMES_LISTED], *more])
        )
    return [by_name[stem] for stem in stems]


def has_masks(file: Path) -> bool:
    """Whether a CSV file has a column of masks."""
    with file.open(encoding="utf-8", errors="replace") as stream:
        return bool({*next(csv.reader(stream), [])} & {*MASK_COLUMNS})


def list_csv(file: Path, columns: Sequence[str] = CLASS_COLUMNS) -> tuple[list[str], list[str], np.ndarray | None]:
    """CSV file -> files relative to its folder, their class names (or masks), whether each one is for validation.

    The last is None if the file has no column `split`.

    Raises:
        ArgumentError: The file lacks a column, or names an unknown split.
    """
    rows, file_column, class_column = read_rows(file, columns)
    names, files = [row[class_column] for row in rows], [row[file_column] for row in rows]
    if "split" not in rows[0]:
        return files, names, None
    splits = [row["split"] for row in rows]
    unknown = sorted({*splits} - {TRAIN, *VALIDATION_FOLDERS})
    if unknown:
        raise ArgumentError(
            f"{file}: the column split must hold {TRAIN}, {', '.join(VALIDATION_FOLDERS)}. "
            f"Received: {', '.join(unknown[:10])}"
        )
    return files, names, np.array([split != TRAIN for split in splits])
