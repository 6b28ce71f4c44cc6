"""`keras-resnet predict`: image files -> the most probable classes of each, with names."""

import difflib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.errors import ImageError, WeightsError
from keras_resnet.labels import decode_predictions
from keras_resnet.preprocessing import IMAGENET_CONTRACT, list_images, load_image
from keras_resnet.quiet import import_keras
from keras_resnet.variants import DEFAULT_TAG, VARIANTS, InputContract


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders or quoted globs.")],
    model: Annotated[
        str, typer.Option(help=f"{', '.join(VARIANTS)}, or a .keras file that takes RGB pixels 0..255.")
    ] = "resnet50",
    weights: Annotated[
        str | None,
        typer.Option(
            help="imagenet, a published tag (see `keras-resnet list`), a path, or hf://owner/repository. "
            "A .keras file brings its own.",
            show_default="imagenet",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to name for each image.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in memory at a time.")] = 16,
) -> None:
    """Print the most probable classes of each image.

    An image that can't be read is named on stderr while the others go on; the exit status is then 1.
    """
    _check_model(model, weights)
    paths, failures = _list(images)
    if paths:
        import_keras()
        network, contract = _load_file(model) if _is_file(model) else _build(model, weights or "imagenet")
        failures += _predict_all(paths, network, contract, top, batch_size)
    if failures:
        raise typer.Exit(1)


def _is_file(model: str) -> bool:
    return model.endswith(".keras")


def _check_model(model: str, weights: str | None) -> None:
    if _is_file(model):
        if weights is not None:
            raise ValueError(f"--weights can't be given with a .keras file, which brings its own. Received: {weights}")
        if not Path(model).is_file():
            raise ValueError(f"--model names a .keras file that does not exist. Received: {model}")
    elif model not in VARIANTS:
        nearest = difflib.get_close_matches(model.lower(), VARIANTS, n=1, cutoff=0.5)
        raise ValueError(
            f"--model must be one of {', '.join(VARIANTS)}, or a .keras file. Received: {model}"
            + (f" (did you mean {nearest[0]}?)" if nearest else "")
        )


def _list(patterns: list[str]) -> tuple[list[Path], int]:
    """Patterns -> the images they name, and how many patterns name none (each is reported on stderr)."""
    paths, failures = [], 0
    for pattern in patterns:
        try:
            paths += list_images([pattern])
        except ImageError as error:
            failures += 1
            print(error, file=sys.stderr)
    return paths, failures


def _build(name: str, weights: str) -> tuple[Any, InputContract]:
    from keras_resnet.models import BUILDERS

    published = VARIANTS[name].weights.get(DEFAULT_TAG if weights == "imagenet" else weights)
    contract = published.contract if published else IMAGENET_CONTRACT
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the head stays fresh")
        try:
            return BUILDERS[name](weights=weights), contract
        except UserWarning as error:
            raise WeightsError(
                f"{error}. A random head predicts nothing: give a model of other classes as a whole, --model FILE.keras"
            ) from error


def _load_file(path: str) -> tuple[Any, InputContract]:
    import keras

    try:
        network = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise WeightsError(f"{path}: can't be loaded as a Keras model: {error}") from error
    shape, output_shape = network.input_shape, network.output_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
        raise ValueError(f"{path}: must take square RGB images [N, size, size, 3]. Its input is {shape}")
    if not isinstance(output_shape, tuple) or len(output_shape) != 2:
        raise ValueError(f"{path}: must yield class probabilities [N, classes]. Its output is {output_shape}")
    return network, IMAGENET_CONTRACT if shape[1] is None else InputContract.for_size(shape[1])


def _predict_all(paths: list[Path], network: Any, contract: InputContract, top: int, batch_size: int) -> int:
    """Prints the top classes of each image, a batch at a time -> how many images can't be read."""
    import numpy as np

    classes = network.output_shape[-1]
    names = None if classes == 1000 else [f"class {index}" for index in range(classes)]
    yields_logits = _yields_logits(network)
    failures = 0
    for batch in _batches(paths, batch_size):
        readable, pixels = [], []
        for path in batch:
            try:
                pixels.append(load_image(path, contract))
                readable.append(path)
            except ImageError as error:
                failures += 1
                print(error, file=sys.stderr)
        if not readable:
            continue
        outputs = network.predict_on_batch(np.stack(pixels))
        probabilities = _softmax(outputs) if yields_logits else outputs
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


def _yields_logits(network: Any) -> bool:
    import keras

    last = network.layers[-1]
    return last.name == "logits" or getattr(last, "activation", None) is keras.activations.linear


def _softmax(logits: Any) -> Any:
    """`[N, classes]` -> probabilities `[N, classes]`."""
    import numpy as np

    exponentials = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
