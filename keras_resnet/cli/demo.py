"""`keras-resnet demo`: from images to verified artifacts, and one table."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from keras_resnet.cli.progress import progress, stage_bars
from keras_resnet.environment import machine
from keras_resnet.printable import printable
from keras_resnet.quiet import import_keras


def demo(
    out: Annotated[Path, typer.Option(help="Folder for images, training run, artifacts and manifest.json.")] = Path(
        "runs/demo"
    ),
    task: Annotated[
        Literal["classify", "segment", "detect"],
        typer.Option(
            help="Task: classify (digits), segment (a U-Net on made-up scenes of digits) or detect (a Mask R-CNN on "
            "made-up scenes of discs, squares and triangles)."
        ),
    ] = "classify",
) -> None:
    """Train a small network, by default on real handwritten digits; export it, verify and compare the artifacts."""
    from rich.console import Console
    from rich.table import Table

    with progress(stage_bars, each_step=True) as show:
        show("start TensorFlow", 0, 1)
        import_keras()
        from keras_resnet.demo import DEMOS, run
        from keras_resnet.tasks import TASKS

        show("start TensorFlow", 1, 1)
        rows = run(out, show, task)

    score = TASKS[task].titles[TASKS[task].score]
    further = [f"{title} %" for title in rows[0].further_percent]
    names = ("artifact", "size MB", f"{score} %", *further, "max difference", "latency ms", "p10-p90")
    table = Table(*names, pad_edge=False, collapse_padding=True)  # in 80 columns
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        latency = row.latency
        table.add_row(
            row.artifact,
            f"{row.size_bytes / 1e6:.1f}",
            f"{row.score_percent:.2f}",
            *(f"{value:.2f}" for value in row.further_percent.values()),
            f"{row.max_difference:.1e}" if row.max_difference else "-",
            f"{latency.median_ms:.2f}",
            f"{latency.p10_ms:.3g}-{latency.p90_ms:.3g}",
        )
    Console().print(table)
    print(
        f"{score} on {DEMOS[task].judged_on}. max difference: largest difference\n"
        "of a probability or score from the Keras model. latency: one image, median and deciles.\n"
        f"Machine: {machine()}.\n"
        f"Every artifact was verified before it got its name; see {printable(out)}/manifest.json."
    )
    command = _command()
    more = DEMOS[task].options.format(out=out)
    predict = f"next: {command} predict {out}/{DEMOS[task].images} --model {out}/training/model.keras {more}"
    print("\n" + printable(predict))


def _command() -> str:
    """-> command that calls this program: its name if it is on the path, else its file, or `python -m`."""
    if shutil.which("keras-resnet"):
        return "keras-resnet"
    return f"{sys.executable} -m keras_resnet.cli" if sys.argv[0].endswith(".py") else sys.argv[0]
