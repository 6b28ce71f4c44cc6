"""The columns of `Predictor.rows` as a schema of Arrow, which Ray, Beam and Spark take. `path` names the image."""

import pyarrow

_OBJECT = pyarrow.struct(
    [
        ("predicted", pyarrow.string()),
        ("predicted_index", pyarrow.int64()),
        ("score", pyarrow.float64()),
        ("xmin", pyarrow.float64()),
        ("ymin", pyarrow.float64()),
        ("xmax", pyarrow.float64()),
        ("ymax", pyarrow.float64()),
        # The mask of an object, as run lengths in COCO's form.
        ("segmentation", pyarrow.struct([("size", pyarrow.list_(pyarrow.int64())), ("counts", pyarrow.string())])),
    ]
)

SCHEMA = pyarrow.schema(
    [
        ("path", pyarrow.string()),
        ("predicted", pyarrow.list_(pyarrow.string())),
        ("predicted_indices", pyarrow.list_(pyarrow.int64())),
        ("probabilities", pyarrow.list_(pyarrow.float64())),
        ("pixels_percent", pyarrow.list_(pyarrow.float64())),
        ("values", pyarrow.list_(pyarrow.float64())),
        ("objects", pyarrow.list_(_OBJECT)),
        ("mask", pyarrow.binary()),  # a PNG file
        ("error", pyarrow.string()),
    ]
)
