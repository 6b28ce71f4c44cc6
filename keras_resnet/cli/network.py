"""The options `--model` and `--weights`, which several commands share -> a network and its input contract."""

import difflib
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.errors import WeightsError
from keras_resnet.quiet import import_keras
from keras_resnet.variants import DEFAULT_TAG, VARIANTS, InputContract

ModelOption = Annotated[
    str, typer.Option(help=f"{', '.join(VARIANTS)}, or a .keras file that takes RGB pixels 0..255.")
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="imagenet, a published tag (see `keras-resnet list`), a path, or hf://owner/repository. "
        "A .keras file brings its own.",
        show_default="imagenet",
    ),
]


def check_model(model: str, weights: str | None) -> None:
    """Refuses a wrong pair of options before Keras is imported.

    Raises:
        ValueError: No such network or file, or weights for a file that brings its own.
    """
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


def open_network(model: str, weights: str | None) -> tuple[Any, InputContract]:
    """The two options -> Keras model that takes pixels and yields classes, and what pixels it expects.

    Raises:
        WeightsError: The file or the weights can't be found, read or matched.
        ValueError: A model of another kind.
    """
    check_model(model, weights)
    import_keras()
    return _load_file(model) if _is_file(model) else _build(model, weights or "imagenet")


def _is_file(model: str) -> bool:
    return model.endswith(".keras")


def _build(name: str, weights: str) -> tuple[Any, InputContract]:
    from keras_resnet.models import BUILDERS

    published = VARIANTS[name].weights.get(DEFAULT_TAG if weights == "imagenet" else weights)
    contract = published.contract if published else InputContract()
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
    return network, InputContract() if shape[1] is None else InputContract.for_size(shape[1])
