"""Loads published and local weights into a network: source -> file -> name map -> checks -> assignment.

Published weights have torchvision's names, with one exception for CIFAR; only `torchvision_names` maps them to the
names of this package. Nothing is assigned before every tensor has passed every check.
"""

import difflib
import json
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_resnet import layer_names
from keras_resnet.blocks import BATCH_NORM_EPSILON
from keras_resnet.checkpoints import Head, TakenNetwork, take_network
from keras_resnet.errors import WeightsError, reason
from keras_resnet.facts import WeightsOrigin, state
from keras_resnet.foreign_keras import weights_of_keras_applications
from keras_resnet.lookalikes import blurs, has_same_tensors, other_network
from keras_resnet.optional import require
from keras_resnet.pinned_files import MAIN, check_pinned
from keras_resnet.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from keras_resnet.regular_files import read_text
from keras_resnet.torch_files import Checkpoint, escaped
from keras_resnet.variants import (
    BACKBONES,
    CIFAR_FILES,
    DEFAULT_TAG,
    DETECTORS,
    VARIANTS,
    Detector,
    DetectorOnBackbone,
    InputContract,
    Network,
    NetworkOnBackbone,
    TorchvisionFile,
    Variant,
)
from keras_resnet.weight_files import FILE_SUFFIXES, WEIGHT_SUFFIXES, WeightFile, read_weight_file
from keras_resnet.weights_from import WeightsFrom
from keras_resnet.whole_files import file_sha256

WeightsTarget = tuple[str, str]  # (our layer, its variable)

HUB_FILE = "model.safetensors"
STEM_KERNEL: WeightsTarget = (layer_names.STEM_CONV, "kernel")
TENSORS_LISTED = 10  # largest number of tensors that an error lists for each kind of problem
_LOG = logging.getLogger("keras_resnet")
_IN_BACKBONE = re.compile(r"(conv1|bn1|layer\d)\.")


def load_weights(model: keras.Model, network: Network, weights: str | os.PathLike[str]) -> None:
    """Loads weights into a model: model of this package, its row of the table, source of weights -> model.

    The contract that the source states becomes a fact about the model (`facts`), or None if it states none.

    Args:
        model: Model with or without its head or auxiliary head. The file's weights for a missing head are ignored.
        network: Row of the table from which the model was built.
        weights: "imagenet" or a tag, if the network has it, "hf://owner/repository", or a path.; any of
            them in a `WeightsFrom`, which says how the file is read.

    Raises:
        WeightsError: The source can't be found or read, or a tensor is missing, unknown, misshaped or not a number.
    """
    reading = weights if isinstance(weights, WeightsFrom) else WeightsFrom(weights)
    weights = reading.source
    has_preprocessing = any(layer.name == layer_names.PREPROCESSING for layer in model.layers)
    path, contract = resolve_weights(network, weights, has_preprocessing, reading.revision)
    sha256 = file_sha256(path) if path.is_file() else ""
    if sha256:
        _check_download(path, sha256)
        _check_published(network, path, sha256)
        repository = _repository_of(network, weights)
        if repository is not None:
            check_pinned(repository, reading.revision, path, sha256)
    if reading.batch_norm_epsilon is None:
        reading = replace(reading, batch_norm_epsilon=_published_epsilon(network, sha256))
    values = match_weights(model, network, read_weight_file(path), str(path), reading)
    for variable, value in values:
        variable.assign(value)
    tag = network.tag_of(weights)
    origin = WeightsOrigin(
        source=tag or (str(weights) if str(weights).startswith("hf://") else path.name),
        repository=f"timm/{network.name}.{tag}" if tag and isinstance(network, Variant) else None,
        licence=network.weights[tag].licence if tag else None,
        file_sha256=sha256,
    )
    state(model, contract=contract, weights_origin=origin)


def _published_epsilon(network: Network, sha256: str) -> float:
    """-> epsilon of BatchNorm with which a file was published, known by its hash; of other files, this package's."""
    if isinstance(network, DetectorOnBackbone):
        for published in network.files:
            if sha256.startswith(published.sha256_start):
                return network.detector.file_epsilon
    return BATCH_NORM_EPSILON


def _check_download(path: Path, sha256: str) -> None:
    """Raises `WeightsError` if a file in the Hub's cache, whose name is its SHA-256, is damaged."""
    stored = path.resolve()
    if stored.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", stored.name) and stored.name != sha256:
        raise WeightsError(
            f"{path}: damaged: its SHA-256 is {sha256[:16]}..., but must be {stored.name[:16]}.... "
            f"Remove {stored} to download it again"
        )


