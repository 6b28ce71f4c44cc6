"""Answers for many images with Apache Beam, whose runners include Dataflow, Flink and this machine.

pip install 'keras-resnet-runtime[onnx]' 'apache-beam'
python examples/predict_beam.py out/model-int8.onnx '/shared/photos/**' /shared/answers/part --runner DirectRunner
"""

import sys
from collections.abc import Iterator
from typing import Any

import apache_beam
from answer_schema import SCHEMA
from apache_beam.io import fileio
from apache_beam.options.pipeline_options import PipelineOptions

import keras_resnet
from keras_resnet.predictor import Predictor

BATCH_SIZE = 16


class Answers(apache_beam.DoFn):
    """Image files -> the rows of `SCHEMA`. The predictor is sent to a worker by its path, and opened there."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def process(self, files: list[Any]) -> Iterator[dict[str, Any]]:
        rows = self.predictor.rows([file.read() for file in files])
        for file, row in zip(files, rows, strict=True):
            yield {"path": file.metadata.path, **row}


def main(model: str, images: str, out: str, *options: str) -> None:
    """Artifact, glob of image files, start of the names of the Parquet files, options of Beam."""
    predictor = keras_resnet.load(model, threads=1)
    with apache_beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        (
            pipeline
            | fileio.MatchFiles(images)
            | fileio.ReadMatches()
            | apache_beam.BatchElements(max_batch_size=BATCH_SIZE)
            | apache_beam.ParDo(Answers(predictor))
            | apache_beam.io.WriteToParquet(out, SCHEMA, file_name_suffix=".parquet")
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
