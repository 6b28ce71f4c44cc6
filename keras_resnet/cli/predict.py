"""`keras-resnet predict`: image files -> a network's answer for each, with class names."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.images import list_or_name, read_batches
from keras_resnet.cli.network import WeightsOption, WeightsPrefixOption, weights_from
from keras_resnet.cli.task_options import options_of, with_task_options
from keras_resnet.variants import VARIANTS

FEW = 16  # number of images below which no rate is printed


@with_task_options("predict")
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders or quoted globs.")],
    model: Annotated[
        str,
        typer.Option(
            help="Model: a .keras file that takes RGB pixels 0..255, an artifact (SavedModel folder, .tflite, .onnx), "
            f"or a network, which takes --weights: {', '.join(VARIANTS)}.",
            show_default="resnet50 with published weights",
        ),
    ] = "resnet50",
    weights: WeightsOption = None,
    weights_prefix: WeightsPrefixOption = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to name for each image.")] = 5,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Number of images that the network takes at a time; for segmentation always 1.")
    ] = 16,
    **options: Any,
) -> None:
    """Print the most probable classes of each image.

    For segmentation, print the classes that cover the most pixels; for tagging, all classes above the threshold.

    An image that can't be read is named on stderr and left out; the exit status is then 1. After more than 16
    images, a last line on stderr gives the number of images per second.
    """
    from keras_resnet.loading import check_model, is_artifact, open_predictor

    source = weights_from(weights, weights_prefix)
    if not is_artifact(model):
        check_model(model, source)
    paths, failures = list_or_name(images)
    if paths:
        predictor = open_predictor(model, source)
        given = options_of(predictor.task, "predict", options, model)
        failures += _predict_all(paths, predictor, top, batch_size, given)
    if failures:
        raise typer.Exit(1)


def _predict_all(paths: list[Path], predictor: Any, top: int, batch_size: int, given: dict[str, Any]) -> int:
    """Prints the answer for each image, batch by batch -> number of images that can't be read."""
    task, asked = predictor.task, predictor.asked
    for_answers, for_printer = task.read_options(given)
    show = task.printer(asked, paths, top, for_printer)
    unreadable: list[Path] = []
    start = time.perf_counter()
    size = task.batch_size(predictor.contract, batch_size)
    for places, pixels in read_batches(paths, predictor.read, size, unreadable):
        answers = task.answers(asked, pixels, **for_answers)
        for place, image, answer in zip(places, pixels, answers, strict=True):
            show(place, image, answer)
    seconds, read_count = time.perf_counter() - start, len(paths) - len(unreadable)
    if read_count > FEW:
        print(f"{read_count} images in {seconds:.2f} s: {read_count / seconds:.1f} images/s", file=sys.stderr)
    return len(unreadable)
