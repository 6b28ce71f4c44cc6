"""The typed recipe: every setting of a training run, read from a TOML file and from flags that override its keys."""

import dataclasses
import difflib
import json
import math
import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from keras_resnet import recipes
from keras_resnet.data.augment import Augmentation
from keras_resnet.data.reading import Reading
from keras_resnet.errors import ArgumentError, reason
from keras_resnet.regular_files import read_text
from keras_resnet.settings import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    SHARE,
    SHARE_WITHOUT_ONE,
    SHARE_WITHOUT_ZERO,
    Rule,
    one_of,
    setting,
    settings_of,
)
from keras_resnet.tasks import LEARNED
from keras_resnet.variants import LARGEST_SIDE, VARIANTS, InputContract
from keras_resnet.weights_from import WeightsFrom

LARGEST_INTEGER = 2**32
AT_MOST_LARGEST = Rule(f"be at most {LARGEST_SIDE}", lambda size: size <= LARGEST_SIDE)


@dataclass(frozen=True)
class _Network:
    """Settings of the network, the data and the image size."""

    task: str = setting(
        "classify",
        f"Task: {', '.join(f'{task.name} ({task.predicts})' for task in LEARNED.values())}.",
        one_of(LEARNED),
    )
    data: str = setting(
        "",
        "Images with their classes or masks: a folder of class folders (or with train/ and val/), a folder with "
        "images/ and masks/, a CSV file, a folder of packed shards, an .npz archive, or tfds:NAME.",
    )
    network: str = setting("resnet50", f"Network: {', '.join(VARIANTS)}.", one_of(VARIANTS))
    architecture: Literal["fcn", "deeplabv3", "deeplabv3plus", "unet"] = setting(
        "deeplabv3plus",
        "Segmentation network over the ResNet: fcn, deeplabv3, deeplabv3plus or unet.",
        tasks=("segment",),
    )
    output_stride: int = setting(
        0,
        "Stride of the segmentation network's last level: 16, or 8 (finer and slower); 0: the architecture's default.",
        tasks=("segment",),
    )
    auxiliary_head: bool = setting(
        False,
        "Second output of fcn and deeplabv3 for training, with a loss of its own, on the feature maps C4.",
        tasks=("segment",),
    )
    detector: Literal["faster_rcnn", "mask_rcnn"] = setting(
        "faster_rcnn",
        "Detector over the ResNet: faster_rcnn (boxes), or mask_rcnn (boxes and masks, for data with masks).",
        tasks=("detect",),
    )
    detector_version: Literal["v1", "v2"] = setting(
        "v1",
        "Version of the detector in torchvision: v1, or v2 (deeper heads with BatchNorm; slower).",
        tasks=("detect",),
    )
    anchor_sizes: tuple[int, ...] = setting(
        (32, 64, 128, 256, 512),
        "Sides of the detector's anchors in pixels, one for each of its 5 maps; `data check` proposes sizes for a set.",
        Rule("hold 5 sizes of at least 1", lambda sizes: len(sizes) == 5 and min(sizes) >= 1),
        tasks=("detect",),
    )
    pyramid_channels: int = setting(
        256, "Channels of the detector's pyramid and of the convolutions in its heads.", AT_LEAST_ONE, tasks=("detect",)
    )
    box_units: int = setting(1024, "Units of the dense layers in the detector's head.", AT_LEAST_ONE, tasks=("detect",))
    proposals: int = setting(
        1000,
        "Number of boxes of an image that the detector's heads look at; twice as many in training, from which the "
        "samples are drawn.",
        AT_LEAST_ONE,
        tasks=("detect",),
    )
    max_detections: int = setting(
        100, "Largest number of objects that the detector finds in an image.", AT_LEAST_ONE, tasks=("detect",)
    )
    box_samples: int = setting(
        512,
        "Number of boxes of an image that the detector's heads learn from; at most a quarter of them shows objects.",
        Rule("be at least 4", lambda count: count >= 4),
        tasks=("detect",),
    )
    weights: str = setting(
        "", "Weights to start from: imagenet, a published tag, a path, or hf://owner/repository; empty: random."
    )
    backbone_weights: str = setting(
        "",
        "Weights for the backbone of the segmentation network or detector: imagenet, a published tag, a path, or "
        "hf://owner/repository; empty: random.",
        tasks=("segment", "detect"),
    )
    weights_prefix: str = setting(
        "",
        "Beginning of the tensors' names of the wanted network, if the file of weights holds several networks; empty: "
        "the network that fits, not its moving average.",
    )
    revision: str = setting(
        "",
        "Revision (commit, tag or branch) of the repository on the Hugging Face Hub that has the weights; empty: main.",
    )
    classes: int = setting(
        0, "Expected number of classes; data with another number is an error. 0: any number.", NOT_NEGATIVE
    )
    freeze: Literal["none", "stem", "C2", "C3", "C4", "C5"] = setting(
        "none",
        "Last part of the network that is frozen; all parts before it are frozen too: none, stem, C2 (the first "
        "stage), C3, C4 or C5 (the last stage). Frozen BatchNorm runs in inference mode.",
    )
    freeze_batch_norm: bool = setting(False, "Freeze all BatchNorm layers.")

    size: int = setting(224, "Side of the square images, in pixels.", AT_LEAST_ONE, AT_MOST_LARGEST)
    progressive_sizes: tuple[int, ...] = setting(
        (),
        "Image sizes before the final one, each for an equal share of the epochs.",
        Rule("hold sizes of at least 1", lambda sizes: all(size >= 1 for size in sizes)),
        Rule(f"hold sizes of at most {LARGEST_SIDE}", lambda sizes: all(size <= LARGEST_SIDE for size in sizes)),
    )
    interpolation: Literal["bilinear", "bicubic"] = setting("bilinear", "Filter of the resize: bilinear or bicubic.")


