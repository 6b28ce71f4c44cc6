"""`keras-resnet predict`: image files -> the most probable classes of each, with names."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from keras_resnet.cli.network import ModelOption, Predictor, WeightsOption, check_model, is_artifact, open_predictor
from keras_resnet.errors import ImageError


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders or quoted globs.")],
    model: ModelOption = "resnet50",
    weights: WeightsOption = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to name for each image.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in memory at a time.")] = 16,
) -> None:
    """Print the most probable classes of each image.

    An image that can't be read is named on stderr while the others go on; the exit status is then 1.
    """
    if not is_artifact(model):
        check_model(model, weights)
    paths, failures = _list(images)
    if paths:
        failures += _predict_all(paths, open_predictor(model, weights), top, batch_size)
    if failures:
        raise typer.Exit(1)


def _list(patterns: list[str]) -> tuple[list[Path], int]:
    """Patterns -> the images they name, and how many patterns name none (each is reported on stderr)."""
    from keras_resnet.preprocessing import list_images

    paths, failures = [], 0
    for pattern in patterns:
        try:
            paths += list_images([pattern])
        except ImageError as error:
            failures += 1
            print(error, file=sys.stderr)
    return paths, failures


def _predict_all(paths: list[Path], predictor: Predictor, top: int, batch_size: int) -> int:
    """Prints the top classes of each image, a batch at a time -> how many images can't be read."""
    import numpy as np

    from keras_resnet.labels import decode_predictions, imagenet_labels
    from keras_resnet.preprocessing import load_image

    names = predictor.labels
    if names == [name for _, name in imagenet_labels()]:
        names = None  # decode_predictions knows them, with their wnids
    failures = 0
    for batch in _batches(paths, batch_size):
        readable, pixels = [], []
        for path in batch:
            try:
                pixels.append(load_image(path, predictor.contract))
                readable.append(path)
            except ImageError as error:
                failures += 1
                print(error, file=sys.stderr)
        if not readable:
            continue
        probabilities = predictor.predict(np.stack(pixels))
        classes = probabilities.shape[1]
        if names is None and classes != 1000:
            names = [f"class {index}" for index in range(classes)]
        for path, best in zip(readable, decode_predictions(probabilities, min(top, classes), names), strict=True):
            print(path)
            for wnid, name, probability in best:
                print(f"  {100 * probability:6.2f} %  {name if names else f'{wnid}  {name}'}")
    return failures


def _batches(paths: list[Path], batch_size: int) -> Iterator[list[Path]]:
    """Paths -> batches of them, under a progress bar where it disturbs nothing."""
    from rich.console import Console
    from rich.progress import Progress

    # Where the results themselves appear on the terminal, they show the progress.
    hidden = sys.stdout.isatty() or not sys.stderr.isatty() or len(paths) <= batch_size
    with Progress(console=Console(stderr=True), redirect_stdout=False, transient=True, disable=hidden) as progress:
        task = progress.add_task("images", total=len(paths))
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            yield batch
            progress.advance(task, len(batch))
