"""The typed recipe: every setting of a training run, from a TOML file and from flags that override its keys."""

import dataclasses
import difflib
import json
import math
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keras_resnet.data.augment import Augmentation
from keras_resnet.errors import ArgumentError
from keras_resnet.variants import BACKBONES, VARIANTS, InputContract

Level = Literal["none", "stem", "C2", "C3", "C4", "C5"]


@dataclass(frozen=True)
class Recipe(Augmentation):
    """Settings of one run; those of the images' augmentation are `Augmentation`'s own fields."""

    task: Literal["classify", "segment"] = "classify"
    data: str = ""
    network: str = "resnet50"
    architecture: Literal["fcn", "deeplabv3", "deeplabv3plus", "unet"] = "deeplabv3plus"
    output_stride: int = 0
    auxiliary_head: bool = False
    weights: str = ""
    backbone_weights: str = ""
    classes: int = 0
    freeze: Level = "none"
    freeze_batch_norm: bool = False

    size: int = 224
    progressive_sizes: tuple[int, ...] = ()
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    class_weights: Literal["none", "balanced"] = "none"
    void_labels: tuple[int, ...] = ()
    problem_limit: int = 1000

    epochs: int = 90
    head_epochs: int = 0
    batch_size: int = 256
    loss: Literal["cross_entropy", "binary", "focal", "dice"] = "cross_entropy"
    optimizer: Literal["sgd", "lamb", "adamw"] = "sgd"
    learning_rate: float = 0.1
    schedule: Literal["cosine", "poly"] = "cosine"
    level_decay: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 5.0
    clip_norm: float = 0.0
    accumulation_steps: int = 1
    ema_momentum: float = 0.0

    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    xla: Literal["auto", "on", "off"] = "auto"
    devices: int = 0
    seed: int = 0
    deterministic: bool = False
    checkpoint_steps: int = 1000
    checkpoints_kept: int = 2

    def __post_init__(self) -> None:
        for name, rule, holds in self._rules():
            if not holds:
                raise ArgumentError(f"the recipe's `{name}` must {rule}. Received: {name} = {getattr(self, name)!r}")

    def _rules(self) -> list[tuple[str, str, bool]]:
        at_least_one = ("size", "epochs", "batch_size", "accumulation_steps", "checkpoint_steps", "checkpoints_kept")
        not_negative = (
            *("classes", "head_epochs", "learning_rate", "weight_decay", "warmup_epochs", "clip_norm", "devices"),
            *("seed", "problem_limit", "mixup_alpha", "randaugment_operations", "colour_jitter"),
        )
        shares = (
            *("minimum_area", "cutmix_alpha", "erasing_probability", "label_smoothing", "randaugment_magnitude"),
            "momentum",
        )
        scales = 0 < self.minimum_scale <= self.maximum_scale
        segments = self.task == "segment"
        of_masks = ("architecture", "output_stride", "auxiliary_head", "backbone_weights")
        return [
            *((name, "be at least 1", getattr(self, name) >= 1) for name in at_least_one),
            *((name, "not be negative", getattr(self, name) >= 0) for name in not_negative),
            *((name, "lie in 0..1", 0 <= getattr(self, name) <= 1) for name in shares),
            ("network", f"be one of {', '.join(VARIANTS)}", self.network in VARIANTS),
            ("head_epochs", "be fewer than the epochs", self.head_epochs < self.epochs),
            ("level_decay", "lie above 0 and not above 1", 0 < self.level_decay <= 1),
            ("ema_momentum", "lie in 0..1, without 1", 0 <= self.ema_momentum < 1),
            ("progressive_sizes", "hold sizes of at least 1", all(size >= 1 for size in self.progressive_sizes)),
            ("void_labels", "hold labels in 0..255", all(0 <= label <= 255 for label in self.void_labels)),
            ("minimum_scale", "lie above 0 and not above maximum_scale", scales),
            ("freeze", "leave something to train: give weights", self.freeze == "none" or self.starts_from != ""),
            *(
                (name, "be left out, but for task = segment", segments or getattr(self, name) == getattr(Recipe, name))
                for name in of_masks
            ),
            (
                "network",
                f"be one of {', '.join(BACKBONES)} for segmentation",
                not segments or self.network in BACKBONES,
            ),
        ]

    @property
    def starts_from(self) -> str:
        """Weights of the whole network, or of its backbone; empty: random."""
        return self.weights or self.backbone_weights

    @property
    def contract(self) -> InputContract:
        """How the images of validation, and those that the model will be used on, become its pixels."""
        if self.crop == "resized":
            proportional = InputContract.for_size(self.size)
            return InputContract(self.size, proportional.resize, self.interpolation)
        return InputContract(self.size, self.size, self.interpolation)

    def size_of_epoch(self, epoch: int) -> int:
        """Epoch, from 0 -> pixels a side of its training images: each of the progressive sizes, then `size`."""
        sizes = (*self.progressive_sizes, self.size)
        return sizes[min(epoch * len(sizes) // self.epochs, len(sizes) - 1)]

    def to_toml(self) -> str:
        """-> the recipe as a TOML file that `read_recipe` takes."""
        values = dataclasses.asdict(self)
        return "".join(f"{name} = {_toml(values[name])}\n" for name in HELP)


def _toml(value: Any) -> str:
    """JSON is TOML here, but for DEL, and the surrogates that JSON escapes characters beyond U+FFFF with."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# What each key is, in the order in which a reader meets them; the command line's help and the recipe that a run
# directory keeps follow it.
HELP: Mapping[str, str] = {
    "task": "classify: a class for each image; segment: a class for each pixel.",
    "data": "Folder of class folders (or of train/ and val/), CSV file, folder of packed shards, .npz, or tfds:NAME.",
    "network": ", ".join(VARIANTS) + ".",
    "architecture": "Of a segmentation network over that ResNet: fcn, deeplabv3, deeplabv3plus or unet.",
    "output_stride": "Of its last level: 16, or 8, which is finer and slower; 0: the architecture's own.",
    "auxiliary_head": "Whether fcn and deeplabv3 have a second loss, on C4, in training.",
    "weights": "To start from: a published tag, a path, or hf://owner/repository; empty: random.",
    "backbone_weights": "Likewise, of the backbone of a segmentation network alone.",
    "classes": "Number of classes, to be sure; 0: as many as the data has.",
    "freeze": "Last level that is not trained: none, stem, C2, C3, C4 or C5. Frozen BatchNorm runs in inference mode.",
    "freeze_batch_norm": "Whether all BatchNorm layers keep their statistics and are not trained.",
    "size": "Pixels a side of the images.",
    "progressive_sizes": "Smaller sizes to begin with, each for an equal share of the epochs.",
    "interpolation": "Filter of the resize: bilinear or bicubic.",
    "crop": "Of training images: resized (random area), padded (shifted by an eighth), scaled (random factor) or none.",
    "minimum_area": "Smallest share of the image that a resized crop takes.",
    "minimum_scale": "Smallest factor by which the image of a scaled crop is resized.",
    "maximum_scale": "Largest such factor.",
    "flip": "Whether training images are mirrored at random.",
    "randaugment_operations": "RandAugment's operations for each image; 0: none.",
    "randaugment_magnitude": "Their strength, 0..1.",
    "colour_jitter": "Strength of random brightness, contrast, saturation and hue, 0..1.",
    "erasing_probability": "Share of the images of which a rectangle is erased.",
    "mixup_alpha": "MixUp's alpha; 0: none.",
    "cutmix_alpha": "CutMix's alpha; 0: none. With both, each batch takes one of the two.",
    "label_smoothing": "Share of the label that is spread over all classes.",
    "class_weights": "balanced: classes count alike however many images they have; none: images do.",
    "void_labels": "Labels of masks, besides 255, whose pixels are of no class.",
    "problem_limit": "Files that can't be read, after which the run stops.",
    "epochs": "Passes over the training images.",
    "head_epochs": "Of these, the first that train the head alone.",
    "batch_size": "Images of one step, over all devices and processes.",
    "loss": "cross_entropy, binary (each class on its own), focal, or dice (of masks).",
    "optimizer": "sgd (with Nesterov momentum), lamb or adamw.",
    "learning_rate": "At its peak: a linear warm-up leads there, the schedule down from it.",
    "schedule": "cosine, or poly: what is left of the updates, as a share, to the power of 0.9.",
    "level_decay": "Factor of the learning rate of each level below the head: the highest has it once, the next twice.",
    "momentum": "Of sgd.",
    "weight_decay": "Of kernels, not of BatchNorm and biases; coupled with sgd, as in PyTorch, else decoupled.",
    "warmup_epochs": "Epochs of the warm-up, which takes at most half of a phase.",
    "clip_norm": "Largest norm of the whole gradient; 0: as it is.",
    "accumulation_steps": "Batches whose gradients are averaged for one update.",
    "ema_momentum": "Of the average of the weights that is validated and saved, 0.9999 say; 0: no average.",
    "precision": "float32, mixed_bfloat16, mixed_float16 (with loss scaling), or auto: by the device.",
    "xla": "Whether TensorFlow compiles the step: on, off, or auto.",
    "devices": "Devices of this machine; 0: all GPUs, or the CPU.",
    "seed": "Of weights, order of the images and augmentation.",
    "deterministic": "Whether the same run gives the same bits; slower on a GPU.",
    "checkpoint_steps": "Steps between checkpoints; the end of an epoch is one too.",
    "checkpoints_kept": "Newest checkpoints that are kept.",
}


def read_recipe(path: str | os.PathLike[str] | None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """TOML file, keys that take the place of its own -> recipe; without a file, the defaults.

    Raises:
        ArgumentError: The file can't be read, or a key is unknown, of another type or out of its range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ArgumentError(f"{path}: the recipe can't be read: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ArgumentError(f"{path}: the recipe is not a TOML file: {error}") from error
    source = "the recipe" if path is None else os.fspath(path)
    merged = values | dict(overrides or {})
    hints = typing.get_type_hints(Recipe)
    unknown = [key for key in merged if key not in HELP]
    if unknown:
        lines = []
        for key in unknown:
            nearest = difflib.get_close_matches(key, HELP, n=1)
            lines.append(f"  {key}" + (f" (did you mean {nearest[0]}?)" if nearest else ""))
        raise ArgumentError("\n".join([f"{source}: {len(unknown)} keys are not a recipe's:", *lines]))
    return Recipe(**{key: _checked(source, key, value, hints[key]) for key, value in merged.items()})


def _checked(source: str, key: str, value: Any, kind: Any) -> Any:
    """Value as TOML or a flag gives it -> the same in the key's own type."""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value in choices:
            return value
        raise ArgumentError(f"{source}: `{key}` must be one of {', '.join(choices)}. Received: {key} = {value!r}")
    if typing.get_origin(kind) is tuple:
        if isinstance(value, (list, tuple)) and all(type(item) is int for item in value):
            return tuple(value)
        raise ArgumentError(f"{source}: `{key}` must be a list of integers. Received: {key} = {value!r}")
    if kind is float and type(value) in (int, float):
        if math.isfinite(value):
            return float(value)
        raise ArgumentError(f"{source}: `{key}` must be finite. Received: {key} = {value!r}")
    if not isinstance(kind, types.GenericAlias) and type(value) is kind:
        return value
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    raise ArgumentError(f"{source}: `{key}` must be {names[kind]}. Received: {key} = {value!r}")
