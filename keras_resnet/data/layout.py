"""Folders as people have them -> which of their folders train, validate and test, and what in them is no data."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_resnet.data.reading import PLAIN, Reading
from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ArgumentError
from keras_resnet.image_files import has_image_suffix, image_kind, is_hidden, no_heic

# Names of a split, in lower case, for folders and for cells of a CSV file.
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst"),
}
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
HIDDEN, NOT_IMAGE, LOOP = "hidden or system file", "not an image", "link to a folder above itself"


def split_named(name: str) -> str | None:
    """Name of a folder, or cell of a CSV file -> "train", "val" or "test"; None: it is none of them."""
    return _SPLIT_OF.get(name.strip().lower())


@dataclass(frozen=True)
class FolderLayout:
    """Folder of images -> its folders for each split, by their names; empty where its folders are classes."""

    splits: Mapping[str, str] = field(default_factory=dict)  # "train", "val", "test" -> name of the folder
    others: Sequence[str] = ()  # folders that are no split

    def validation(self, reading: Reading) -> str | None:
        """-> name of the folder that validates, if there is one."""
        return self.splits.get(reading.validation_split)


def folder_layout(folder: Path, reading: Reading = PLAIN) -> FolderLayout:
    """Folder -> its splits, where its folders are splits.

    Raises:
        ArgumentError: Its folders can be classes as well as splits, or two of them are one split.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))
    named: dict[str, list[str]] = {}
    for name in names:
        named.setdefault(split_named(name) or "", []).append(name)
    others = named.pop("", [])
    if reading.folders == "classes" or not named:
        if reading.folders == "splits":
            raise ArgumentError(f"{folder}: has no folder train, val or test. Its folders: {_listed(names)}")
        return FolderLayout()
    for split, several in named.items():
        if len(several) > 1:
            raise ArgumentError(
                f"{folder}: {' and '.join(f'{name}/' for name in several)} can both be the {split} split. Rename or "
                "move the one that is not"
            )
    splits = {split: several[0] for split, several in named.items()}
    with_images = [name for name in others if holds_image(folder / name)]
    if with_images and reading.folders != "splits":
        if not any(_has_folders(folder / name) for name in splits.values()):
            return FolderLayout()  # classes that happen to be called train or test
        raise ArgumentError(
            f"{folder}: its folders can be splits ({_listed(list(splits.values()))}) or classes ({_listed(names)}). "
            "Choose one: --folders splits, which leaves the other folders aside, or --folders classes"
        )
    if "train" not in splits:
        found = _listed(list(splits.values()))
        raise ArgumentError(
            f"{folder}: has {found} and no training images. Name the folder that holds the class folders, for example "
            f"{folder / next(iter(splits.values()))}"
        )
    return FolderLayout(splits, others)


def walk_images(
    root: str | os.PathLike[str],
    name: str,
    aside: LeftAside,
    is_wanted: Callable[[str], bool] = has_image_suffix,
) -> Iterator[str]:
    """Folder, a folder in it -> its image files at any depth, relative to the first; links to folders are followed.

    A file whose suffix is an image's is taken without a look. Another is taken if its content is an image.
    """
    pending = [(name, frozenset([os.path.realpath(os.path.join(root, name))]))]
    while pending:
        relative, above = pending.pop()
        folders, files = [], []
        with os.scandir(os.path.join(root, relative)) as entries:
            for entry in entries:
                path = f"{relative}/{entry.name}"
                if is_hidden(entry.name):
                    aside.add(HIDDEN, path)
                elif not entry.is_dir():
                    files.append(path)
                elif not entry.is_symlink():
                    folders.append((path, above))
                elif (target := os.path.realpath(entry.path)) in above:
                    aside.add(LOOP, path)
                else:
                    folders.append((path, above | {target}))
        for path in sorted(files):
            kind = "image" if is_wanted(path) else image_kind(os.path.join(root, path))
            if kind == "image":
                yield path
            else:
                aside.add(no_heic() if kind == "heic" else NOT_IMAGE, path)
        pending.extend(sorted(folders, reverse=True))


def holds_image(folder: Path) -> bool:
    """Whether there is an image file at any depth of the folder."""
    return next(walk_images(folder, ".", LeftAside()), None) is not None


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() and not is_hidden(entry.name) for entry in os.scandir(folder))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{name}/" for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown or "none"
