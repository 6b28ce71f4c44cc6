"""The options `--model` and `--weights`, which several commands share -> a network and its input contract."""

import difflib
import json
import math
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.errors import ArgumentError, KerasResnetError, WeightsError, reason
from keras_resnet.quiet import import_keras
from keras_resnet.variants import VARIANTS, Contract, InputContract, WholeImage

MOST_EXPANDED, FEW_BYTES = 2, 1_000_000  # weights of 16 bits count as 32; some layers' state is not stored

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


@dataclass(frozen=True)
class Predictor:
    """A model or an artifact, ready for image files."""

    predict: Callable[[Any], Any]  # pixels uint8 [N, H, W, 3] -> probabilities [N, classes], or [N, H, W, classes]
    contract: Contract
    labels: list[str] | None

    @property
    def segments(self) -> bool:
        """Whether it answers for every pixel."""
        return isinstance(self.contract, WholeImage)


def is_artifact(model: str) -> bool:
    """Value of `--model` -> whether it names an artifact's file or folder."""
    return model.endswith((".tflite", ".onnx")) or Path(model, "saved_model.pb").exists()


def open_predictor(model: str, weights: str | None) -> Predictor:
    """Artifact, .keras file or name of a network -> predictor.

    Raises:
        ExportError: An artifact can't be opened.
        WeightsError: The file or the weights can't be found, read or matched.
        ArgumentError: A model of another kind, or weights for one that brings its own.
    """
    if is_artifact(model):
        if weights is not None:
            raise ArgumentError(f"--weights can't be given with an artifact, which brings its own. Received: {weights}")
        from keras_resnet.export.artifact import open_artifact

        artifact = open_artifact(model)
        return Predictor(artifact.predict, artifact.contract, artifact.labels)
    network, contract = open_network(model, weights)
    return predictor_of(network, contract, model)


def predictor_of(network: Any, contract: Contract, model: str) -> Predictor:
    """Network as `open_network` gives it, its contract, the value of `--model` -> predictor."""
    import numpy as np

    from keras_resnet.heads.logits import ends_in_logits
    from keras_resnet.inference import trace

    finish = _softmax if ends_in_logits(network) else lambda outputs: outputs
    largest = 0

    def predict(pixels: Any) -> Any:
        nonlocal largest
        count = len(pixels)
        largest = max(largest, count)
        try:
            if network.jit_compile:  # XLA compiles anew for another batch size: the last, smaller batch is filled up
                pixels = np.pad(pixels, ((0, largest - count), (0, 0), (0, 0), (0, 0)))
            else:
                trace(network, "uint8")
            return finish(network.predict_on_batch(pixels)[:count])
        except Exception as error:  # a layer of a user's model can raise anything
            raise WeightsError(f"{model}: fails on images: {reason(error)}") from error

    return Predictor(predict, contract, labels_of(network))


def labels_of(network: Any) -> list[str] | None:
    """Network as `open_network` gives it -> names of its classes: its file's, or ImageNet's for 1000 classes."""
    from keras_resnet.labels import imagenet_labels

    labels = getattr(network, "class_labels", None)
    if labels is not None:
        return list(labels)
    return [name for _, name in imagenet_labels()] if network.output_shape[-1] == 1000 else None


def _softmax(logits: Any) -> Any:
    """`[N, ..., classes]` -> probabilities of the same shape."""
    import numpy as np

    exponentials = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def check_model(model: str, weights: str | None) -> None:
    """Refuses a wrong pair of options before Keras is imported.

    Raises:
        ArgumentError: No such network or file, or weights for a file that brings its own.
    """
    if _is_file(model):
        if weights is not None:
            raise ArgumentError(
                f"--weights can't be given with a .keras file, which brings its own. Received: {weights}"
            )
        if not Path(model).is_file():
            raise ArgumentError(f"--model names a .keras file that does not exist. Received: {model}")
    elif model not in VARIANTS:
        nearest = difflib.get_close_matches(model.lower(), VARIANTS, n=1, cutoff=0.5)
        raise ArgumentError(
            f"--model must be one of {', '.join(VARIANTS)}, or a .keras file. Received: {model}"
            + (f" (did you mean {nearest[0]}?)" if nearest else "")
        )


