"""Data sets of tensorflow-datasets, by random access: prepared once in its array_record format."""

import importlib
from typing import Any

import numpy as np

from keras_resnet.data.base import EncodedSource
from keras_resnet.errors import ArgumentError, ImageError, MissingDependencyError, reason

SPLIT_OF = {"val": "validation", "test": "test"}  # names of splits in tensorflow-datasets


class RecordSource(EncodedSource):
    """Records with the features `image` (encoded bytes) and `label`."""

    kind = "tfds"

    def __init__(self, records: Any, rows: np.ndarray, *arguments: Any, **options: Any) -> None:
        """`rows`: indices of the records that belong to the source."""
        super().__init__(*arguments, **options)
        self.records, self.rows = records, rows

    def read(self, index: int) -> bytes:
        try:
            return bytes(self.records[int(self.rows[index])]["image"])
        except (OSError, ValueError, RuntimeError) as error:
            raise ImageError(reason(error)) from error


def open_records(name: str, split: str, validation: str) -> tuple[Any, np.ndarray, list[str], bool]:
    """Name, split, split that validates -> records, labels `[N]`, names of the classes, whether that split is there.

    Without a validation split, every split gets the records of `train`. Reading the labels takes a pass over the
    records, without decoding the images.

    Raises:
        MissingDependencyError: tensorflow-datasets is not installed.
        ArgumentError: There is no such data set, or it does not hold images and labels.
    """
    try:
        tfds = importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise MissingDependencyError(
            f"data 'tfds:{name}' needs the package tensorflow-datasets: pip install tensorflow-datasets array_record"
        ) from error
    try:
        builder = tfds.builder(name, file_format="array_record")
        builder.download_and_prepare()
        features = builder.info.features
        if not {"image", "label"} <= {*features} or not hasattr(features["label"], "names"):
            raise ArgumentError(f"tfds:{name}: its features must be image and label. Received: {', '.join(features)}")
        own = SPLIT_OF[validation] if SPLIT_OF[validation] in builder.info.splits else None
        wanted = own if split == "val" and own else "train"
        records = builder.as_data_source(split=wanted, decoders={"image": tfds.decode.SkipDecoding()})
    except (OSError, ValueError, NotImplementedError, AssertionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"tfds:{name}: {reason(error)}") from error
    labels = np.array([record["label"] for record in records], "int64")
    return records, labels, list(features["label"].names), own is not None
