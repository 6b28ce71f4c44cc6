"""`keras-resnet data`: check a set of images before training, and pack it into shards."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.interrupts import on_interrupt, this_command
from keras_resnet.cli.progress import count_bar, progress
from keras_resnet.cli.setting_options import with_data_options
from keras_resnet.cli.task_options import options_of, with_task_options
from keras_resnet.printable import printable
from keras_resnet.quiet import import_keras

data_app = typer.Typer(no_args_is_help=True, help="Check a set of images, or pack it into TFRecord shards.")

DataArgument = Annotated[
    str,
    typer.Argument(
        help="Folder of class folders (or with train/ and val/), folder with images/ and masks/, CSV file, JSON file "
        "or folder of a labelling tool, packed shards, .npz, or tfds:NAME."
    ),
]


TaskOfDataOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="Task that the images are for: classify, segment, tag or detect. Needed only if the data is of several "
        "tasks, such as a COCO file, whose boxes are for detect and whose categories are for classify or tag.",
        show_default="the task of the data; with boxes, detect",
    ),
]


@data_app.command("check", epilog="Example: keras-resnet data check images")
@with_data_options
@with_task_options("data check")
def check(
    data: DataArgument,
    task: TaskOfDataOption = None,
    reading: Any = None,
    **options: Any,
) -> None:
    """Decode every image and mask once: print counts by class, sizes, and files that can't be read or are unusual.

    For images with boxes, also print the sizes of the objects, the share of them that a detector's anchors reach at
    several sizes of image (recall), and sizes of anchors that fit the objects better.

    Print what was left aside, and what looks wrong: only one class, classes without an image in train or in val,
    equal images with different classes, images of val that training has too, as the same file or as a smaller or
    recompressed copy (this takes the extra `check`). The exit status is 1 if a file can't be read or something looks
    wrong. Unusual files (very elongated, CMYK, nearly black) are listed and used; they do not affect the exit status.
    """
    import_keras()
    import numpy as np

    from keras_resnet.data.check import check_source, percentiles
    from keras_resnet.data.suspicions import suspicions
    from keras_resnet.data.taken import account, left_aside
    from keras_resnet.errors import MissingDependencyError
    from keras_resnet.optional import require
    from keras_resnet.tasks import task_named
    from keras_resnet.tasks.sources import open_source

    sources = [open_source(data, split, reading=reading, task=task) for split in ("train", "val")]
    own = task_named(sources[0].target.task)
    given = {name: value for name, value in options_of(own, "data check", options, data).items() if value is not None}
    if given:
        require("matplotlib", "plots")
    for line in account(data, sources):
        print(printable(line))
    print()
    try:
        require("imagehash", "check")
        with_views = True
    except MissingDependencyError as error:
        with_views = False
        print(printable(f"smaller and recompressed copies are not looked for: {error}"))
        print()
    with progress(count_bar) as show:
        looks = [check_source(source, partial(show, "images"), with_views) for source in sources]
    train, val = sources
    rows = [
        (f"{train.counted} of class", "train", "val"),
        *(
            (printable(name), *map("{:,}".format, counts))
            for name, *counts in zip(train.classes, train.class_counts, val.class_counts, strict=True)
        ),
        ("all images", f"{train.count:,}", f"{val.count:,}"),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *counts in rows:
        line = f"{name:{widths[0]}}  {counts[0]:>{max(9, widths[1])}}  {counts[1]:>{max(9, widths[2])}}"
        print(printable(line))
    if val.held_out:
        print(printable(f"val is held out of train: {val.summary()['validation'].partition(': ')[2]}"))
    _print_sizes(percentiles(np.concatenate([look.sizes for look in looks])))
    for line in own.findings(sources, **given):
        print(printable(line))
    aside = left_aside(sources).lines
    wrong = [*suspicions(train, val, looks, own.single_answer)]
    for title, lines in (("left aside", aside), ("looks wrong", wrong)):
        print(f"\n{title}: {len(lines)}")
        for line in lines:
            print(f"  {printable(line)}")
    problems = [problem for look in looks for problem in look.problems]
    for title, used in (("unusual, and used", True), ("can't be read", False)):
        listed = [problem for problem in problems if problem.used is used]
        print(f"\n{title}: {len(listed)}")
        for problem in listed:
            print(printable(f"  {problem.name}: {problem.reason}"))
    if wrong or any(not problem.used for problem in problems):
        raise typer.Exit(1)


@data_app.command("pack", epilog="Example: keras-resnet data pack images shards")
@with_data_options
def pack(
    data: DataArgument,
    out: Annotated[Path, typer.Argument(help="New or empty folder, or the folder of an interrupted `data pack`.")],
    shards: Annotated[
        int | None, typer.Option(min=1, help="Number of training shards. Default: computed from --shard-mb.")
    ] = None,
    shard_mb: Annotated[float, typer.Option(min=1.0, help="Size of a shard in megabytes.")] = 128.0,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of threads. Default: one for each core.")] = None,
    task: TaskOfDataOption = None,
    reading: Any = None,
) -> None:
    """Write unchanged image files into TFRecord shards in random order, with an index and dataset.json.

    Masks become PNG files whose pixels are class indices, 255 where there is no class.

    Each image is decoded once. Unreadable images are left out and named on stderr. To continue after an interruption,
    give the same command again.
    """
    import sys

    import_keras()
    from keras_resnet.packing import pack as pack_images

    kept = lambda: f"Finished shards stay in {out}. To continue: {this_command()}"  # noqa: E731
    with on_interrupt(kept), progress(count_bar) as show:
        show("shards", 0, 0)
        description = pack_images(
            data,
            out,
            shards=shards,
            shard_mb=shard_mb,
            workers=workers,
            progress=partial(show, "shards"),
            reading=reading,
            task=task,
        )
    for problem in description["unreadable"]:
        print(printable(f"left out: {problem['name']}: {problem['reason']}"), file=sys.stderr)
    for name, split in description["splits"].items():
        megabytes = sum(shard["bytes"] for shard in split["shards"]) / 1e6
        line = f"{name:5}  {split['count']:,} images  {len(split['shards'])} shards  {megabytes:,.1f} MB"
        print(printable(line))
    _print_sizes(description["pixels"])
    print(printable(out / "dataset.json"))


def _print_sizes(sizes: dict[str, dict[str, int]]) -> None:
    """Prints the percentiles of the images' sizes."""
    if not sizes:
        return
    header = f"{'pixels':10}  " + "  ".join(f"{name + ' %':>6}" for name in sizes["width"])
    print("\n" + printable(header))
    for side, values in sizes.items():
        line = f"{side.replace('_', ' '):10}  " + "  ".join(f"{value:>6}" for value in values.values())
        print(printable(line))