def _check_published(network: Network, path: Path, sha256: str) -> None:
    """Raises `WeightsError` if a file has the name of a published one, which ends in its hash, and another hash."""
    for published in network.files:
        if path.name == published.name and not sha256.startswith(published.sha256_start):
            raise WeightsError(
                f"{path}: is not the published file of this name: its SHA-256 begins with {sha256[:8]}, and must begin "
                f"with {published.sha256_start}. Remove it and fetch it again; if it is a file of your own, rename it"
            )


# --- source -> path -----------------------------------------------------------------------------------------------


def resolve_weights(
    network: Network, weights: str | os.PathLike[str], imagenet_normalisation: bool = True, revision: str = ""
) -> tuple[Path, InputContract | None]:
    """Row of the table, source of weights -> path of a local file, input contract that the source states.

    If needed, the file is downloaded to the Hub's cache, or, for torchvision's files, to PyTorch's cache.

    Args:
        network: The network that the weights are for.
        weights: Source of the weights; see `load_weights`.
        imagenet_normalisation: Whether the network normalises pixels with ImageNet's statistics. If so, the
            `config.json` of a repository outside the table must not state other statistics.
        revision: Revision of the repository on the Hub; empty: its branch `main`.

    Raises:
        WeightsError: The source is unknown, or a file can't be downloaded.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise WeightsError(f"`weights` must be None, {_choices(network)}. Received: weights={weights!r}")
    repository, tag = _repository_of(network, weights), network.tag_of(weights)
    if revision and repository is None:
        raise WeightsError(
            "`revision` (--revision) is for weights on the Hugging Face Hub, which are hf://owner/repository and the "
            f"tags of classifiers. Received: weights={str(weights)!r}, revision={revision!r}"
        )
    if tag is not None:
        published = network.weights[tag]
        if isinstance(published, TorchvisionFile):
            return _download_torchvision(published), None
        return _download(f"timm/{network.name}.{tag}", HUB_FILE, revision), published.contract
    if repository is not None:
        return _from_repository(repository, revision, imagenet_normalisation)
    path = Path(weights).expanduser()
    if path.exists():
        return path, None
    if path.name.lower().endswith(FILE_SUFFIXES) or len(path.parts) > 1:
        raise WeightsError(f"`weights` names a file that does not exist. Received: weights={str(weights)!r}")
    raise WeightsError(_unknown_word(network, str(weights)))


def _choices(network: Network) -> str:
    imagenet = f"'imagenet' (which is {DEFAULT_TAG!r}), " if DEFAULT_TAG in network.weights else ""
    tags = f"{imagenet}a tag of {network.name} ({', '.join(network.weights)}), " if network.weights else ""
    return f"{tags}'hf://owner/repository', or the path of a file ({', '.join(WEIGHT_SUFFIXES)})"


def _unknown_word(network: Network, word: str) -> str:
    message = f"`weights` must be None, {_choices(network)}. Received: weights={word!r}"
    if isinstance(network, NetworkOnBackbone):
        if network.backbone.tag_of(word):
            return f"{message}. These are weights for the backbone: give backbone_weights={word!r}"
        choices = [*network.weights]
    else:
        if network.file is not None:
            return (
                f"{message}; {network.name} has no weights on the Hub. Download {network.file.name} from "
                f"{CIFAR_FILES}, and give its path"
            )
        names = [other.name for other in VARIANTS.values() if word in other.weights]
        if names:
            return f"{message}, which is published for {', '.join(names)} only"
        choices = ["imagenet", *network.weights]
    nearest = difflib.get_close_matches(word.lower(), [choice.lower() for choice in choices], n=1)
    found = next((choice for choice in choices if choice.lower() in nearest), None)
    return f"{message}; did you mean {found!r}?" if found else message


def _repository_of(network: Network, weights: str | os.PathLike[str]) -> str | None:
    """Row of the table, source of weights -> repository on the Hub that has them; None: they are elsewhere."""
    tag = network.tag_of(weights)
    if tag is not None:
        return f"timm/{network.name}.{tag}" if isinstance(network, Variant) else None
    if not (isinstance(weights, str) and weights.startswith("hf://")):
        return None
    repository = weights.removeprefix("hf://").rstrip("/")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise WeightsError(f"`weights` on the Hub must read 'hf://owner/repository'. Received: weights={weights!r}")
    return repository


def _from_repository(repository: str, revision: str, imagenet_normalisation: bool) -> tuple[Path, InputContract | None]:
    contract = None
    if imagenet_normalisation:
        config = _pretrained_config(repository, revision)
        _check_normalisation(repository, config)
        contract = _stated_contract(config)
    return _download(repository, HUB_FILE, revision), contract


def _pretrained_config(repository: str, revision: str) -> dict[str, Any]:
    """Repository -> content of timm's key `pretrained_cfg` in its `config.json`, or an empty dict without it."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        config_path = _download(repository, "config.json", revision)
    except WeightsError as error:
        cause = error.__cause__
        if isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
            return {}  # the repository exists, but has no such file
        raise
    check_pinned(repository, revision, config_path, file_sha256(config_path))
    try:
        config = json.loads(read_text(config_path))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"hf://{repository} has a config.json that can't be read ({error})") from error
    config = config if isinstance(config, dict) else {}
    _check_architecture(repository, config)
    stated = config.get("pretrained_cfg")
    return stated if isinstance(stated, dict) else {}


