"""Data as the user names it -> source of its images with the targets of a task."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from keras_resnet.data.annotations import is_json
from keras_resnet.data.base import Source
from keras_resnet.data.reading import PLAIN, READING, Reading
from keras_resnet.data.splits import ALL, SPLITS, Split
from keras_resnet.data.taken import left_aside
from keras_resnet.errors import ArgumentError
from keras_resnet.tasks import TASKS, task_named
from keras_resnet.tasks.base import Task


def open_source(
    data: str | os.PathLike[str],
    split: str,
    class_names: Sequence[str] | None = None,
    reading: Reading = PLAIN,
    task: str | None = None,
) -> Source:
    """Data, "train" or "val", class names -> images of that split, with their classes or masks.

    Data without a validation split of its own gives a tenth of each class to it, which train goes without: the images
    whose names have the smallest hashes, so that a new image moves no more than one other. Test images are never taken
    unless `reading` says so.

    Args:
        data: A folder of class folders; a folder with `train/` and `val/` of class folders; a CSV file with a column of
            files, one of classes, and maybe one of splits; a folder that `keras-resnet data pack` wrote; an .npz
            archive with the arrays x_train, y_train and maybe x_val, y_val; or `tfds:NAME`, of tensorflow-datasets.
            With masks: a folder with `train/images/` and `train/masks/`, or `images/train/` and `masks/train/` (and
            `val`), or `images/` and `masks/`; or a CSV file with columns of files and of masks. docs/data.md has the
            names by which folders and columns are known.
        class_names: Names of the classes, in order. Default: the names that are found, sorted, numbers by their value;
            for masks, the names in `classes.csv`, or "class 0" and so on.
        reading: What the data itself does not tell.
        task: Name of the task that the images are for; see `task_of_data`.

    Raises:
        ArgumentError: No such data, data for another task, data that can be read in two ways, or a class that
            `class_names` does not have.
        ImageError: A folder has no images.
    """
    if split not in ("train", "val"):
        raise ArgumentError(
            "`split` must be 'train' or 'val'; for test images, give 'val' and Reading(validation_split='test'). "
            f"Received: split={split!r}"
        )
    return _open(data, split, class_names, reading, task)


def open_split(
    data: str | os.PathLike[str],
    split: str,
    class_names: Sequence[str] | None = None,
    reading: Reading = PLAIN,
    task: str | None = None,
) -> list[Source]:
    """Data, any of `SPLITS`, class names -> sources that hold the images of that split; see `open_source`.

    For "all", data without a validation split is one source, in the order of the data.
    """
    if split not in SPLITS:
        raise ArgumentError(f"`split` must be one of {', '.join(SPLITS)}. Received: split={split!r}")
    if split in ("train", "val"):
        return [open_source(data, cast(Split, split), class_names, reading, task)]
    source = _open(data, ALL, class_names, reading, task)
    if source.split == ALL:
        return [source]
    return [source, open_source(data, "val", class_names, reading, task)]


def _open(
    data: str | os.PathLike[str], split: str, class_names: Sequence[str] | None, reading: Reading, wanted: str | None
) -> Source:
    text = os.fspath(data)
    task = task_of_data(text, reading, wanted)
    if wanted is not None and task_named(wanted) is not task:
        raise ArgumentError(
            f"{text} is for {task.title}: give task = {task.name} (--task {task.name}). Received: task = {wanted}"
        )
    for name, declared in READING.items():
        if not declared.suits(task.name) and getattr(reading, name) != declared.default:
            others = " or ".join(other.title for other in TASKS.values() if declared.suits(other.name))
            raise ArgumentError(
                f"`{name}` (--{name.replace('_', '-')}) is for {others}, and the images of {text} are for "
                f"{task.title}. Leave it out. Received: {name}={getattr(reading, name)!r}"
            )
    source = task.open(text, split, class_names, reading)
    if reading.strict and (reasons := left_aside([source]).lines):
        raise ArgumentError(
            f"{text}: files were left aside, which is an error with `strict` (--strict):",
            *(f"  {line}" for line in reasons),
        )
    return source


def open_for(
    task: Task,
    network: str,
    data: str | os.PathLike[str],
    split: str,
    class_names: Sequence[str] | None,
    classes: int | None,
    reading: Reading,
) -> list[Source]:
    """Data, split, task and number of classes of a network (None: unknown) -> sources; see `open_split`.

    Raises:
        ArgumentError: The data is laid out for another task, or has another number of classes.
    """
    check_layout(data, task, network, reading)
    sources = open_split(data, split, class_names, reading, task.name)
    for source in sources:
        if classes is not None and len(source.classes) != classes:
            raise ArgumentError(
                f"{data} has {len(source.classes)} classes, and {network} has {classes}. Give data with the classes of "
                "the network"
            )
    return sources


def check_layout(data: str | os.PathLike[str], task: Task, network: str, reading: Reading) -> None:
    """Raises `ArgumentError` if the data is laid out for another task than the network of this name."""
    other = task_of_data(os.fspath(data), reading, task.name)
    if other is not task:
        raise ArgumentError(
            f"{data}: {network} is for {task.title}, but these images are for {other.title}. Give a network for "
            f"{other.title}, or other images"
        )


def task_of_data(text: str, reading: Reading = PLAIN, wanted: str | None = None) -> Task:
    """Data as users name it, their choices about it -> the task that its layout is of.

    Some data is of several tasks: a JSON file with boxes names classes too, and Pascal VOC has boxes and masks. Then
    the wanted task is taken, if it is one of these, and otherwise the last task of the table. Everything else also has
    the layout of the first task, classification, which therefore is taken only if no other task fits.
    """
    fitting = {task.name: task for task in TASKS.values() if task.has_layout(text, reading)}
    stated = [*fitting] if is_json(Path(text)) else [*fitting][1:]
    return fitting[wanted] if wanted in stated else [*fitting.values()][-1]
