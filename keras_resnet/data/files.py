"""Image files: folders of class folders, rows of CSV files."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_resnet.data.base import EncodedSource
from keras_resnet.data.layout import HIDDEN, walk_images
from keras_resnet.data.splits import chosen_of, opened_part
from keras_resnet.data.tables import SPLIT, Table
from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.image_files import has_image_suffix, is_hidden
from keras_resnet.regular_files import is_regular, read_regular

if TYPE_CHECKING:
    import tensorflow as tf


RECIPE = "recipe.toml"  # each folder of a training run has one


class FileSource(EncodedSource):
    """Image files, by their paths below `root`."""

    def __init__(self, kind: str, root: Path, files: Sequence[str], *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.kind, self.root, self.files = kind, os.fspath(root), files

    def read(self, index: int) -> bytes:
        try:
            return read_regular(os.path.join(self.root, self.files[index]))
        except OSError as error:
            raise ImageError(error.strerror or str(error)) from error

    def path_of(self, index: int) -> str:
        return os.path.join(self.root, self.files[index])

    def locate(self, indices: "tf.Tensor") -> "tf.Tensor":
        """-> paths, string `[n]`; empty for what is no file, which TensorFlow would wait for or read without an end."""
        import tensorflow as tf

        def paths(indices: np.ndarray) -> np.ndarray:
            found = (self.path_of(index) for index in indices.tolist())
            return np.array([os.fsencode(path) if is_regular(path) else b"" for path in found], dtype=object)

        located = tf.numpy_function(paths, [indices], tf.string, stateful=False)
        located.set_shape([None])
        return located

    def fetch(self, located: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        return tf.io.read_file(located)


def list_folder(folder: Path, aside: LeftAside) -> tuple[list[str], list[str]]:
    """Folder of class folders -> image files relative to it, their class folders; sorted.

    Images lie at any depth of a class folder. Files are plain strings: a million `Path`s take long to make and sort.

    Raises:
        ImageError: There are no images.
    """
    classes, loose = [], []
    for entry in os.scandir(folder):
        if is_hidden(entry.name):
            aside.add(HIDDEN, entry.name)
        elif entry.is_dir():
            classes.append(entry.name)
        else:
            loose.append(entry.name)
    files: list[str] = []
    names: list[str] = []
    for name in sorted(classes):
        found = _without_runs(folder, sorted(walk_images(folder, name, aside)), aside)
        if not found:
            aside.add("class folder without an image", f"{name}/")
        files += found
        names += [name] * len(found)
    if not files:
        there = f"It has {len(loose)} files, for example {min(loose)}. " if loose else ""
        if mask := _mask_among(loose):
            there += f"If {mask} is a mask, put the images into images/ and the masks into masks/. "
        raise ImageError(
            f"{folder}: no class folder with an image. {there}Make a folder for each class, such as cat/ and dog/, and "
            "put its images there, or name a CSV file with the columns file and label"
        )
    for file in sorted(loose):
        aside.add("file beside the class folders", file)
    return files, names


def _without_runs(folder: Path, files: list[str], aside: LeftAside) -> list[str]:
    """Image files of a class folder -> those outside of folders that `keras-resnet train` wrote."""
    places = {os.path.dirname(file) for file in files}
    places |= {os.path.dirname(place) for place in places}
    runs = tuple(f"{place}/" for place in sorted(places) if place and os.path.isfile(folder / place / RECIPE))
    for run in runs:
        aside.add("folder of a training run", run)
    return [file for file in files if not file.startswith(runs)] if runs else files


def _mask_among(files: Sequence[str]) -> str:
    """Names of files -> one that is an image's name with an ending more, such as _mask; or an empty text."""
    stems = {os.path.splitext(name)[0] for name in files if has_image_suffix(name)}
    return min((name for name in files if os.path.splitext(name)[0].rpartition("_")[0] in stems), default="")


def inner_folders(files: Sequence[str]) -> list[str]:
    """Image files below class folders -> folders in class folders that may be meant as classes, such as animals/cat.

    They have images, several lie in one class folder, and their names are in no other class folder: batches of images
    have the same names in each.
    """
    folders = {"/".join(file.split("/", 2)[:2]) for file in files if file.count("/") > 1}
    by_class, by_name = (Counter(folder.split("/")[place] for folder in folders) for place in (0, 1))
    return sorted(
        folder
        for folder in folders
        if by_class[folder.partition("/")[0]] > 1 and by_name[folder.partition("/")[2]] == 1
    )


def rows_of_split(
    table: Table, files: Sequence[str], indices: np.ndarray, split: str, aside: LeftAside
) -> tuple[np.ndarray, str, bool]:
    """Table, its files and classes, one of `SPLITS` -> rows of that split, the part, whether validation is held out.

    Raises:
        ArgumentError: The split has no row, or a file is missing.
    """
    rows, split, held_out = _rows_of_split(table, files, indices, split, aside)
    table.check_files(rows, split)
    return rows, split, held_out


def _rows_of_split(
    table: Table, files: Sequence[str], indices: np.ndarray, split: str, aside: LeftAside
) -> tuple[np.ndarray, str, bool]:
    parts, wanted = table.splits(), table.reading.validation_split
    aside.join(table.aside)
    if parts is None:
        return chosen_of(files, indices, split), split, True
    of = {name: np.flatnonzero(np.array(parts) == name) for name in ("train", "val", "test")}
    has_validation = len(of[wanted]) > 0
    split = opened_part(split, has_validation)
    unused = [name for name in ("val", "test") if name != wanted and len(of[name])]
    for name in unused:
        aside.add(f"row of {name}, which is not used (see --validation-split)", files[int(of[name][0])], len(of[name]))
    if not len(of["train"]):
        raise ArgumentError(
            f"{table.file}: no row has train in the column {table.columns[SPLIT]!r}. Received: "
            f"{', '.join(sorted({*parts}))}. Write train in the training rows, or remove the column to use all rows"
        )
    if has_validation:
        return of[wanted if split == "val" else "train"], split, False
    rows = of["train"]
    return rows[chosen_of([files[row] for row in rows.tolist()], indices[rows], split)], split, True