def _check_architecture(repository: str, config: dict[str, Any]) -> None:
    """Refuses networks whose tensors have the names and shapes of a ResNet here, but which compute something else."""
    architecture = str(config.get("architecture", ""))
    if has_same_tensors(architecture):
        raise WeightsError(f"hf://{repository} {blurs(architecture)}")
    if config.get("downsample_in_bottleneck") is True:
        raise WeightsError(
            f"hf://{repository} has downsample_in_bottleneck in its config.json: its blocks have the stride in their "
            "first 1x1 convolution, and here it is in the 3x3 convolution. Its weights would give wrong answers"
        )


def _check_normalisation(repository: str, config: dict[str, Any]) -> None:
    """Refuses weights trained with other pixel statistics, which would load but give wrong answers."""
    try:
        stated = {key: np.asarray(config[key], dtype=float) for key in ("mean", "std") if key in config}
    except (TypeError, ValueError) as error:
        raise WeightsError(f"hf://{repository} has a config.json that can't be read ({error})") from error
    for key, imagenet in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        if key in stated and (stated[key].shape != (3,) or not np.allclose(stated[key], imagenet, rtol=0, atol=1e-3)):
            raise WeightsError(
                f"hf://{repository} was trained with pixel {key} {stated[key].tolist()} (its config.json), while this "
                f"network's normalisation uses ImageNet's {list(imagenet)}: build it with "
                "include_preprocessing=False and normalise the pixels yourself"
            )


def _stated_contract(config: dict[str, Any]) -> InputContract | None:
    """timm's `pretrained_cfg` -> input contract, if it fully states a centre crop of 224 pixels."""
    interpolation, crop = config.get("interpolation"), config.get("crop_pct")
    if config.get("input_size") != [3, 224, 224] or config.get("crop_mode", "center") != "center":
        return None
    if interpolation not in ("bilinear", "bicubic") or not isinstance(crop, (int, float)) or not 0 < crop <= 1:
        return None
    return InputContract(224, math.floor(224 / crop), interpolation)  # rounded down, as timm does


def _download(repository: str, filename: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo_id=repository, filename=filename, revision=revision or None))
    except Exception as error:  # the client has many error types: no network, no such file, no permission
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise WeightsError(
            f"can't fetch {filename} of {repository} from the Hugging Face Hub ({type(error).__name__}: {reason}). "
            f"Download https://huggingface.co/{repository}/resolve/{revision or MAIN}/{HUB_FILE} on another machine, "
            f'and give it by path: weights="{HUB_FILE}"'
        ) from error


def _download_torchvision(file: TorchvisionFile) -> Path:
    """torchvision's file -> its path in PyTorch's cache, which torchvision also uses."""
    hub = require("torch.hub", "torch")
    path = Path(hub.get_dir(), "checkpoints", file.name)
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(file.url, str(path), hash_prefix=file.sha256_start, progress=sys.stderr.isatty())
    except Exception as error:  # no network, no permission, or a file with another hash
        raise WeightsError(
            f"can't fetch {file.url} ({type(error).__name__}: {reason(error)}). Download it on another machine, "
            f'and give it by path: weights="{file.name}"'
        ) from error
    return path


# --- the name map -------------------------------------------------------------------------------------------------

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}

