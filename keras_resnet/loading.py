"""A `.keras` file, an artifact or the name of a network -> a network that is ready for images.

This module reads the facts that a file holds about its network, checks them against the network, and states them.
"""

import difflib
import json
import math
import os
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from keras_resnet.errors import ArgumentError, KerasResnetError, WeightsError, reason
from keras_resnet.export.files import is_artifact_folder
from keras_resnet.export.running import AS_WRITTEN, Running
from keras_resnet.model_folders import model_in
from keras_resnet.predictor import Predictor
from keras_resnet.quiet import import_keras
from keras_resnet.tasks import checked_task_of, contract_of
from keras_resnet.tasks.outputs import NOTHING, Stated, loss_named
from keras_resnet.variants import VARIANTS, Contract
from keras_resnet.weights_from import WeightsFrom

MOST_EXPANDED, FEW_BYTES = 2, 1_000_000  # 16-bit weights expand to 32 bits; some layers' state is not stored


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    task: str | None = None,
    output_kind: str | None = None,
    trust: bool = False,
    runtime: str | None = None,
    precision: str | None = None,
) -> Predictor:
    """`.keras` file, artifact (`is_artifact`) or a folder -> a network that is ready for images.

    The network knows its task, its class names and its contract for image files, as far as the file holds them. A
    folder is one that `train` or `export` wrote; `model_folders.model_in` states which of its files is taken.

    The result can be pickled: another process opens the file again, at this absolute path.

    Args:
        threads: Number of CPU threads of an artifact's runtime. Default: all.
        task: Task of a model of your own: classify, segment, tag, regress or embed. Default: the task that its file
            states, or that its last layers and its loss show.
        output_kind: Kind of its output: probabilities, logits, values or features. Default: as for `task`.
        trust: Whether an artifact is opened whatever it holds, without a first opening in a process of its own.
        runtime: "openvino" runs an ONNX file in OpenVINO, and "tflite-micro" a tflite-int8 file as a microcontroller
            does. Default: the runtime of the artifact's format.
        precision: "bfloat16": OpenVINO computes in it what the artifact holds in float32. Default: "float32".

    Raises:
        ExportError: An artifact can't be opened.
        WeightsError: A `.keras` file can't be read.
        ArgumentError: The path is neither, the network does not take RGB images, or can be read in several ways.
    """
    text = os.fspath(path)
    if not os.path.exists(text):
        raise ArgumentError(f"{text}: no such file or folder")
    running = Running(runtime, precision)
    text = model_in(text, running)
    if not is_artifact(text) and not _is_file(text):
        raise ArgumentError(
            "`path` must be a .keras file, a SavedModel, OpenVINO or web folder, a .tflite or an .onnx file. "
            f"Received: {text}"
        )
    predictor = open_predictor(text, None, threads, Stated(task, output_kind), trust, running)
    reopen = partial(load, os.path.abspath(text), threads, task, output_kind, trust, runtime, precision)
    return replace(predictor, reopen=reopen)


def is_artifact(model: str) -> bool:
    """Path, or name of a network -> whether it is an artifact: a folder of one, a .tflite or an .onnx file."""
    return model.endswith((".tflite", ".onnx")) or is_artifact_folder(Path(model))


def open_predictor(
    model: str,
    weights: str | WeightsFrom | None,
    threads: int | None = None,
    stated: Stated = NOTHING,
    trust: bool = False,
    running: Running = AS_WRITTEN,
) -> Predictor:
    """Network's name and weights, `.keras` file or artifact, what the user states about it -> network that is ready
    for images; see `load`.

    Raises:
        ExportError: An artifact can't be opened.
        WeightsError: The file or the weights can't be found, read or matched.
        ArgumentError: The model has no task, or weights are given for a file that holds its own.
    """
    if is_artifact(model):
        if weights is not None:
            raise ArgumentError(f"--weights can't be given with an artifact, which holds its own. Received: {weights}")
        if stated != NOTHING:
            raise ArgumentError(
                f"--task and --output-kind can't be given with an artifact, which states its own. Received: {model}"
            )
        from keras_resnet.export.artifact import open_artifact

        return open_artifact(model, threads, trust, running).predictor
    if running != AS_WRITTEN:
        raise ArgumentError(
            "`runtime` (--runtime) and `precision` (--precision) are for artifacts. "
            f"Received: {model}, which Keras runs"
        )
    network, contract = open_network(model, weights, stated)
    return predictor_of(network, contract, model)


def predictor_of(network: Any, contract: Contract, name: str) -> Predictor:
    """Keras model, its contract, its name in messages -> predictor.

    Raises:
        ArgumentError: The model can't be interpreted.
    """
    import keras
    import numpy as np

    from keras_resnet.facts import facts_of
    from keras_resnet.inference import trace
    from keras_resnet.tasks.interpret import interpret

    network = interpret(network, name=name)
    facts, task = facts_of(network), checked_task_of(network)
    activation = keras.activations.get(task.activation if facts.output_kind == "logits" else None)
    output = next(iter(task.outputs))
    largest = 0

    def run(pixels: Any) -> dict[str, Any]:
        nonlocal largest
        count = len(pixels)
        largest = max(largest, count)
        try:
            if network.jit_compile:  # the last batch is filled up, since XLA would compile again for its size
                pixels = np.pad(pixels, ((0, largest - count), (0, 0), (0, 0), (0, 0)))
            else:
                trace(network, "uint8")
            found = network.predict_on_batch(pixels)
            if isinstance(found, dict):  # several outputs, which no activation follows
                return {name: keras.ops.convert_to_numpy(values)[:count] for name, values in found.items()}
            return {output: keras.ops.convert_to_numpy(activation(found[:count]))}
        except Exception as error:  # a layer of a user's model can raise anything
            raise WeightsError(f"{name}: fails on images: {reason(error)}") from error

    classes = task.classes_of(network)
    return Predictor(name, task, class_names_of(network), contract, classes, run, facts.task_facts, facts.read_as)


