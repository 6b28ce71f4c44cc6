"""The files of `predict --csv` and `--json`: their columns, and the row that an image of most tasks has."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from keras_resnet.answers import Answer
    from keras_resnet.tasks.base import Asked

Row = Mapping[str, Any]  # by column; a column that is missing or None is an empty cell
FILE, ERROR = "file", "error"  # columns of all tables


class Table(NamedTuple):
    """The form of a task's tables."""

    columns: tuple[str, ...]  # in the CSV file
    entry: Callable[[Row], Mapping[str, Any] | None]  # row -> its object in the JSON file; None: it has none


_RANKED_COLUMNS = (FILE, "predicted", "predicted_indices", "probabilities", "pixels_percent", "values", ERROR)
RANKED = Table(_RANKED_COLUMNS, lambda row: {column: row.get(column) for column in _RANKED_COLUMNS})


def ranked_row(task: Any, asked: "Asked", answer: "Answer", top: int | None, options: Mapping[str, Any]) -> Row:
    """Task with `ranked`, network, its answer for an image, number of classes to name, the task's options -> the row.

    The classes come in the order of `task.ranked`, and `task.ranked_count` of them where the user names no number. A
    task whose answers are no probabilities has no classes, only numbers.
    """
    indices, numbers = (part[: top or task.ranked_count] for part in task.ranked(asked, answer, options))
    if not task.bounded:
        return {task.ranked_by: [float(number) for number in numbers]}
    return {
        "predicted": [asked.name_of(index) for index in indices],
        "predicted_indices": indices.tolist(),
        task.ranked_by: [round(float(number), 6) for number in numbers],
    }
