"""Detections as rows of tables: in COCO's form of results, and for CSV files."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keras_resnet.tasks.tables import ERROR, FILE, Row, Table

if TYPE_CHECKING:
    from keras_resnet.answers import Answer
    from keras_resnet.evaluation.average_precision import Found
    from keras_resnet.tasks.base import Asked, ReadFile

_RESULT = "result"  # the entry of `result_rows`, which is no column of a CSV file
TABLE = Table(
    (FILE, "image_id", "predicted", "predicted_index", "score", "xmin", "ymin", "xmax", "ymax", ERROR),
    lambda row: row.get(_RESULT),
)


def table_rows(
    asked: "Asked", image: "ReadFile", answer: "Answer", top: int | None, threshold: float | None
) -> list[Row]:
    """Network, an image, detections in it, number of them to name, smallest score -> a row for each detection, the best
    first. An image without detections has a row without a box.

    Raises:
        MissingDependencyError: There are masks, and pycocotools is not installed.
    """
    from keras_resnet.tasks.detect.answers import found_of, shown_of

    image_id = image.place + 1
    found = found_of(shown_of(answer, threshold, top), *image.pixels.shape[:2])
    rows: list[Row] = []
    for entry, box in zip(result_rows(image_id, image.path, found), found.boxes.tolist(), strict=True):
        index = entry["category_id"] - 1
        rows.append(
            {
                "image_id": image_id,
                "predicted": asked.name_of(index),
                "predicted_index": index,
                "score": entry["score"],
                **dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)),
                _RESULT: entry,
            }
        )
    return rows or [{"image_id": image_id}]


def result_rows(image_id: int, file_name: str, found: "Found") -> Iterator[dict[str, Any]]:
    """Number of an image, its file, detections in it -> the entry of each.

    `category_id` is the index of the class plus 1, as in COCO's own files for the published networks. `bbox` is left,
    top, width and height in pixels.
    """
    boxes = found.boxes.astype(float).tolist()
    for place, (left, top, right, bottom) in enumerate(boxes):
        row = {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": int(found.classes[place]) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "score": float(found.scores[place]),
        }
        if found.masks is not None:
            code = found.masks[place]
            row["segmentation"] = {"size": code["size"], "counts": code["counts"].decode("ascii")}
        yield row
