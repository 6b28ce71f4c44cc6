"""Data as the user names it -> source of its images with the targets of a task."""

import os
from collections.abc import Sequence
from typing import cast

from keras_resnet.data.base import Source
from keras_resnet.data.splits import ALL, SPLITS, Split
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks import TASKS
from keras_resnet.tasks.base import Task


def open_source(
    data: str | os.PathLike[str],
    split: str,
    class_names: Sequence[str] | None = None,
    void_labels: Sequence[int] = (),
) -> Source:
    """Data, "train" or "val", class names -> images of that split, with their classes or masks.

    If data has no validation split, a tenth of each class is held out of "train" for "val": the images whose names have
    the smallest hashes, so that a new image moves at most one other image.

    Args:
        data: A folder of class folders; a folder with `train/` and `val/` (or `validation/`, `test/`) of class folders;
            a CSV file with a column `file` or `path`, one of `index`, `wnid`, `label`, `name` and `class`, and maybe
            `split`; a folder that `keras-resnet data pack` wrote; an .npz archive with the arrays x_train, y_train and
            maybe x_val, y_val (or x_test, y_test); or `tfds:NAME`, a data set of tensorflow-datasets. With masks: a
            folder with `train/images/` and `train/masks/`, or `images/train/` and `masks/train/` (and `val`, as above),
            or `images/` and `masks/`; or a CSV file with the columns `file` or `path`, `mask`, and maybe `split`.
        class_names: Names of the classes, in order. Default: the names in the data, sorted, numbers by their value;
            for masks, the names in `classes.csv`, or "class 0" and so on.
        void_labels: Labels of the masks, besides 255, that mark pixels without a class.

    Raises:
        ArgumentError: No such data, a class that `class_names` does not have, or images and masks that form no pairs.
        ImageError: A folder has no images.
    """
    if split not in ("train", "val"):
        raise ArgumentError(f"`split` must be 'train' or 'val'. Received: split={split!r}")
    return _open(data, split, class_names, void_labels)


def open_split(
    data: str | os.PathLike[str], split: str, class_names: Sequence[str] | None = None, void_labels: Sequence[int] = ()
) -> list[Source]:
    """Data, any of `SPLITS`, class names -> sources that hold the images of that split; see `open_source`.

    For "all", data without a validation split is one source, in the order of the data.
    """
    if split not in SPLITS:
        raise ArgumentError(f"`split` must be one of {', '.join(SPLITS)}. Received: split={split!r}")
    if split in ("train", "val"):
        return [open_source(data, cast(Split, split), class_names, void_labels)]
    source = _open(data, ALL, class_names, void_labels)
    if source.split == ALL:
        return [source]
    return [source, open_source(data, "val", class_names, void_labels)]


def _open(
    data: str | os.PathLike[str], split: str, class_names: Sequence[str] | None, void_labels: Sequence[int]
) -> Source:
    text = os.fspath(data)
    task = task_of_data(text)
    if "void_labels" in task.options("data"):
        return task.open(text, split, class_names, void_labels=void_labels)
    source = task.open(text, split, class_names)
    if void_labels:
        raise ArgumentError(
            f"`void_labels` are only for folders and CSV files with masks. "
            f"Received: void_labels={[*void_labels]} for {text}"
        )
    return source


def open_for(
    task: Task,
    network: str,
    data: str | os.PathLike[str],
    split: str,
    class_names: Sequence[str] | None,
    classes: int | None,
    void_labels: Sequence[int] = (),
) -> list[Source]:
    """Data, split, task and number of classes of a network (None: unknown) -> sources; see `open_split`.

    Raises:
        ArgumentError: The data is laid out for another task, or has another number of classes.
    """
    check_layout(data, task, network)
    sources = open_split(data, split, class_names, void_labels)
    for source in sources:
        if classes is not None and len(source.classes) != classes:
            raise ArgumentError(f"{data}: must have the {classes} classes of {network}. It has {len(source.classes)}")
    return sources


def check_layout(data: str | os.PathLike[str], task: Task, network: str) -> None:
    """Raises `ArgumentError` if the data's layout belongs to another task than `task`, the task of `network`."""
    other = task_of_data(os.fspath(data))
    if other is not task:
        raise ArgumentError(f"{data}: {network} is for {task.title}, but these images are for {other.title}")


def task_of_data(text: str) -> Task:
    """Data as users name it -> task of its layout.

    If several layouts fit, the last task of the table wins. Its layout is the most specific: images/ is a folder too.
    """
    return [task for task in TASKS.values() if task.has_layout(text)][-1]
