"""`keras-resnet evaluate`: accuracy of a model or an artifact on labelled images."""

import sys
from typing import Annotated

import typer

from keras_resnet.cli.network import WeightsOption, open_predictor


def evaluate(
    model: Annotated[
        str, typer.Argument(help="An artifact (SavedModel folder, .tflite, .onnx), a .keras file, or a network's name.")
    ],
    data: Annotated[
        str, typer.Argument(help="A folder of class folders, or a CSV file with the columns file and index.")
    ],
    weights: WeightsOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in memory at a time.")] = 64,
) -> None:
    """Print top-1 and top-5 accuracy on labelled images.

    An image that can't be read is named on stderr and left out; the exit status is then 1.
    """
    import numpy as np

    from keras_resnet.data.labelled import labelled_images
    from keras_resnet.errors import ImageError
    from keras_resnet.evaluation import topk_accuracy_percent
    from keras_resnet.preprocessing import load_image

    predictor = open_predictor(model, weights)
    paths, classes = labelled_images(data, predictor.labels)
    answers, wanted, failures = [], [], 0
    for start in range(0, len(paths), batch_size):
        pixels = []
        for path, index in zip(paths[start : start + batch_size], classes[start : start + batch_size], strict=True):
            try:
                pixels.append(load_image(path, predictor.contract))
                wanted.append(index)
            except ImageError as error:
                failures += 1
                print(error, file=sys.stderr)
        if pixels:
            answers.append(predictor.predict(np.stack(pixels)))
    if answers:
        probabilities = np.concatenate(answers)
        print(f"images   {len(wanted)}")
        print(f"top-1 %  {topk_accuracy_percent(probabilities, np.array(wanted)):.2f}")
        if probabilities.shape[1] > 5:
            print(f"top-5 %  {topk_accuracy_percent(probabilities, np.array(wanted), 5):.2f}")
    if failures:
        raise typer.Exit(1)
