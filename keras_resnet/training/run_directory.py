"""The files of a run: its recipe, environment and data, its history, and its curves."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras

from keras_resnet.environment import environment
from keras_resnet.errors import ArgumentError, MissingDependencyError
from keras_resnet.one_writer import only_writer
from keras_resnet.optional import require
from keras_resnet.training.checkpoint import TrainingProgress, checkpoints
from keras_resnet.training.processes import PeerLostError
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.run_files import CHECKPOINTS, DATA, ENVIRONMENT, HISTORY, PROBLEMS, RECIPE
from keras_resnet.whole_files import partial_files, remove_partial_files, whole_file, write_whole


@contextmanager
def claimed(run: Path, recipe: Recipe, progress: TrainingProgress) -> Iterator[None]:
    """`with claimed(run, recipe, progress):` makes the directory of a new run, and writes its recipe.

    If the block fails before the first step is done, the files of the run are removed again, and the directory too if
    it was made here, so that the corrected command can use it. Other files in the directory stay. A process that is
    killed or interrupted leaves all files.

    Raises:
        ArgumentError: The directory is not empty, or another process writes to it.
    """
    existed = run.exists()
    taken = ArgumentError(
        f"--out must be a new or empty folder; --resume {run} continues an interrupted run. Received: {run}"
    )
    if existed and not run.is_dir():
        raise taken
    run.mkdir(parents=True, exist_ok=True)
    with only_writer(run):
        # A run that was killed while it wrote its recipe has left nothing else.
        if {*run.iterdir()} - {*partial_files(run / RECIPE)}:
            raise taken
        try:
            write_whole(run / RECIPE, recipe.to_toml().encode())
            yield
        except Exception as error:
            # If another process is lost, this process keeps its files: the error asks to resume the run in all of them.
            if progress.step == 0 and not isinstance(error, PeerLostError):
                _give_back(run, keep_folder=existed)
            raise


def _give_back(run: Path, keep_folder: bool) -> None:
    """Removes the files that a run writes before its first step is done."""
    with suppress(OSError):  # the first error matters; and the folder may hold other files
        for path in (*(run / name for name in (RECIPE, ENVIRONMENT, DATA, PROBLEMS)), *checkpoints(run / CHECKPOINTS)):
            path.unlink(missing_ok=True)
        if (run / CHECKPOINTS).exists():
            (run / CHECKPOINTS).rmdir()
        if not keep_folder:
            run.rmdir()


def describe_run(run: Path, devices: str, training: dict[str, Any], validation: dict[str, Any]) -> None:
    """Writes `environment.json` and `data.json`, and removes files that an interrupted process left half-written."""
    remove_partial_files(run)
    remove_partial_files(run / CHECKPOINTS)
    made_with = environment() | {"devices": devices, "backend": keras.backend.backend()}
    write_whole(run / ENVIRONMENT, (json.dumps(made_with, indent=2) + "\n").encode())
    write_whole(run / DATA, (json.dumps({"train": training, "val": validation}, indent=2) + "\n").encode())


def write_history(run: Path, history: Sequence[dict[str, Any]]) -> None:
    """Rows, one for each epoch -> `history.csv`."""
    if not history:
        return
    text = io.StringIO(newline="")
    columns = dict.fromkeys(name for row in history[::-1] for name in row)  # rows of an old run lack columns
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(run / HISTORY, text.getvalue().encode())


def log_to_tensorboard(run: Path, row: dict[str, Any]) -> None:
    """Row of the history -> an event of TensorBoard under `tensorboard/`, at the epoch's last step."""
    import tensorflow as tf

    # tf.summary.scalar would need TensorBoard, which only reads these files.
    metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
    with tf.summary.create_file_writer(str(run / "tensorboard")).as_default(row["step"]):
        for name, value in row.items():
            if name not in ("epoch", "step"):
                tf.summary.write(name, tf.cast(value, tf.float32), metadata=metadata)


def plot_history(run: Path, history: Sequence[dict[str, Any]], titles: Mapping[str, str]) -> Path | None:
    """Rows, one for each epoch, titles by column -> `curves.png` with the learning rate; None without matplotlib."""
    try:
        matplotlib = require("matplotlib", "plots")
    except MissingDependencyError:
        return None
    matplotlib.use("Agg", force=False)
    pyplot = require("matplotlib.pyplot", "plots")
    figure, axes = pyplot.subplots(1, len(titles) + 1, figsize=(13, 3.8), layout="constrained")
    epochs = [row["epoch"] for row in history]
    panels = (
        *(
            (f"{title} %" if name.endswith("_percent") else title, {"training": name, "validation": f"val_{name}"})
            for name, title in titles.items()
        ),
        ("learning rate at the epoch's end", {"": "learning_rate"}),
    )
    for axis, (title, curves) in zip(axes, panels, strict=True):
        for label, key in curves.items():
            if key not in history[0]:  # a detector has no average precision in training, and no loss in validation
                continue
            axis.plot(epochs, [row[key] for row in history], marker="." if len(epochs) < 50 else "", label=label)
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if len(curves) > 1:
            axis.legend()
    path = run / "curves.png"
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=120, format="png")
    pyplot.close(figure)
    return path