def open_network(model: str, weights: str | None) -> tuple[Any, Contract]:
    """The two options -> Keras model that takes pixels and yields classes, and what pixels it expects.

    A model that yields the classes of every pixel expects a `WholeImage`.

    A file that names its classes (`model_files`) gives the model an attribute `class_labels`.

    Raises:
        WeightsError: The file or the weights can't be found, read or matched.
        ArgumentError: A model of another kind.
    """
    check_model(model, weights)
    import_keras()
    from keras_resnet.preprocessing import answers_for_pixels, contract_of

    network = _load_file(model) if _is_file(model) else _build(model, weights or "imagenet")
    answer = getattr(network, "output_shape", None)
    places = len(answer) if isinstance(answer, tuple) else 0
    if places != 2 and not (places == 4 and answers_for_pixels(network)):
        raise ArgumentError(
            f"{model}: must yield class probabilities [N, classes], or of every pixel [N, H, W, classes]. "
            f"Its output is {answer}"
        )
    contract = contract_of(network)
    if contract is None or network.inputs[0].shape[3] != 3:
        shape = getattr(network, "input_shape", None)
        square = "square RGB images [N, size, size, 3]" if places == 2 else "RGB images [N, H, W, 3]"
        raise ArgumentError(f"{model}: must take {square}. Its input is {shape}")
    return network, contract


def open_classifier(model: str, weights: str | None) -> tuple[Any, InputContract]:
    """As `open_network`, for what is made for classifiers alone.

    Raises:
        ArgumentError: The model yields the classes of every pixel.
    """
    network, contract = open_network(model, weights)
    if isinstance(contract, WholeImage):
        raise ArgumentError(
            f"{model}: must be a classifier, which yields [N, classes]. Its output is {network.output_shape}"
        )
    return network, contract


def _is_file(model: str) -> bool:
    return model.endswith(".keras")


def _build(name: str, weights: str) -> Any:
    from keras_resnet.models import BUILDERS

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the head stays fresh")
        try:
            return BUILDERS[name](weights=weights)
        except UserWarning as error:
            raise WeightsError(
                f"{error}. A random head predicts nothing: give a model of other classes as a whole, --model FILE.keras"
            ) from error


def _load_file(path: str) -> Any:
    import keras

    # They register the layers of quantization-aware training, and that of segmentation networks.
    import keras_resnet.compress.fake_quant
    import keras_resnet.resize  # noqa: F401
    from keras_resnet.model_files import read_description
    from keras_resnet.weight_files import check_keras_archive
    from keras_resnet.weights import WeightsOrigin, file_sha256

    try:
        stored_bytes = check_keras_archive(Path(path))
        # In a thread of its own: Keras notes, for each thread, the variables without values, and fills them later on.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_check_declared_size, path, stored_bytes).result()
        description = read_description(path)
        network = keras.models.load_model(path, compile=False)
        network.weights_origin = WeightsOrigin(Path(path).name, None, None, file_sha256(Path(path)))
        if description is not None:
            description.check(network)
            network.input_contract, network.class_labels = description.contract, description.labels
        return network
    except KerasResnetError:
        raise
    except Exception as error:  # a layer's constructor can raise anything on what a damaged file passes to it
        raise WeightsError(f"{path}: can't be loaded as a Keras model: {reason(error)}") from error


def _check_declared_size(path: str, stored_bytes: int) -> None:
    """Raises `WeightsError` if the layers ask for more than the file stores; Keras would make room for all of it."""
    import keras

    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    config["compile_config"] = None
    with keras.StatelessScope(initialize_variables=False):  # shapes alone, without values
        network = keras.saving.deserialize_keras_object(config)
        if not isinstance(network, keras.Model):
            raise WeightsError(f"{path}: must hold a Keras model. It holds {type(network).__name__}")
        asked_bytes = sum(4 * math.prod(variable.shape) for variable in network.variables)
    if asked_bytes > MOST_EXPANDED * stored_bytes + FEW_BYTES:
        raise WeightsError(
            f"{path}: its layers ask for {asked_bytes:,} bytes of weights, of which it stores {stored_bytes:,}"
        )