def class_names_of(network: Any) -> list[str] | None:
    """Keras model -> its stated class names; ImageNet's names for 1000 classes without names."""
    from keras_resnet.facts import facts_of
    from keras_resnet.labels import imagenet_labels

    names = facts_of(network).class_names
    if names is not None:
        return list(names)
    task = checked_task_of(network)
    is_imagenet = task.bounded and task.classes_of(network) == 1000
    return [name for _, name in imagenet_labels()] if is_imagenet else None


def check_model(model: str, weights: str | WeightsFrom | None) -> None:
    """Checks `--model` and `--weights` before Keras is imported.

    Raises:
        ArgumentError: There is no such network or file, or weights are given for a file that holds its own.
    """
    if _is_file(model):
        if weights is not None:
            raise ArgumentError(
                f"--weights can't be given with a .keras file, which holds its own. Received: {weights}"
            )
        if not Path(model).is_file():
            raise ArgumentError(f"--model names a .keras file that does not exist. Received: {model}")
    elif model not in VARIANTS:
        nearest = difflib.get_close_matches(model.lower(), VARIANTS, n=1, cutoff=0.5)
        raise ArgumentError(
            f"--model must be one of {', '.join(VARIANTS)}, or a .keras file. Received: {model}"
            + (f" (did you mean {nearest[0]}?)" if nearest else "")
        )


def open_network(model: str, weights: str | WeightsFrom | None, stated: Stated = NOTHING) -> tuple[Any, Contract]:
    """Name of a network and its weights, or a .keras file, what the user states about it -> Keras model with all its
    facts stated (see `tasks.interpret`), and its contract for image files.

    Raises:
        WeightsError: The file or the weights can't be found, read or matched.
        ArgumentError: The model can't be interpreted.
    """
    check_model(model, weights)
    import_keras()
    from keras_resnet.tasks.interpret import interpret

    network = _load_file(model) if _is_file(model) else _build(model, weights or "imagenet")
    network = interpret(network, stated.task, stated.output_kind, name=model)
    contract = contract_of(network)
    if contract is None or network.inputs[0].shape[3] != 3:
        takes = checked_task_of(network).takes
        raise ArgumentError(f"{model}: must take {takes}. Its input is {network.input_shape}")
    return network, contract


def _is_file(model: str) -> bool:
    return model.endswith(".keras")


def _build(name: str, weights: str | WeightsFrom) -> Any:
    from keras_resnet.models import BUILDERS

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the head stays fresh")
        try:
            return BUILDERS[name](weights=weights)
        except UserWarning as error:
            raise WeightsError(
                f"{error}. A random head predicts nothing. For other classes, give a trained model: --model "
                "FILE.keras. Python makes one of these weights: build the network with classes=..., and call "
                "keras_resnet.model_files.save_model"
            ) from error


def _load_file(path: str) -> Any:
    import keras

    # These modules register the layers of quantization-aware training, of detectors and of segmentation networks.
    import keras_resnet.compress.fake_quant
    import keras_resnet.detection
    import keras_resnet.resize  # noqa: F401
    from keras_resnet.facts import WeightsOrigin, state
    from keras_resnet.model_files import read_model_description
    from keras_resnet.weight_files import check_keras_archive
    from keras_resnet.whole_files import file_sha256

    try:
        stored_bytes = check_keras_archive(Path(path))
        # The file is loaded in its own thread, because Keras keeps a list of uninitialised variables for each thread.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_check_declared_size, path, stored_bytes).result()
        description = read_model_description(path)
        network = keras.models.load_model(path, compile=False)
        state(network, loss=_stated_loss(path))
        state(network, weights_origin=WeightsOrigin(Path(path).name, None, None, file_sha256(Path(path))))
        if description is not None:
            description.check(network)
            state(network, task=description.task, class_names=description.class_names, contract=description.contract)
            state(network, task_facts=description.task_facts)
        return network
    except KerasResnetError:
        raise
    except Exception as error:  # a damaged file can make a layer's constructor raise anything
        raise WeightsError(f"{path}: can't be loaded as a Keras model: {reason(error)}") from error


def _stated_loss(path: str) -> str | None:
    """`.keras` file -> kind of the loss that the model was compiled with, if any; nothing of it is built."""
    with zipfile.ZipFile(path) as archive:
        compiled = json.loads(archive.read("config.json")).get("compile_config") or {}
    loss = compiled.get("loss")
    if isinstance(loss, dict):  # a class, or a function of Keras
        loss = loss["config"] if isinstance(loss.get("config"), str) else loss.get("class_name")
    return loss_named(loss)


def _check_declared_size(path: str, stored_bytes: int) -> None:
    """Raises `WeightsError` if the layers need more weights than the file stores. Keras would allocate them all."""
    import keras

    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    config["compile_config"] = None
    with keras.StatelessScope(initialize_variables=False):  # variables have shapes, but no values
        network = keras.saving.deserialize_keras_object(config)
        if not isinstance(network, keras.Model):
            raise WeightsError(f"{path}: must hold a Keras model. Received: {type(network).__name__}")
        asked_bytes = sum(4 * math.prod(variable.shape) for variable in network.variables)
    if asked_bytes > MOST_EXPANDED * stored_bytes + FEW_BYTES:
        raise WeightsError(
            f"{path}: its layers need {asked_bytes:,} bytes of weights, but the file stores {stored_bytes:,}"
        )