# Architecture: {our unit of convolution and BatchNorm: torchvision's convolution, whose BatchNorm is the next module}.
_UNITS = {
    "fcn": {layer_names.DECODER: "classifier.0", layer_names.AUXILIARY: "aux_classifier.0"},
    "deeplabv3": {
        **{layer_names.numbered(layer_names.ASPP, i): f"classifier.0.convs.{i - 1}.0" for i in (1, 2, 3, 4)},
        layer_names.numbered(layer_names.ASPP, 5): "classifier.0.convs.4.1",
        layer_names.ASPP_PROJECT: "classifier.0.project.0",
        layer_names.DECODER: "classifier.1",
        layer_names.AUXILIARY: "aux_classifier.0",
    },
}
_AUXILIARY_LOGITS = layer_names.of_head(layer_names.LOGITS, layer_names.AUXILIARY)
_HEADS = {layer_names.LOGITS: "classifier.4", _AUXILIARY_LOGITS: "aux_classifier.4"}  # for segmentation


_DETECTOR_HEADS = (layer_names.BOX_LOGITS, layer_names.BOX_DELTAS, layer_names.MASK_LOGITS)


def torchvision_names(network: Network) -> dict[str, WeightsTarget]:
    """Row of the table -> `{torchvision's tensor: (our layer, its variable)}`, for all tensors of a checkpoint.

    torchvision lacks the networks for CIFAR. The files of akamaster/pytorch_resnet_cifar10 use torchvision's names,
    except for the head. The variables of a layer are in the order in which Keras stores them. `num_batches_tracked`,
    PyTorch's count of training steps, is left out, since no prediction uses it.

    Raises:
        WeightsError: torchvision has no such network.
    """
    if isinstance(network, Variant):
        return _backbone_names(network) | _layer_names(network.design.dense_layer, layer_names.LOGITS)
    if isinstance(network, DetectorOnBackbone):
        backbone = {f"backbone.body.{name}": target for name, target in _backbone_names(network.backbone).items()}
        return backbone | _detector_names(network.detector)
    if network.architecture not in _UNITS:
        raise WeightsError(
            f"torchvision has no {network.name}, and so no names for its tensors. Give weights that Keras saved, in a "
            ".keras or .weights.h5 file"
        )
    names = {f"backbone.{name}": target for name, target in _backbone_names(network.backbone).items()}
    for ours, conv in _UNITS[network.architecture].items():
        module, _, index = conv.rpartition(".")
        names |= _unit_names(conv, f"{module}.{int(index) + 1}", ours)
    for ours, theirs in _HEADS.items():
        names |= _layer_names(theirs, ours)
    return names


def _backbone_names(variant: Variant) -> dict[str, WeightsTarget]:
    names = _unit_names("conv1", "bn1", layer_names.STEM)
    convolutions = 2 if variant.block == "basic" else 3
    for layer, blocks in enumerate(variant.blocks_per_stage, start=1):
        for index in range(blocks):
            theirs, ours = f"layer{layer}.{index}", layer_names.block(layer + 1, index + 1)
            for i in range(1, convolutions + 1):
                names |= _unit_names(f"{theirs}.conv{i}", f"{theirs}.bn{i}", layer_names.numbered(ours, i))
            changes_shape = index == 0 and (layer > 1 or variant.expansion > 1)
            if changes_shape and variant.design.shortcut == "projection":
                names |= _unit_names(f"{theirs}.downsample.0", f"{theirs}.downsample.1", layer_names.shortcut(ours))
    return names


def _detector_names(detector: Detector) -> dict[str, WeightsTarget]:
    """Row of the table -> name map of pyramid and heads."""

    def unit(theirs: str, ours: str) -> dict[str, WeightsTarget]:
        if detector.has_batch_norm:
            return _unit_names(f"{theirs}.0", f"{theirs}.1", ours)
        return _layer_names(f"{theirs}.0", layer_names.conv(ours))

    names: dict[str, WeightsTarget] = {}
    for i, level in enumerate((2, 3, 4, 5)):
        names |= unit(f"backbone.fpn.inner_blocks.{i}", layer_names.lateral(level))
        names |= unit(f"backbone.fpn.layer_blocks.{i}", layer_names.output(level))
    for i in range(detector.rpn_convolutions):
        names |= _layer_names(f"rpn.head.conv.{i}.0", layer_names.conv(layer_names.numbered(layer_names.RPN, i + 1)))
    names |= _layer_names("rpn.head.cls_logits", layer_names.RPN_LOGITS)
    names |= _layer_names("rpn.head.bbox_pred", layer_names.RPN_DELTAS)
    convolutions = detector.box_convolutions
    for i in range(convolutions):
        names |= unit(f"roi_heads.box_head.{i}", layer_names.numbered(layer_names.BOX, i + 1))
    dense = [f"{convolutions + 1}"] if convolutions else ["fc6", "fc7"]  # a flattening module stands before the first
    for i, theirs in enumerate(dense):
        ours = layer_names.dense(layer_names.numbered(layer_names.BOX, convolutions + i + 1))
        names |= _layer_names(f"roi_heads.box_head.{theirs}", ours)
    names |= _layer_names("roi_heads.box_predictor.cls_score", layer_names.BOX_LOGITS)
    names |= _layer_names("roi_heads.box_predictor.bbox_pred", layer_names.BOX_DELTAS)
    for i in range(detector.mask_convolutions):
        names |= unit(f"roi_heads.mask_head.{i}", layer_names.numbered(layer_names.MASK, i + 1))
    if detector.mask_convolutions:
        names |= _layer_names("roi_heads.mask_predictor.conv5_mask", layer_names.MASK_UPSAMPLE)
        names |= _layer_names("roi_heads.mask_predictor.mask_fcn_logits", layer_names.MASK_LOGITS)
    return names


