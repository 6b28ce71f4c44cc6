"""Answers for millions of images on many machines: Ray Data reads the images and writes Parquet files.

pip install 'keras-resnet-runtime[onnx]' 'ray[data]' typer
python examples/predict_ray.py out/model-int8.onnx /shared/photos --out /shared/answers

On a cluster, start it with `ray job submit`. Give the command again after a failure: it answers only for the images
that have no row yet. All machines must see the artifact, the images and the folder of answers at these paths.
"""

import os
from pathlib import Path
from typing import Annotated

os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")

import pyarrow
import ray
import typer
from answer_schema import SCHEMA
from ray.data import ActorPoolStrategy, DataContext
from ray.data.checkpoint import CheckpointConfig

import keras_resnet
from keras_resnet.predictor import Predictor

# Ray's own default is to restart a lost worker without end: an image that ends its process would do so for ever.
MOST_RESTARTS = 3

# Beside the workers, Ray counts a CPU each for reading, for writing, and for leaving out the images that are done. With
# fewer, a command that continues would wait for ever.
OTHERS = 3


class Answers:
    """Batch with `path` and `bytes` of image files -> batch with the rows of `SCHEMA`.

    Each worker holds one of these for all of its batches. The predictor is sent to it by its path, and opened there.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        paths = batch["path"].to_pylist()
        rows = self.predictor.rows(batch["bytes"].to_pylist())
        return pyarrow.Table.from_pylist(
            [{"path": path, **row} for path, row in zip(paths, rows, strict=True)], schema=SCHEMA
        )


def main(
    model: Annotated[str, typer.Argument(help="Artifact, .keras file or folder.")],
    images: Annotated[list[str], typer.Argument(help="Files and folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder of answers; its folder `done` lists the images that have a row.")],
    workers: Annotated[int, typer.Option(help="Processes that answer, one CPU core each.")] = os.cpu_count() or 1,
    batch_size: Annotated[int, typer.Option(help="Images that the network takes at a time.")] = 16,
    blocks: Annotated[int | None, typer.Option(help="Parts of the work; an unfinished part is done again.")] = None,
) -> None:
    """Writes OUT/answers/*.parquet, with one row for each image."""
    predictor = keras_resnet.load(model, threads=1)
    if "RAY_ADDRESS" not in os.environ:  # there is no cluster, and Ray starts on this machine
        ray.init(num_cpus=workers + OTHERS)
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="path",
        checkpoint_path=str(out.absolute() / "done"),
        delete_checkpoint_on_success=False,  # otherwise a repeated command would write all rows a second time
    )
    answers = ray.data.read_binary_files(images, include_paths=True, override_num_blocks=blocks).map_batches(
        Answers,
        fn_constructor_args=(predictor,),
        compute=ActorPoolStrategy(size=workers),
        batch_size=batch_size,
        batch_format="pyarrow",
        max_restarts=MOST_RESTARTS,
        max_task_retries=MOST_RESTARTS,
    )
    answers.write_parquet(str(out.absolute() / "answers"))


if __name__ == "__main__":
    typer.run(main)