@dataclass(frozen=True)
class _Training:
    """Settings of the training itself."""

    class_weights: Literal["none", "balanced"] = setting(
        "none", "Class weights: balanced (classes have equal influence, however many images they have) or none."
    )
    problem_limit: int = setting(
        1000, "Largest number of unreadable files that a run accepts; one more ends it.", NOT_NEGATIVE
    )

    epochs: int = setting(90, "Number of epochs (passes over the training images).", AT_LEAST_ONE)
    head_epochs: int = setting(0, "Number of epochs at the start that train only the head.", NOT_NEGATIVE)
    batch_size: int = setting(256, "Number of images in a step, on all devices and processes together.", AT_LEAST_ONE)
    loss: str = setting(
        "cross_entropy",
        f"Loss function: {'; '.join(', '.join(task.losses) + f' for {task.name}' for task in LEARNED.values())}.",
    )
    optimizer: Literal["sgd", "lamb", "adamw"] = setting(
        "sgd", "Optimizer: sgd (with Nesterov momentum), lamb or adamw."
    )
    learning_rate: float = setting(
        0.1, "Peak learning rate, between the linear warm-up and the falling schedule.", NOT_NEGATIVE
    )
    schedule: Literal["cosine", "poly"] = setting(
        "cosine",
        "Fall of the learning rate from its peak to 0: cosine (half a wave), or poly (the share of the updates that "
        "remain, to the power of 0.9).",
    )
    level_decay: float = setting(
        1.0,
        "Factor on the learning rate below the head: the highest level gets the factor, the next its square, etc.",
        SHARE_WITHOUT_ZERO,
    )
    momentum: float = setting(0.9, "Momentum (SGD only).", SHARE)
    weight_decay: float = setting(
        1e-4,
        "Weight decay of kernels, without BatchNorm and biases; coupled for sgd, as in PyTorch, otherwise decoupled.",
        NOT_NEGATIVE,
    )
    warmup_epochs: float = setting(
        5.0,
        "Number of epochs in which the learning rate rises to its peak, but at most half of the epochs.",
        NOT_NEGATIVE,
    )
    clip_norm: float = setting(0.0, "Largest norm of the gradient over all weights; 0: no limit.", NOT_NEGATIVE)
    accumulation_steps: int = setting(1, "Number of batches whose gradients are averaged for one update.", AT_LEAST_ONE)
    ema_momentum: float = setting(
        0.0,
        "Momentum of the moving average of weights, which is validated and saved; for example 0.9999; 0: no average.",
        SHARE_WITHOUT_ONE,
    )

    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = setting(
        "auto", "Precision: float32, mixed_bfloat16, mixed_float16 (with loss scaling), or auto (chosen by the device)."
    )
    xla: Literal["auto", "on", "off"] = setting("auto", "XLA compilation of the step by TensorFlow: on, off, or auto.")
    devices: int = setting(0, "Number of devices to use on this machine; 0: all GPUs, or the CPU.", NOT_NEGATIVE)
    seed: int = setting(
        0,
        "Seed for initial weights, order of the images and augmentation.",
        NOT_NEGATIVE,
        Rule("be less than 2^32", lambda seed: seed < 2**32),
    )
    deterministic: bool = setting(False, "Bit-identical results of two runs of one recipe; slower on a GPU.")
    checkpoint_steps: int = setting(1000, "Steps between checkpoints; each epoch also ends with one.", AT_LEAST_ONE)
    checkpoints_kept: int = setting(2, "Number of checkpoints to keep.", AT_LEAST_ONE)