# torchvision's names of convolutions with a bias, before the modules of its detectors had version 2.
_EARLIER_NAMES = (
    (re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)"), r"\1.0.\2"),
    (re.compile(r"rpn\.head\.conv\.(weight|bias)"), r"rpn.head.conv.0.0.\1"),
    *(
        (re.compile(rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.(weight|bias)"), rf"roi_heads.mask_head.{i}.0.\1")
        for i in range(4)
    ),
)


_FLATTENED = 7  # positions a side of the map that a box head flattens


def _flattened_layer(network: Network) -> str | None:
    """-> our dense layer that reads a flattened map, in a detector."""
    if not isinstance(network, DetectorOnBackbone):
        return None
    unit = layer_names.numbered(layer_names.BOX, network.detector.box_convolutions + 1)
    return layer_names.dense(unit)


def _present_name(name: str) -> str:
    """Name of a detector's tensor, in torchvision's earlier or present spelling -> in the present one."""
    for earlier, present in _EARLIER_NAMES:
        if earlier.fullmatch(name):
            return earlier.sub(present, name)
    return name


def _unit_names(conv: str, bn: str, ours: str) -> dict[str, WeightsTarget]:
    """torchvision's convolution and BatchNorm, our unit of both -> name map of their tensors."""
    names = {f"{conv}.weight": (layer_names.conv(ours), "kernel")}
    return names | {f"{bn}.{theirs}": (layer_names.bn(ours), variable) for theirs, variable in _BATCH_NORM.items()}


def _layer_names(theirs: str, ours: str) -> dict[str, WeightsTarget]:
    """torchvision's layer with a bias, our layer -> name map of its tensors."""
    return {f"{theirs}.weight": (ours, "kernel"), f"{theirs}.bias": (ours, "bias")}


def _keras_names(targets: Iterable[WeightsTarget]) -> dict[str, WeightsTarget]:
    """Our variables -> name map for Keras' files, which number a layer's variables."""
    variables: dict[str, list[str]] = {}
    for layer, variable in targets:
        variables.setdefault(layer, []).append(variable)
    return {f"{layer}/{i}": (layer, variable) for layer in variables for i, variable in enumerate(variables[layer])}


def _is_optional(layer: str) -> bool:
    """Whether the layer belongs to a head, so that a file may have it even if the model does not."""
    return layer == layer_names.LOGITS or layer_names.is_of(layer, layer_names.AUXILIARY)


def _to_keras_axes(tensor: np.ndarray, layout: str, flattened: bool = False) -> np.ndarray:
    """torchvision's OIHW kernel -> HWIO; `[classes, features]` -> `[features, classes]`; other tensors unchanged.

    The kernel of a transposed convolution is IOHW, and becomes HWOI. With `flattened`, the features are a flattened map
    of 7x7 positions: torchvision flattens it by channel, row and column, and Keras by row, column and channel.
    """
    if layout == "torchvision" and tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    if layout == "torchvision" and flattened and tensor.ndim == 2 and tensor.shape[1] % _FLATTENED**2 == 0:
        outputs, features = tensor.shape
        return tensor.reshape(outputs, -1, _FLATTENED**2).transpose(2, 1, 0).reshape(features, outputs)
    return tensor.T if layout == "torchvision" else tensor


def _file_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Shape of our variable -> the shape that a file of that layout must hold."""
    if layout == "torchvision" and len(shape) == 4:
        height, width, inputs, outputs = shape
        return outputs, inputs, height, width
    return shape[::-1] if layout == "torchvision" else shape


# --- tensors -> variables -----------------------------------------------------------------------------------------

WeightsProblem = Literal[
    "missing",
    "unknown",
    "misshaped",
    "not floating point",
    "non-finite",
    "negative variance",
    "zero variance at epsilon 0",
]


def match_weights(
    model: keras.Model, network: Network, file: WeightFile | Checkpoint, source: str, reading: WeightsFrom
) -> list[tuple[Any, np.ndarray]]:
    """Model, its row, a file's content -> `[(variable, float32 array)]`, checked and complete.

    For other than 3 input channels, the stem is summed (1 channel) or repeated and scaled (2, 4 or more). A
    head with another number of classes stays random, with a warning. One line is logged
    about a file that holds more than one plain network.

    Raises:
        WeightsError: Tensors are wrong; the message lists each with its problem.
    """
    problems: dict[WeightsProblem, list[str]] = {}
    variables = {(layer.name, variable.name): variable for layer in model.layers for variable in layer.weights}
    names = _keras_names(variables) if isinstance(file, WeightFile) else torchvision_names(network)
    taken: TakenNetwork | None = None
    architecture = ""
    if isinstance(file, Checkpoint):
        architecture = file.architecture
        if has_same_tensors(architecture):
            raise WeightsError(f"{source} {blurs(architecture)}")
        taken = take_network(
            file,
            [name for name, (layer, _) in names.items() if not _is_optional(layer)],
            _head_of(network, variables, reading.fresh_head),
            isinstance(network, NetworkOnBackbone),
            reading.prefix,
        )
        if isinstance(network, DetectorOnBackbone):
            taken = _in_present_names(taken)
        file = WeightFile("torchvision", taken.tensors)
    own = taken.file_names if taken else {}
    tensors = file.tensors

    fresh = _fresh_heads(variables, names, tensors, file.layout, source, reading.fresh_head)
    layer_of = {name: name.rpartition("/")[0] for name in tensors} | {name: layer for name, (layer, _) in names.items()}
    present = {layer for layer, _ in variables}
    aside = fresh | {layer for layer in layer_of.values() if _is_optional(layer) and layer not in present}
    names = {name: target for name, target in names.items() if target[0] not in aside}
    tensors = {name: tensor for name, tensor in tensors.items() if layer_of[name] not in aside}

    values: list[tuple[Any, np.ndarray]] = []
    read: dict[WeightsTarget, np.ndarray] = {}
    epsilon = BATCH_NORM_EPSILON if reading.batch_norm_epsilon is None else reading.batch_norm_epsilon
    for layer in fresh:  # these layers were built with zeros
        kernel, draw = variables[layer, "kernel"], model.get_layer(layer).kernel_initializer
        values.append((kernel, keras.ops.convert_to_numpy(draw(kernel.shape, kernel.dtype))))
    for name, target in names.items():
        label = f"{escaped(own.get(name, name))} -> {'/'.join(target)}"
        if name not in tensors:
            problems.setdefault("missing", []).append(label)
            continue
        if not np.issubdtype(tensors[name].dtype, np.floating):
            problems.setdefault("not floating point", []).append(f"{label}: {tensors[name].dtype}")
            continue
        value = _to_keras_axes(tensors[name], file.layout, target == (_flattened_layer(network), "kernel"))
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is reported
            value = value.astype(np.float32, order="C")  # saves each backend a copy of transposed kernels
        shape = tuple(variables[target].shape)
        if target == STEM_KERNEL:
            value = _fit_input_channels(value, shape)
        if value.shape != shape:
            wanted = _file_shape(shape, file.layout)
            problems.setdefault("misshaped", []).append(f"{label}: {tensors[name].shape}, must be {wanted}")
        elif not np.isfinite(value).all():
            count = np.count_nonzero(~np.isfinite(value))
            problems.setdefault("non-finite", []).append(f"{label}: {count:,} of {value.size:,} values")
        elif target[1] == "moving_variance" and value.min() < 0:
            problems.setdefault("negative variance", []).append(f"{label}: down to {value.min():.4g}")
        elif target[1] == "moving_variance" and value.min() + epsilon == 0:
            problems.setdefault("zero variance at epsilon 0", []).append(label)
        read[target] = value
    unknown = [escaped(own.get(name, name)) for name in tensors if name not in names]
    if unknown:
        problems["unknown"] = unknown
    if problems:
        cause = _likely_cause(network, file.layout, names, tensors, problems, variables, taken)
        if architecture and architecture != network.name:
            cause = f"{cause or 'another network'}; the file states that it is a {escaped(architecture)}"
        where = f"{source}, {taken.where}," if taken and taken.line else source
        raise WeightsError(*_report(model, where, problems, cause))
    if taken and taken.line:
        _LOG.warning(taken.line)
    if epsilon != BATCH_NORM_EPSILON:
        read |= _scales_at_own_epsilon(read, epsilon)
    return values + [(variables[target], value) for target, value in read.items()]


def _scales_at_own_epsilon(read: Mapping[WeightsTarget, np.ndarray], epsilon: float) -> dict[WeightsTarget, np.ndarray]:
    """Arrays of a file, epsilon of its BatchNorm -> scales with which the layers here, whose epsilon is another, equal.

    A scale by 1 / sqrt(variance + epsilon) stays what it was. The variances stay too: a smaller one, as variance +
    epsilon - 1e-5, could be negative, and would lose the digits of the small variances.
    """
    scales = {}
    for (layer, variable), scale in read.items():
        if variable == "gamma":
            variance = read[layer, "moving_variance"].astype("float64")
            ratio = np.sqrt((variance + BATCH_NORM_EPSILON) / (variance + epsilon))
            scales[layer, variable] = (scale * ratio).astype("float32")
    return scales


def _in_present_names(taken: TakenNetwork) -> TakenNetwork:
    """Detector in a file -> its tensors in the present spelling; a tensor that is there in both stays, as unknown."""
    present = {name: _present_name(name) for name in taken.tensors}
    present = {name: name if new in taken.tensors else new for name, new in present.items()}
    return taken._replace(
        tensors={present[name]: tensor for name, tensor in taken.tensors.items()},
        file_names={present[name]: theirs for name, theirs in taken.file_names.items()},
    )


def _head_of(network: Network, variables: Mapping[WeightsTarget, Any], may_be_fresh: bool) -> Head | None:
    """-> the dense layer that a classifier has; None for features and segmentation networks."""
    kernel = variables.get((layer_names.LOGITS, "kernel"))
    if kernel is None or not isinstance(network, Variant):
        return None
    features, classes = kernel.shape
    return Head(network.design.dense_layer, features, classes, may_be_fresh)


def _fresh_heads(
    variables: Mapping[WeightsTarget, Any],
    names: Mapping[str, WeightsTarget],
    tensors: Mapping[str, np.ndarray],
    layout: str,
    source: str,
    may_be_missing: bool,
) -> set[str]:
    """Layers of the model that the file holds for another number of classes; warns if there are any.

    Args:
        may_be_missing: Whether a classifier's head that the file lacks counts as well.
    """
    fresh = set()
    for layer in (*_HEADS, *_DETECTOR_HEADS):
        ours = [tuple(variable.shape) for target, variable in variables.items() if target[0] == layer]
        stored = [tensors[name] for name, target in names.items() if target[0] == layer and name in tensors]
        theirs = [_to_keras_axes(tensor, layout).shape for tensor in stored]
        # The kernels have equal features, and the biases match the classes, but the numbers of classes differ.
        if len(ours) == len(theirs) == 2 and ours[0][:-1] == theirs[0][:-1] and ours[1] != theirs[1] == theirs[0][-1:]:
            fresh.add(layer)
            if layer in _HEADS:
                classes = f"the model has {ours[1][0]} classes, {source} has {theirs[1][0]}"
            elif layer == layer_names.BOX_LOGITS:
                classes = f"the model has {ours[1][0] - 1} classes, {source} has {theirs[1][0] - 1}, and the background"
        elif may_be_missing and layer == layer_names.LOGITS and ours and not theirs:
            fresh.add(layer)
            classes = f"{source} has none"
    if fresh:
        # The warning names the line that calls ResNet50(...).
        warnings.warn(f"the head stays fresh (random): {classes}", stacklevel=7)
    return fresh


def _fit_input_channels(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Stem's kernel `[h, w, 3, filters]` -> `[h, w, C, filters]`: summed for C = 1, otherwise repeated and rescaled.

    This is timm's convention (`adapt_input_conv`). Other kernels do not change.
    """
    channels = shape[2]
    if kernel.ndim != 4 or kernel.shape[2] != 3 or channels == 3:
        return kernel
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % 3] * np.float32(3 / channels)


def _split(names: Mapping[str, WeightsTarget], tensors: Iterable[str]) -> tuple[set[str], set[str]]:
    """Names of a network, names in a file -> both without the names of the network's heads."""
    heads = {name for name, (layer, _) in names.items() if _is_optional(layer) or layer in _DETECTOR_HEADS}
    return set(names) - heads, set(tensors) - heads


def _another_network(network: Network, layout: str, tensors: Iterable[str]) -> str | None:
    """What the file is, if it holds just the tensors of another network; heads are left out of the comparison."""
    on_backbones = [NetworkOnBackbone(head, VARIANTS[name], {}) for head in _UNITS for name in BACKBONES]
    detectors = [DetectorOnBackbone(row, VARIANTS[name], {}) for row in DETECTORS for name in BACKBONES]
    others: list[Network] = [*VARIANTS.values(), *on_backbones, *detectors]
    tensors = {_present_name(name) for name in tensors}
    for other in others:
        theirs = torchvision_names(other)
        wanted, found = _split(theirs if layout == "torchvision" else _keras_names(theirs.values()), tensors)
        if other.name != network.name and found == wanted:
            return f"these are the weights of a {other.name}, but the model is a {network.name}"
    return None


def _likely_cause(
    network: Network,
    layout: str,
    names: Mapping[str, WeightsTarget],
    tensors: Mapping[str, np.ndarray],
    problems: Mapping[WeightsProblem, list[str]],
    variables: Mapping[WeightsTarget, Any],
    taken: TakenNetwork | None,
) -> str | None:
    """What the file probably is, from the names and shapes of its tensors."""
    another = _another_network(network, layout, taken.around) if taken else None
    another = another or _another_network(network, layout, tensors)
    if another:
        return another
    if layout == "torchvision" and isinstance(network, Variant):
        shapes = {name: _file_shape(tuple(variables[target].shape), layout) for name, target in names.items()}
        kind = other_network(shapes, {name: tensor.shape for name, tensor in tensors.items()})
        if kind:
            return kind
    if layout == "keras":
        foreign = weights_of_keras_applications(name.rpartition("/")[0] for name in tensors)
        if foreign:
            return foreign
    wanted, found = _split(names, tensors)
    if not found & wanted:
        prefix = "" if isinstance(network, Variant) else "backbone."
        return (
            f"no tensor has a name of torchvision's ResNet ({prefix}conv1.weight, {prefix}layer1.0.conv1.weight, ...): "
            "it is another architecture, or its names have a prefix"
            if layout == "torchvision"
            else f"no layer has a name of this package's networks ({', '.join(layer_names.EXAMPLES)}, ...)"
        )
    if problems.keys() == {"missing"} and found == wanted:
        missing = {layer for name, (layer, _) in names.items() if name not in tensors}
        if all(layer_names.is_of(layer, layer_names.AUXILIARY) for layer in missing):
            return "the file has no auxiliary head: build the network with auxiliary_head=False"
        if missing == {layer_names.LOGITS} and isinstance(network, Variant):
            if taken and taken.heads:
                found_heads = ", ".join(f"'{escaped(name)}'" for name in taken.heads)
                return (
                    f"the file has {len(taken.heads)} layers that could be the head: {found_heads}. Build the network "
                    "with include_top=False, or train a new head: `keras-resnet train --weights FILE`"
                )
            return (
                "the file has no head: build the network with include_top=False, or train a new head: `keras-resnet "
                "train --weights FILE`, and in Python WeightsFrom(path, fresh_head=True)"
            )
    beside = found - wanted
    if problems.keys() == {"unknown"} and isinstance(network, Variant) and not any(map(_IN_BACKBONE.match, beside)):
        return (
            "these tensors stand beside the network, and could change what its head is given: include_top=False leaves "
            "both aside"
        )
    if problems.keys() == {"misshaped"} and found == wanted:
        return "the depth fits, but the widths differ: a Wide ResNet, a ResNeXt, or other input channels or classes"
    return None


def _report(model: keras.Model, source: str, problems: dict[WeightsProblem, list[str]], cause: str | None) -> list[str]:
    lines = [f"{source} does not fit {model.name}; nothing was loaded"]
    if cause:
        lines.append(f"likely cause: {cause}")
    for problem, tensors in problems.items():
        lines.append(f"{problem} ({len(tensors)}):")
        lines += [f"  {tensor}" for tensor in tensors[:TENSORS_LISTED]]
        if len(tensors) > TENSORS_LISTED:
            lines.append(f"  ... and {len(tensors) - TENSORS_LISTED} more")
    return lines
