"""`keras-resnet predict`: image files -> the most probable classes of each, with names."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from keras_resnet.cli.images import list_or_name, read_batches
from keras_resnet.cli.masks import LongestSideOption, MasksOption, WindowOption, segment_all
from keras_resnet.cli.network import ModelOption, Predictor, WeightsOption, check_model, is_artifact, open_predictor
from keras_resnet.errors import ArgumentError

FEW = 16  # images whose rate is of no interest


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders or quoted globs.")],
    model: ModelOption = "resnet50",
    weights: WeightsOption = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to name for each image.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that the network takes at a time.")] = 16,
    out: MasksOption = None,
    window: WindowOption = None,
    longest_side: LongestSideOption = None,
) -> None:
    """Print the most probable classes of each image; of a segmentation network, the classes that cover most of it.

    An image that can't be read is named on stderr while the others go on; the exit status is then 1. After more than
    a few images, a last line on stderr says how many there were a second, from the first file on.
    """
    if not is_artifact(model):
        check_model(model, weights)
    paths, failures = list_or_name(images)
    if paths:
        predictor = open_predictor(model, weights)
        if predictor.segments:
            failures += segment_all(paths, predictor, out, window, longest_side, top)
        else:
            given = {"--out": out, "--window": window, "--longest-side": longest_side}
            if any(value is not None for value in given.values()):
                names = ", ".join(name for name, value in given.items() if value is not None)
                raise ArgumentError(f"{names}: for segmentation networks alone. {model} is a classifier")
            failures += _predict_all(paths, predictor, top, batch_size)
    if failures:
        raise typer.Exit(1)


def _predict_all(paths: list[Path], predictor: Predictor, top: int, batch_size: int) -> int:
    """Prints the top classes of each image, a batch at a time -> how many images can't be read."""
    from keras_resnet.labels import decode_predictions, imagenet_labels

    names = predictor.labels
    if names == [name for _, name in imagenet_labels()]:
        names = None  # decode_predictions knows them, with their wnids
    unreadable: list[Path] = []
    start = time.perf_counter()
    for places, pixels in read_batches(paths, predictor.contract, batch_size, unreadable):
        probabilities = predictor.predict(pixels)
        classes = probabilities.shape[1]
        if names is None and classes != 1000:
            names = [f"class {index}" for index in range(classes)]
        for place, best in zip(places, decode_predictions(probabilities, min(top, classes), names), strict=True):
            print(paths[place])
            for wnid, name, probability in best:
                print(f"  {100 * probability:6.2f} %  {name if names else f'{wnid}  {name}'}")
    seconds, read = time.perf_counter() - start, len(paths) - len(unreadable)
    if read > FEW:
        print(f"{read} images in {seconds:.2f} s: {read / seconds:.1f} images/s", file=sys.stderr)
    return len(unreadable)
