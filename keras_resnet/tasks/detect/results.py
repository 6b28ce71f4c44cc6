"""Detections in COCO's form of results."""

from collections.abc import Iterator
from typing import Any

from keras_resnet.evaluation.average_precision import Found


def result_rows(image_id: int, file_name: str, found: Found) -> Iterator[dict[str, Any]]:
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
