"""Paths as a table has them -> the image files that are there.

A path counts from the folder of the table. Where no path leads to a file so, the table has been moved away from its
images, or a server has given the paths: then all files must be found in one other way.
"""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np

from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.image_files import has_image_suffix, is_hidden

# What Label Studio writes for files that were uploaded to it, and for files of its own machine.
_UPLOADED, _SERVED = "/data/upload/", "/data/local-files/?d="
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_PLACES = ("annotations", "labels", "meta", "csv")  # folders of tables, beside which folders of images lie
FOLDERS_LISTED = 3


class Located(NamedTuple):
    """Files of the rows of a table."""

    paths: list[str]  # relative to the folder of the table, or absolute
    there: np.ndarray  # bool [rows]: whether the file exists
    how: str  # how the files were found, in words, if not as written
    elsewhere: Sequence[str]  # folders that have some of the files, with counts, in words


def locate(table: Path, folder: Path, cells: Sequence[str]) -> Located:
    """File of a table, the folder from which its paths count, its cells of files -> the files.

    Raises:
        ArgumentError: The cells are addresses on the web, or two folders have all of the files.
        ImageError: A name without a suffix matches several files.
    """
    names = [_local(cell) for cell in cells]
    web = next((name for name in names if "://" in name), None)
    if web is not None:
        raise ArgumentError(
            f"{table}: an image must be a file on a disk. Received: {web}. Download the files, and write their paths"
        )
    served = any(_UPLOADED in cell or _SERVED in cell for cell in cells)
    how = "paths of Label Studio" if served else ""
    listings = _Listings(folder)
    first = _reading(listings, "", names)
    if first.there.any():
        return first._replace(how=how)
    plain = [_UPLOAD_PREFIX.sub("", name) for name in names]
    versions = [(names, how)]
    if served and len({*plain}) == len({*names}):
        versions.append((plain, "names without the prefix of Label Studio"))
    readings = [
        reading._replace(how=", ".join(filter(None, [words, f"files in {place}/" if place else ""])))
        for version, words in versions
        for place in ("", *_places(folder))
        for reading in [_reading(listings, place, version)]
    ]
    whole = [reading for reading in readings if reading.there.all()]
    if len(whole) > 1:
        listed = " and ".join(reading.how for reading in whole)
        raise ArgumentError(
            f"{table}: names no file that is there as written, and all of them can be found in two ways: {listed}. "
            "Write the folder into the paths, or move the table into it"
        )
    some = sorted((reading for reading in readings if reading.there.any()), key=lambda each: -each.there.sum())
    elsewhere = [f"{reading.how}: {reading.there.sum():,}" for reading in some[:FOLDERS_LISTED]]
    return whole[0] if whole else first._replace(how=how, elsewhere=elsewhere)


def _local(cell: str) -> str:
    """Cell -> path with `/`: Windows writes `\\`, which is in no name of a file that it has made."""
    for mark in (_SERVED, _UPLOADED):
        if mark in cell:
            path = cell.partition(mark)[2]
            return unquote(path) if mark == _SERVED else os.path.basename(urlsplit(unquote(path)).path)
    return cell.replace("\\", "/").removeprefix("./")


def _places(folder: Path) -> Iterator[str]:
    """Folder of a table -> other folders where its images may lie, relative to it."""
    yield from _folders(folder, "")
    if folder.name.lower() in _PLACES:
        yield ".."
        yield from (place for place in _folders(folder, "..") if place != f"../{folder.name}")


def _folders(folder: Path, place: str) -> list[str]:
    entries = os.scandir(folder / place)
    return sorted(os.path.join(place, entry.name) for entry in entries if entry.is_dir() and not is_hidden(entry.name))


class _Listings:
    """Names of files by folder; each folder is listed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, frozenset[str]] = {}
        self._by_stem: dict[str, dict[str, list[str]]] = {}
        self._composed: dict[str, dict[str, str]] = {}

    def found(self, path: str) -> str | None:
        """Path -> the path under which the file is there: macOS writes the letters of a name in another form."""
        parent, name = os.path.split(path)
        if name in self.names(parent):
            return path
        if not name.isascii():
            composed = self.composed(parent).get(unicodedata.normalize("NFC", name))
            return None if composed is None else os.path.join(parent, composed)
        there = bool(self.names(parent)) and os.path.isfile(self.folder / path)  # in other capitals, on some systems
        return path if there else None

    def composed(self, parent: str) -> dict[str, str]:
        """Folder -> names of its files, by their form with composed letters."""
        if parent not in self._composed:
            self._composed[parent] = {unicodedata.normalize("NFC", name): name for name in sorted(self.names(parent))}
        return self._composed[parent]

    def names(self, parent: str) -> frozenset[str]:
        if parent not in self._names:
            try:
                self._names[parent] = frozenset(os.listdir(self.folder / parent))
            except OSError:
                self._names[parent] = frozenset()
        return self._names[parent]

    def with_stem(self, parent: str, stem: str) -> list[str]:
        """-> images in a folder whose names are this stem and a suffix."""
        if parent not in self._by_stem:
            stems: dict[str, list[str]] = {}
            for name in sorted(self.names(parent)):
                if has_image_suffix(name):
                    stems.setdefault(os.path.splitext(name)[0], []).append(name)
            self._by_stem[parent] = stems
        return self._by_stem[parent].get(stem, [])


def _reading(listings: _Listings, place: str, names: Sequence[str]) -> Located:
    """Files as names in a folder, with the suffix that a name lacks."""
    paths = []
    there = np.zeros(len(names), bool)
    for row, name in enumerate(names):
        path = os.path.join(place, name)
        if (as_written := listings.found(path)) is not None:
            path, there[row] = as_written, True
        elif not has_image_suffix(name):
            parent, stem = os.path.split(path)
            found = listings.with_stem(parent, stem)
            if len(found) > 1:
                raise ImageError(f"{listings.folder / path} matches {' and '.join(found)}; write the whole file name")
            if found:
                path, there[row] = os.path.join(parent, found[0]), True
        paths.append(path)
    return Located(paths, there, "", ())
