"""Image files: folders of class folders, CSV files."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnet.data.base import EncodedSource
from keras_resnet.data.labelled import read_rows
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.preprocessing import SUFFIXES

TRAIN = "train"
VALIDATION = ("val", "validation", "test")  # names of a split that validates, the first that is there


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

    @cached_property
    def _located(self) -> tf.Tensor:
        with tf.device("CPU"), tf.init_scope():
            return tf.constant([os.fsencode(os.path.join(self.root, file)) for file in self.files])

    def locate(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._located, indices)

    def fetch(self, located: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(located)


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Folder of class folders -> files relative to it, their class folders; sorted.

    Images lie at any depth of a class folder. Plain strings: a million `Path`s take long to make and to sort.

    Raises:
        ImageError: There are none.
    """
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    files = [(name, file) for name in classes for file in sorted(_images(folder, name))]
    if not files:
        raise ImageError(f"{folder}: its images must lie in a folder for each class")
    return [file for _, file in files], [name for name, _ in files]


def _images(folder: Path, name: str) -> Iterator[str]:
    root = os.fspath(folder)
    for parent, _, files in os.walk(os.path.join(root, name)):
        relative = os.path.relpath(parent, root)
        for file in files:
            if file.lower().endswith(SUFFIXES):
                yield f"{relative}/{file}"


def split_folders(folder: Path) -> tuple[Path | None, Path | None]:
    """Folder -> its folders of the training and of the validation split, where it has them."""
    train = folder / TRAIN
    if not train.is_dir():
        return None, None
    return train, next((folder / name for name in VALIDATION if (folder / name).is_dir()), None)


def list_csv(file: Path) -> tuple[list[str], list[str], np.ndarray | None]:
    """CSV file -> files relative to its folder, names of their classes, whether each validates (None: no such column).

    Raises:
        ArgumentError: It lacks a column, or names another split.
    """
    rows, file_column, class_column = read_rows(file)
    names, files = [row[class_column] for row in rows], [row[file_column] for row in rows]
    if "split" not in rows[0]:
        return files, names, None
    splits = [row["split"] for row in rows]
    unknown = sorted({*splits} - {TRAIN, *VALIDATION})
    if unknown:
        raise ArgumentError(
            f"{file}: its column split must hold {TRAIN}, {', '.join(VALIDATION)}. Received: {', '.join(unknown[:10])}"
        )
    return files, names, np.array([split != TRAIN for split in splits])
