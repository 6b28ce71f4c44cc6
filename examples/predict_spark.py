"""Answers for many images with Apache Spark, where the images are on storage that Spark reads.

pip install 'keras-resnet-runtime[onnx]' pyspark pandas pyarrow
spark-submit --py-files examples/answer_schema.py examples/predict_spark.py out/model-int8.onnx photos answers
"""

import sys
from collections.abc import Iterator

import pyarrow
from answer_schema import SCHEMA
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

import keras_resnet
from keras_resnet.predictor import Predictor

BATCH_SIZE = 16


class Answers:
    """Batches with `path` and `content` of image files -> batches with the rows of `SCHEMA`.

    The predictor is sent to a worker by its path, and opened there.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def __call__(self, batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        for batch in batches:
            rows = self.predictor.rows(batch["content"].to_pylist())
            paths = batch["path"].to_pylist()
            named = [{"path": path, **row} for path, row in zip(paths, rows, strict=True)]
            yield pyarrow.RecordBatch.from_pylist(named, schema=SCHEMA)


def main(model: str, images: str, out: str) -> None:
    """Artifact, folder of images, folder for Parquet files."""
    predictor = keras_resnet.load(model, threads=1)
    spark = SparkSession.builder.appName("keras-resnet").getOrCreate()
    # Otherwise a batch holds the bytes of up to 10,000 files.
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", BATCH_SIZE)
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(images)
    rows = files.select("path", "content").mapInArrow(Answers(predictor), from_arrow_schema(SCHEMA))
    rows.write.mode("overwrite").parquet(out)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