FITTED = frozenset({"batch_size", "learning_rate"})
FEWEST_STEPS = 4  # steps of an epoch to which a default batch size is fitted


@dataclass(frozen=True)
class Recipe(Reading, _Training, Augmentation, _Network):
    """Settings of one run, including the fields of `Reading` and `Augmentation`.

    A dataclass takes the fields of its last base first. The help, a run's recipe.toml and the table in docs/train.md
    have this order.
    """

    # Keys of `FITTED` that the user did not state, which a run may fit to a small set.
    unstated: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        for name, rule, holds in self._rules():
            if not holds:
                raise ArgumentError(f"the recipe's `{name}` must {rule}. Received: {name} = {getattr(self, name)!r}")

    def _rules(self) -> Iterator[tuple[str, str, bool]]:
        """-> name of a setting, its rule, whether it holds. A check may assume that earlier checks passed."""
        for name, declared in SETTINGS.items():
            value = getattr(self, name)
            yield from ((name, rule.text, rule.holds(value)) for rule in declared.rules)
            if declared.tasks:
                left_out = declared.suits(self.task) or value == declared.default
                yield name, f"be left out unless task = {' or '.join(declared.tasks)}", left_out
            if self.task in declared.choices:
                choices = declared.choices_for(self.task)
                yield name, f"be one of {', '.join(choices)} for task = {self.task}", value in choices
        task = LEARNED[self.task]
        for name in task.lacks:
            yield name, f"be left out for task = {self.task}", getattr(self, name) == SETTINGS[name].default
        yield "loss", f"be one of {', '.join(task.losses)} for task = {self.task}", self.loss in task.losses
        yield "head_epochs", "be fewer than the epochs", self.head_epochs < self.epochs
        scales = 0 < self.minimum_scale <= self.maximum_scale
        yield "minimum_scale", "lie above 0 and not above maximum_scale", scales
        for name in ("weights_prefix", "revision"):
            named = getattr(self, name) == "" or self.starts_from != ""
            yield name, "be left out where no weights are given", named
        yield "freeze", "be none unless weights are given", self.freeze == "none" or self.starts_from != ""
        smallest = VARIANTS[self.network].design.output_stride
        yield "size", f"be at least {smallest} for {self.network}", self.size >= smallest
        yield from task.recipe_rules(self)

    @property
    def starts_from(self) -> str:
        """-> weights for the whole network or its backbone; empty: random."""
        return self.weights or self.backbone_weights

    def source_of(self, name: str) -> WeightsFrom | None:
        """Key, which is "weights" or "backbone_weights" -> its value as a network takes it; None where it is empty.

        A file need not have a head: the head starts random, as it does for other classes.
        """
        source = getattr(self, name)
        return WeightsFrom(source, self.weights_prefix, True, self.revision) if source else None

    @property
    def contract(self) -> InputContract:
        """-> how images become pixels in validation and when the model is used."""
        if self.crop == "resized":
            proportional = InputContract.for_size(self.size)
            return InputContract(self.size, proportional.resize, self.interpolation)
        return InputContract(self.size, self.size, self.interpolation)

    def size_of_epoch(self, epoch: int) -> int:
        """Epoch, from 0 -> side of its training images in pixels: each of the progressive sizes, then `size`."""
        sizes = (*self.progressive_sizes, self.size)
        return sizes[min(epoch * len(sizes) // self.epochs, len(sizes) - 1)]

    def fitted(self, images: int, devices: int) -> "Recipe":
        """Number of training images, number of devices -> recipe for a set that is smaller than the default batch.

        The batch is halved until an epoch has `FEWEST_STEPS`, and with SGD the learning rate is halved as often. Keys
        that the user stated stay.
        """
        batch_size = self.batch_size
        if "batch_size" not in self.unstated or images >= batch_size:
            return self
        while images < FEWEST_STEPS * batch_size and batch_size >= 4 and batch_size % (2 * devices) == 0:
            batch_size //= 2
        scales = self.optimizer == "sgd" and "learning_rate" in self.unstated
        learning_rate = self.learning_rate * batch_size / self.batch_size if scales else self.learning_rate
        return dataclasses.replace(self, batch_size=batch_size, learning_rate=learning_rate)

    def as_dict(self) -> dict[str, Any]:
        """-> values by key."""
        return {name: getattr(self, name) for name in SETTINGS}

    def to_toml(self) -> str:
        """-> the recipe as a TOML file that `read_recipe` takes."""
        values = self.as_dict()
        return "".join(f"{name} = {_toml(values[name])}\n" for name in SETTINGS)


def _toml(value: Any) -> str:
    """Value -> TOML: JSON, except for DEL, and for the surrogates that JSON escapes characters beyond U+FFFF with."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


SETTINGS = settings_of(Recipe)


def read_recipe(path: str | os.PathLike[str] | None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Name of a recipe of the package, or path of a TOML file, and keys that override the file's -> recipe.

    Without a file, the other keys have their defaults.

    Raises:
        ArgumentError: The file can't be read, or a key is unknown, has the wrong type or is out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(read_text(recipes.file_of(path)))
        except FileNotFoundError as error:
            raise ArgumentError(f"{path}: there is no such recipe or file. {recipes.nearest(path)}") from error
        except OSError as error:
            raise ArgumentError(f"{path}: the recipe can't be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of thousands of digits, too deep
            raise ArgumentError(f"{path}: the recipe is not a TOML file: {reason(error)}") from error
    source = "the recipe" if path is None else os.fspath(path)
    merged = values | dict(overrides or {})
    unknown = [key for key in merged if key not in SETTINGS]
    if unknown:
        lines = []
        for key in unknown:
            nearest = difflib.get_close_matches(key, SETTINGS, n=1)
            lines.append(f"  {key}" + (f" (did you mean {nearest[0]}?)" if nearest else ""))
        raise ArgumentError(f"{source}: {len(unknown)} unknown keys:", *lines)
    checked = {key: _checked(source, key, value, SETTINGS[key].kind) for key, value in merged.items()}
    own = merged if path not in recipes.names() else dict(overrides or {})  # a recipe of the package states nothing
    return Recipe(**checked, unstated=FITTED - set(own))


def _is_whole_text(text: str) -> bool:
    """Text -> whether a TOML file can hold it: names of files with bytes that are no text it can't."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _checked(source: str, key: str, value: Any, kind: Any) -> Any:
    """Value as TOML or a flag gives it -> value of the key's type."""
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
    if kind is str and type(value) is str and not _is_whole_text(value):
        raise ArgumentError(
            f"{source}: `{key}` must be a text that UTF-8 can encode, without NUL characters. Received: "
            f"{key} = {value!r}. If it is the name of a file or folder, rename that"
        )
    if type(value) is int and abs(value) > LARGEST_INTEGER:
        raise ArgumentError(f"{source}: `{key}` must be at most {LARGEST_INTEGER}. Received: {key} = {value:.3g}")
    if not isinstance(kind, types.GenericAlias) and type(value) is kind:
        return value
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    raise ArgumentError(f"{source}: `{key}` must be {names[kind]}. Received: {key} = {value!r}")
