"""One row for each image, whatever the task, for tables that many machines write together and for servers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_resnet.answers import BOXES, MASK
from keras_resnet.tasks.base import ReadFile
from keras_resnet.tasks.tables import ERROR

if TYPE_CHECKING:
    import numpy as np

    from keras_resnet.answers import Answer
    from keras_resnet.tasks.base import Asked, Task

OBJECTS = "objects"  # column of detectors
# Every row has all of these columns, so that one schema fits the rows of all tasks.
COLUMNS = ("predicted", "predicted_indices", "probabilities", "pixels_percent", "values", OBJECTS, MASK, ERROR)
_OF_OBJECTS = ("predicted", "predicted_index", "score", "xmin", "ymin", "xmax", "ymax")
_OUTLINES = ("segmentation",)  # in COCO's results


def image_row(
    task: "Task", asked: "Asked", pixels: "np.ndarray", answer: "Answer", options: Mapping[str, Any]
) -> dict[str, Any]:
    """Network, prepared image, its answer, options of the task's `rows` -> row with all `COLUMNS`.


    A column without a value is None. `mask` is a PNG file as bytes, and `objects` has a dictionary for each object.
    """
    empty = dict.fromkeys(COLUMNS)
    rows = task.rows(asked, ReadFile(0, "", pixels), answer, None, options)
    if BOXES in answer:
        return {**empty, OBJECTS: [_object(row) for row in rows if "score" in row]}
    [row] = rows
    if MASK not in answer:
        return {**empty, **row}
    from keras_resnet.tasks.segment.overlay import mask_png, palette

    return {**empty, **row, MASK: mask_png(answer[MASK], palette(asked.classes))}


def unreadable_row(reason: str) -> dict[str, Any]:
    """Why an image can't be read -> its row."""
    return {**dict.fromkeys(COLUMNS), ERROR: reason}


def _object(row: Mapping[str, Any]) -> dict[str, Any]:
    masks = {name: row["result"][name] for name in _OUTLINES if name in row["result"]}
    return {**{name: row[name] for name in _OF_OBJECTS}, **masks}
