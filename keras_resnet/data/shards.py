"""Shards that `keras-resnet data pack` wrote: TFRecord files, and an index with the place of each image.

With the index, an epoch is a true permutation, workers share it exactly, and skipped records are not read. Not every
permutation can occur: blocks of neighbouring records are shuffled, and then the records within windows of such blocks.
So reads stay within a few hundred megabytes at a time, which the operating system is asked to read ahead. The shards
already hold the records in random order.
"""

import json
import os
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.array_files import Arrays
from keras_resnet.data.base import EncodedSource
from keras_resnet.data.targets import Target
from keras_resnet.errors import ArgumentError, ImageError, reason
from keras_resnet.regular_files import is_plain_name, read_text

DESCRIPTION, INDEX = "dataset.json", "index.npz"
FORMAT, VERSION = "keras-resnet dataset", 2
READ_VERSIONS = (1, 2)  # version 1 has other names of tasks

OLD_TASKS = {"classification": "classify", "segmentation": "segment"}  # names in version 1 -> names now

RECORDS_READ_AT_ONCE = 128  # number of records in a block
WINDOW = 32  # number of blocks whose records are shuffled together


class ShardSource(EncodedSource):
    """Images inside TFRecord files."""

    kind = "shards"

    def __init__(
        self,
        shards: list[str],
        shard: np.ndarray,
        offset: np.ndarray,
        length: np.ndarray,
        *arguments: Any,
        **options: Any,
    ) -> None:
        """`shard`, `offset` and `length`: for each image, index of its file, first byte and number of bytes."""
        super().__init__(*arguments, **options)
        self.shards, self.shard, self.offset, self.length = shards, shard, offset, length
        self._announced: OrderedDict[int, None] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, index: int) -> bytes:
        file = self.shards[self.shard[index]]
        try:
            descriptor = os.open(file, os.O_RDONLY)
            try:
                self._announce(descriptor, index // RECORDS_READ_AT_ONCE)
                encoded = os.pread(descriptor, int(self.length[index]), int(self.offset[index]))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ImageError(f"{file}: {error.strerror or error}") from error
        if len(encoded) < self.length[index]:
            raise ImageError(f"{file} is shorter than it was when it was packed")
        return encoded

    def order(self, seed: int, epoch: int) -> np.ndarray:
        draw = np.random.default_rng([seed, epoch])
        blocks = -(-self.count // RECORDS_READ_AT_ONCE)
        window = draw.permutation(blocks) // WINDOW
        # The keys sort blocks by window, and put records of a window in random order.
        return np.argsort(np.repeat(window, RECORDS_READ_AT_ONCE)[: self.count] + draw.random(self.count))

    def _announce(self, descriptor: int, block: int) -> None:
        """Tells the operating system that a block will be read soon, unless it was told recently."""
        if not hasattr(os, "posix_fadvise"):
            return
        with self._lock:
            if block in self._announced:
                return
            self._announced[block] = None
            if len(self._announced) > 4 * WINDOW:
                self._announced.popitem(last=False)
        first, last = block * RECORDS_READ_AT_ONCE, min((block + 1) * RECORDS_READ_AT_ONCE, self.count) - 1
        same = np.flatnonzero(self.shard[first : last + 1] == self.shard[first])[-1]
        begin, end = int(self.offset[first]), int(self.offset[first + same] + self.length[first + same])
        os.posix_fadvise(descriptor, begin, end - begin, os.POSIX_FADV_WILLNEED)


def read_dataset_description(folder: Path) -> dict[str, Any]:
    """Folder of shards -> content of its `dataset.json`.

    Raises:
        ArgumentError: `data pack` did not write the file.
    """
    try:
        description = json.loads(read_text(folder / DESCRIPTION))
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{folder / DESCRIPTION} can't be read: {reason(error)}") from error
    if (
        not isinstance(description, dict)
        or description.get("format") != FORMAT
        or description.get("version") not in READ_VERSIONS
    ):
        raise ArgumentError(f"{folder / DESCRIPTION} was not written by this version of `keras-resnet data pack`")
    wrong = next((rule for rule, holds in _rules(description) if not holds), None)
    if wrong is not None:
        raise ArgumentError(f"{folder / DESCRIPTION} is damaged: {wrong}. Pack the set again")
    return description


def _rules(description: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Untrusted content of `dataset.json` -> rule, whether it holds. A check may assume that earlier checks passed."""
    classes: Any = description.get("classes")
    splits: Any = description.get("splits")
    yield "`classes` must be a list of texts", isinstance(classes, list) and all(isinstance(c, str) for c in classes)
    yield "`classes` must have no name twice, and at least one", 0 < len(set(classes)) == len(classes)
    yield "`validation` must be a text", isinstance(description.get("validation"), str)
    yield "`splits` must be an object", isinstance(splits, dict)
    yield "`splits` must have `train` and `val`", splits.keys() == {"train", "val"}
    for name, split in splits.items():
        yield f"`{name}` must be an object with `shards`", isinstance(split, dict) and "shards" in split
        yield f"`shards` of `{name}` must be a list", isinstance(split["shards"], list)
        for shard in split["shards"]:
            yield f"`shards` of `{name}` must hold objects", isinstance(shard, dict)
            file, size_bytes = shard.get("file"), shard.get("bytes")
            yield f"`file` of a shard must be a name in the folder: {file!r}"[:200], is_plain_name(file)
            yield f"`bytes` of {file} must be a number of bytes", type(size_bytes) is int and 0 <= size_bytes < 2**63


def task_of_index(description: dict[str, Any]) -> str:
    """Content of `dataset.json` -> name of the task. Sets from before there were several tasks don't name it."""
    task = str(description.get("task", "classification"))
    return OLD_TASKS.get(task, task)


def read_index(
    folder: Path, split: str, description: dict[str, Any], target: Target
) -> tuple[list[str], dict[str, np.ndarray], list[str]]:
    """Folder of shards, split, its description, kind of the targets -> paths of the shards, arrays of the index, names
    of the images.

    Raises:
        ArgumentError: A shard or the index is missing, or is not the one that was packed.
    """
    if (task := task_of_index(description)) != target.task:
        raise ArgumentError(f"{folder / DESCRIPTION}: its `task` is unknown. Received: {task}")
    shards = description["splits"][split]["shards"]
    for shard in shards:
        path = folder / shard["file"]
        size = path.stat().st_size if path.is_file() else None
        if size != shard["bytes"]:
            found = "it is missing" if size is None else f"it has {size:,} bytes"
            raise ArgumentError(f"{path}: {found}, but had {shard['bytes']:,} when it was packed; pack the set again")
    try:
        with Arrays(folder / INDEX) as archive:
            index = {
                name: archive[f"{split}_{name}"]
                for name in ("shard", "offset", "length", *target.columns, "names", "name_ends")
            }
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ArgumentError(f"{folder / INDEX} can't be read: {reason(error)}; pack the set again") from error
    sizes_bytes = np.array([shard["bytes"] for shard in shards], "int64")
    rules = _index_rules(index, sizes_bytes, target, len(description["classes"]))
    wrong = next((rule for rule, holds in rules if not holds), None)
    if wrong is not None:
        raise ArgumentError(f"{folder / INDEX} is damaged: of {split}, {wrong}; pack the set again")
    return [str(folder / shard["file"]) for shard in shards], index, names_from(index["names"], index["name_ends"])


def _index_rules(
    index: dict[str, np.ndarray], sizes_bytes: np.ndarray, target: Target, classes: int
) -> Iterator[tuple[str, bool]]:
    """Untrusted index of a split, bytes of its shards, kind of the targets, number of classes -> rule, whether it
    holds. A check may assume that earlier checks passed.
    """
    for name, values in index.items():
        yield f"{name} must hold whole numbers in one row", values.ndim == 1 and values.dtype.kind in "iu"
    count = len(index["shard"])
    for name in (name for name in index if name != "names"):
        yield f"{name} must have {count} numbers, one for each image", len(index[name]) == count
    yield f"shard must lie in 0..{len(sizes_bytes) - 1}", _all_in(index["shard"], 0, len(sizes_bytes))
    of_shard = sizes_bytes[index["shard"].astype("int64")]
    for what in ("", f"{target.feature}_"):
        if f"{what}offset" not in index:  # the target is a number in the index itself
            yield f"{target.feature} must lie in 0..{classes - 1}", _all_in(index[target.feature], 0, classes)
            continue
        length, offset = index[f"{what}length"], index[f"{what}offset"]
        yield f"{what}length must lie in the file", _all_in(length, 1, of_shard + 1)
        yield f"{what}offset must lie in the file", _all_in(offset, 0, of_shard - length.astype("int64") + 1)
    yield "names must be bytes", index["names"].dtype == np.uint8
    ends = np.concatenate([[0], index["name_ends"].astype("int64")])
    yield (
        "name_ends must rise to the end of names",
        bool((np.diff(ends) >= 0).all()) and ends[-1] == len(index["names"]),
    )


def _all_in(values: np.ndarray, first: int, end: "int | np.ndarray") -> bool:
    """Whole numbers -> whether all lie in `first` to below `end`."""
    return bool(((values >= first) & (values < end)).all())


def names_to(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Names -> their joined bytes, uint8, and the end of each name."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    ends = np.cumsum([len(name) for name in encoded], dtype="int64")
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def names_from(encoded: np.ndarray, ends: np.ndarray) -> list[str]:
    text = encoded.tobytes()
    begins = [0, *ends.tolist()][:-1]
    return [text[a:b].decode("utf-8", "surrogateescape") for a, b in zip(begins, ends.tolist(), strict=True)]


def open_pair(
    folder: Path, split: str, description: dict[str, Any], classes: Sequence[str], target: Target
) -> tuple[ShardSource, ShardSource]:
    """Folder of shards whose targets are bytes, split, its description, class names, target -> source of the images,
    source of the targets.

    Raises:
        ArgumentError: A shard or the index is missing or damaged; see `read_index`.
    """
    shards, index, names = read_index(folder, split, description, target)
    held_out = description["validation"] != "its own"
    images, targets = (
        ShardSource(
            shards,
            *(index["shard"], index[f"{what}offset"], index[f"{what}length"]),
            *(str(folder), split, classes, names, None),
            held_out=held_out,
            target=target,
        )
        for what in ("", f"{target.feature}_")
    )
    return images, targets
