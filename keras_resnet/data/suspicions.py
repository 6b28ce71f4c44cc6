"""What looks wrong with a set of images, so that training on it would be wrong, too."""

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from keras_resnet.data.base import Source
from keras_resnet.data.check import Look
from keras_resnet.data.copies import alike, equal_pairs, near_pairs
from keras_resnet.data.layout import split_named
from keras_resnet.data.pairs import IMAGE_FOLDERS, MASK_FOLDERS
from keras_resnet.data.tables import normal
from keras_resnet.data.taken import CLASSES_LISTED


def suspicions(train: Source, val: Source, looks: Sequence[Look], single_answer: bool) -> Iterator[str]:
    """Training and validation images, what a pass over each found, whether an image has one class -> what looks wrong,
    in lines."""
    if len(train.classes) < 2 and single_answer:
        yield f"there is one class, {train.classes[0]}: a network learns to answer it whatever it sees"
    for name in train.classes:
        if split_named(name) is not None:
            yield f"class {name!r} has the name of a split: see --folders"
        elif name.lower() in (*IMAGE_FOLDERS, *MASK_FOLDERS):
            yield f"class {name!r} has the name of a folder of images or masks, and is one class here"
    alike_names: dict[str, list[str]] = {}
    for name in train.classes:
        alike_names.setdefault(normal(unicodedata.normalize("NFKC", name)), []).append(name)
    for names in alike_names.values():
        if len(names) > 1:
            yield f"classes whose names differ only in capitals, spaces or the like: {', '.join(names)}"
    inner = train.taken.inner if train.taken is not None else ()
    if inner:
        outer = inner[0].partition("/")[0]
        yield (
            f"images lie in folders inside class folders: {len(inner)} (such as {inner[0]}/), and count for the outer "
            f"class, {outer}. If the inner folders are the classes, move them up"
        )
    for source in (train, val):
        absent = [name for name, count in zip(source.classes, source.class_counts, strict=True) if not count]
        if absent:
            yield f"{source.split} has no {source.counted.removesuffix('s')} of {_listed(absent, CLASSES_LISTED)}"
    if all(len(source.labels) == source.count for source in (train, val)):
        yield from _contradictions((train, val), looks)
    yield from _copies(train, val, looks)


def _contradictions(sources: Sequence[Source], looks: Sequence[Look]) -> Iterator[str]:
    """-> a line on equal images that have different classes."""
    files = np.concatenate([look.files for look in looks])
    labels = np.concatenate([source.labels[look.indices] for source, look in zip(sources, looks, strict=True)])
    order = np.lexsort((labels, files))
    files, labels = files[order], labels[order]
    second = 1 + np.flatnonzero((files[1:] == files[:-1]) & (labels[1:] != labels[:-1]))
    if not len(second):
        return
    counts = np.cumsum([0, *(len(look.indices) for look in looks)])

    def name(place: int) -> str:
        part = int(place >= counts[1])
        return sources[part].name_of(int(looks[part].indices[place - counts[part]]))

    one, other = name(order[second[0] - 1]), name(order[second[0]])
    yield _line("equal images with different classes", len(second), one, other, "=")


def _copies(train: Source, val: Source, looks: Sequence[Look]) -> Iterator[str]:
    """-> lines on validation images that training has, too."""
    equal = equal_pairs(looks[0].files, looks[1].files)
    found = [("images of val that are training images, too", "=", equal)]
    if looks[0].views is not None and looks[1].views is not None:
        others = np.setdiff1d(np.arange(len(looks[1].files)), equal[:, 1])
        near = near_pairs(looks[0].views, looks[1].views[others])
        near[:, 1] = others[near[:, 1]]
        kept = alike(train, val, _indices(near, looks))
        found.append(("images of val that look like training images", "~", near[kept]))
    for title, mark, pairs in found:
        if len(pairs):
            one, other = _indices(pairs[:1], looks)[0].tolist()
            yield _line(title, len(pairs), train.name_of(one), val.name_of(other), mark)


def _indices(pairs: np.ndarray, looks: Sequence[Look]) -> np.ndarray:
    """Places in what was looked at `[n, 2]` -> indices of the images in their sources."""
    return np.stack([looks[0].indices[pairs[:, 0]], looks[1].indices[pairs[:, 1]]], axis=1)


def _line(title: str, count: int, one: str, other: str, mark: str) -> str:
    return f"{title}: {count:,} ({'such as ' if count > 1 else ''}{one} {mark} {other})"


def _listed(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
