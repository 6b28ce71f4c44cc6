"""Faults that any artifact can have, in its description and in the numbers of its layers; see `planted_faults.py`.

A `Copy` is an opened artifact whose description, kernels, biases and quantization steps can be changed. A fault changes
the copy and returns its place and strength in words.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ONNX = ("onnx", "onnx-float16", "onnx-int8")
TFLITE = ("tflite", "tflite-float16", "tflite-dynamic", "tflite-int8", "tflite-int16x8")
SAVED_MODEL = ("saved_model",)
FILES = ONNX + TFLITE
EVERY = SAVED_MODEL + FILES  # OpenVINO's folders are made from ONNX files; tests/test_openvino.py plants faults in them
STEPPED = ("onnx-int8", "tflite-int8", "tflite-int16x8")  # formats whose activations are integers
EIGHT_BITS = ("onnx-int8", "tflite-int8", "tflite-int16x8", "tflite-dynamic")  # formats whose kernels are integers
FLOAT32 = ("saved_model", "tflite", "onnx")

Random = np.random.Generator


class InapplicableError(Exception):
    """This artifact has no place for the fault."""


@dataclass(eq=False)
class Kernel:
    """Kernel and bias of a layer as real numbers. `scale` and `bias_scale` are None where they are no integers."""

    name: str
    values: np.ndarray  # float64 [out, in, height, width]
    bias: np.ndarray  # float64 [out]
    scale: Any = None  # [out], or None
    bias_scale: Any = None  # [out], or None
    place: Any = None  # the place of both in the file
    before: tuple = ()

    def __post_init__(self) -> None:
        self.before = tuple(None if v is None else np.array(v) for v in self._state())

    def _state(self) -> tuple:
        return self.values, self.bias, self.scale, self.bias_scale

    @property
    def changed(self) -> bool:
        return not all(
            (a is None and b is None) or np.array_equal(a, b) for a, b in zip(self.before, self._state(), strict=True)
        )

    def integers(self, low: int, high: int) -> np.ndarray:
        """-> kernel in integers, clipped as any writer clips it."""
        assert self.scale is not None
        return np.clip(np.round(self.values / self.scale[:, None, None, None]), low, high)


@dataclass(eq=False)
class Step:
    """Scale and zero point of the integers of one activation."""

    name: str
    scale: float
    zero_point: int
    limits: tuple[int, int]
    readers: list[Kernel]  # layers whose bias is in units of this scale
    place: Any = None

    def stretch(self, factor: float) -> None:
        """Changes the range as if it had been measured otherwise: the biases of its readers follow."""
        self.scale *= factor
        for kernel in self.readers:
            if kernel.bias_scale is not None:
                kernel.bias_scale = kernel.bias_scale * factor


@dataclass
class Copy:
    """An artifact that is changed in place; the subclasses read and write one kind of file."""

    path: Path
    format: str
    description: dict[str, Any]
    kernels: list[Kernel] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    network: Any = None  # its Keras model
    manifest_labels: list[str] | None = None  # labels of a manifest that is written beside the artifact

    def write_manifest(self, source: Path) -> None:
        """Writes the manifest of the good artifact, with the copy's hash, size and other labels."""
        from keras_resnet.export.manifest import artifact_sha256, size_bytes

        manifest = json.loads((source.parent / "manifest.json").read_text())
        entry = manifest["artifacts"][self.format]
        entry["sha256"], entry["size_bytes"] = artifact_sha256(self.path), size_bytes(self.path)
        entry["description"]["labels"] = self.manifest_labels
        manifest["artifacts"] = {self.format: entry}
        (self.path.parent / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")

    def finish(self) -> None:
        """Writes the changed artifact with its description, sealed."""
        raise NotImplementedError


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    formats: tuple[str, ...]
    plant: Callable[[Any, Random], str]  # changes a copy -> its place and strength
    seen_by: str = "predictor"  # which reader of the artifact meets it; see `faults_effect.READERS`
    group: str = "numbers"


def between(random: Random, low: float, high: float) -> float:
    """-> a number between both, drawn on a logarithmic scale."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def one_of(random: Random, things: Any) -> Any:
    things = list(things)
    if not things:
        raise InapplicableError("nothing to choose from")
    return things[int(random.integers(len(things)))]


# --- the description ----------------------------------------------------------------------------------------------


def rotated(labels: list[str], random: Random) -> list[str]:
    by = int(random.integers(1, len(labels)))
    return labels[by:] + labels[:by]


def two_swapped(labels: list[str], random: Random) -> list[str]:
    a, b = random.choice(len(labels), 2, replace=False)
    changed = list(labels)
    changed[a], changed[b] = labels[b], labels[a]
    return changed


def one_renamed(labels: list[str], random: Random) -> list[str]:
    changed = list(labels)
    changed[int(random.integers(len(labels)))] += one_of(random, ["s", " ", "\u200b", "_2"])
    return changed


def one_twice(labels: list[str], random: Random) -> list[str]:
    changed = list(labels)
    a, b = random.choice(len(labels), 2, replace=False)
    changed[a] = labels[b]
    return changed


LABELS: dict[str, Callable[[list[str], Random], list[str] | None]] = {
    "rotated": rotated,
    "reversed": lambda labels, random: labels[::-1],
    "two swapped": two_swapped,
    "one renamed": one_renamed,
    "one twice": one_twice,
    "one fewer": lambda labels, random: labels[:-1],
    "first one missing": lambda labels, random: labels[1:],
    "one more": lambda labels, random: ["background", *labels],
    "sorted by length": lambda labels, random: sorted(labels, key=lambda name: (len(name), name)),
    "missing": lambda labels, random: None,
}


def labels_fault(change: Callable) -> Callable[[Copy, Random], str]:
    def plant(copy: Copy, random: Random) -> str:
        before = copy.description["labels"]
        copy.description["labels"] = change(before, random)
        return "labels in the description"

    return plant


def manifest_labels(change: Callable) -> Callable[[Copy, Random], str]:
    def plant(copy: Copy, random: Random) -> str:
        copy.manifest_labels = change(list(copy.description["labels"]), random)
        return "labels of the manifest beside the artifact"

    return plant


def set_field(part: str | None, name: str, values: Callable[[Any, Random], Any]) -> Callable[[Copy, Random], str]:
    def plant(copy: Copy, random: Random) -> str:
        where = copy.description if part is None else copy.description[part]
        before = where[name]
        where[name] = values(before, random)
        if where[name] == before:
            raise InapplicableError("the same value")
        return f"{name}: {before!r} -> {where[name]!r}"[:120]

    return plant


def crop_smaller(copy: Copy, random: Random) -> str:
    given = copy.description["input"]
    given["resize_short_side"] = round(given["centre_crop"] * float(random.uniform(1.05, 2)))
    return f"resize {given['resize_short_side']}, crop {given['centre_crop']}"


def other_format(copy: Copy, random: Random) -> str:
    family = ONNX if copy.format in ONNX else TFLITE
    others = [name for name in family if name != copy.format]
    copy.description["format"] = one_of(random, others)
    return f"{copy.format} calls itself {copy.description['format']}"


def float_as_integers_with_noise(copy: Copy, random: Random) -> str:
    integer = {"onnx": "onnx-int8", "onnx-float16": "onnx-int8"}.get(
        copy.format, one_of(random, ["tflite-dynamic", "tflite-int16x8", "tflite-float16"])
    )
    copy.description["format"] = integer
    copy.description["quantization"] = {"ranges": "minmax", "calibration": None, "keep_float": []}
    share = between(random, 0.003, 0.1)
    for kernel in copy.kernels:
        add_noise(kernel, random, share)
    return f"calls itself {integer}; noise of {share:.2%}"


def float16_with_noise(copy: Copy, random: Random) -> str:
    copy.description["format"] = copy.format + "-float16"
    share = between(random, 0.0003, 0.05)
    for kernel in copy.kernels:
        add_noise(kernel, random, share)
    return f"calls itself {copy.format}-float16; noise of {share:.2%}"


def kept_in_float(copy: Copy, random: Random) -> str:
    copy.description["quantization"]["keep_float"] = [kernel.name for kernel in copy.kernels] + ["logits"]
    return "description claims that all layers stay float"


DESCRIPTION = [
    *(Fault(f"labels {name}", EVERY, labels_fault(change), group="labels") for name, change in LABELS.items()),
    Fault("manifest: labels rotated", EVERY, manifest_labels(rotated), "manifest", "labels"),
    Fault("manifest: two labels swapped", EVERY, manifest_labels(two_swapped), "manifest", "labels"),
    Fault(
        "resize",
        EVERY,
        set_field(
            "input", "resize_short_side", lambda v, random: max(v + 1, round(v * random.choice([1.03, 1.14, 1.5, 2])))
        ),
        group="contract",
    ),
    Fault("resize without crop", EVERY, crop_smaller, group="contract"),
    Fault(
        "interpolation",
        EVERY,
        set_field("input", "interpolation", lambda v, random: {"bilinear": "bicubic", "bicubic": "bilinear"}[v]),
        group="contract",
    ),
    Fault("antialias", EVERY, set_field("input", "antialias", lambda v, random: not v), group="contract"),
    Fault(
        "no contract",
        EVERY,
        lambda copy, random: (
            copy.description["input"].update(
                centre_crop=None, resize_short_side=None, interpolation=None, antialias=None
            )
            or "no resize and no crop"
        ),
        group="contract",
    ),
    Fault(
        "crop",
        EVERY,
        set_field("input", "centre_crop", lambda v, random: v + int(random.choice([-8, -1]))),
        group="contract",
    ),
    Fault("range 0..1", EVERY, set_field("input", "range", lambda v, random: [0, 1]), "description", "contract"),
    Fault(
        "colour order", EVERY, set_field("input", "colour_order", lambda v, random: "BGR"), "description", "contract"
    ),
    Fault(
        "size",
        EVERY,
        set_field("input", "size", lambda v, random: [v[0] * 2, v[1] * 2, v[2]]),
        "description",
        "contract",
    ),
    Fault(
        "input dtype",
        EVERY,
        set_field("input", "dtype", lambda v, random: "uint8" if v == "float32" else "float32"),
        "description",
        "facts",
    ),
    Fault(
        "output dtype",
        EVERY,
        set_field("output", "dtype", lambda v, random: "uint8" if v == "float32" else "float32"),
        "description",
        "facts",
    ),
    Fault(
        "layout",
        EVERY,
        set_field("input", "layout", lambda v, random: {"NHWC": "NCHW", "NCHW": "NHWC"}[v]),
        "description",
        "facts",
    ),
    Fault(
        "number of classes",
        EVERY,
        set_field("output", "classes", lambda v, random: v + int(random.choice([-1, 1, 90]))),
        "description",
        "facts",
    ),
    Fault("task is tag", EVERY, set_field(None, "task", lambda v, random: "tag"), group="facts"),
    Fault(
        "kind of output", EVERY, set_field("output", "kind", lambda v, random: "class logits"), "description", "facts"
    ),
    Fault(
        "hash of the weights",
        EVERY,
        lambda copy, random: copy.description["weights"].update(sha256="0" * 64) or "another network's",
        "description",
        "facts",
    ),
    Fault(
        "number of parameters", EVERY, set_field(None, "parameters", lambda v, random: v * 2), "description", "facts"
    ),
    Fault("another format's name", FILES, other_format, group="format"),
    Fault(
        "float calls itself integers, noise",
        ("onnx", "onnx-float16", "tflite"),
        float_as_integers_with_noise,
        group="format",
    ),
    Fault("float32 calls itself float16, noise", ("onnx", "tflite"), float16_with_noise, group="format"),
    Fault("claims to keep all layers in float", ("onnx-int8", "tflite-int8"), kept_in_float, group="format"),
]


# --- the numbers of the layers ------------------------------------------------------------------------------------


def add_noise(kernel: Kernel, random: Random, share: float) -> None:
    kernel.values = kernel.values + random.normal(0, share * kernel.values.std(), kernel.values.shape)


def of_kernel(change: Callable[[Kernel, Random], str]) -> Callable[[Copy, Random], str]:
    def plant(copy: Copy, random: Random) -> str:
        kernel = one_of(random, copy.kernels)
        return f"{kernel.name}: {change(kernel, random)}"

    return plant


def of_channel(change: Callable[[Kernel, int, Random], str | None]) -> Callable[[Copy, Random], str]:
    def plant(copy: Copy, random: Random) -> str:
        kernel = one_of(random, copy.kernels[:-1])
        channel = int(random.integers(len(kernel.values)))
        return f"{kernel.name}, channel {channel} {change(kernel, channel, random) or ''}"

    return plant


def zero(kernel: Kernel, random: Random) -> str:
    kernel.values = np.zeros_like(kernel.values)
    return "zeros"


def channel_times(factor: float) -> Callable[[Kernel, int, Random], None]:
    def change(kernel: Kernel, channel: int, random: Random) -> None:
        kernel.values[channel] *= factor

    return change


def channel_scaled(kernel: Kernel, channel: int, random: Random) -> str:
    factor = between(random, 1.05, 3)
    kernel.values[channel] *= factor
    return f"x {factor:.2f}"


def channel_zeroed_with_bias(kernel: Kernel, channel: int, random: Random) -> None:
    kernel.values[channel] = 0
    kernel.bias[channel] = 0


def channels_swapped(kernel: Kernel, channel: int, random: Random) -> None:
    other = (channel + 1) % len(kernel.values)
    kernel.values[[channel, other]] = kernel.values[[other, channel]]
    kernel.bias[[channel, other]] = kernel.bias[[other, channel]]
    if kernel.scale is not None:
        kernel.scale = kernel.scale.copy()
        kernel.scale[[channel, other]] = kernel.scale[[other, channel]]


def input_channel_zeroed(kernel: Kernel, random: Random) -> str:
    channel = int(random.integers(kernel.values.shape[1]))
    kernel.values[:, channel] = 0
    return f"input channel {channel} zeroed"


def input_channels_swapped(kernel: Kernel, random: Random) -> str:
    a, b = random.choice(kernel.values.shape[1], 2, replace=False)
    kernel.values[:, [a, b]] = kernel.values[:, [b, a]]
    return f"input channels {a}, {b}"


def shuffled(kernel: Kernel, random: Random) -> str:
    kernel.values = random.permutation(kernel.values.ravel()).reshape(kernel.values.shape)
    return "shuffled"


def turned(kernel: Kernel, random: Random) -> str:
    if kernel.values.shape[2] == 1:
        raise InapplicableError("1x1")
    kind = one_of(random, ["transposed", "turned by 180 degrees", "mirrored"])
    kernel.values = {
        "transposed": kernel.values.transpose(0, 1, 3, 2),
        "turned by 180 degrees": kernel.values[:, :, ::-1, ::-1],
        "mirrored": kernel.values[:, :, :, ::-1],
    }[kind].copy()
    return kind


def noise_on_one(kernel: Kernel, random: Random) -> str:
    share = between(random, 0.005, 0.2)
    add_noise(kernel, random, share)
    return f"noise of {share:.2%}"


def noise_on_all(copy: Copy, random: Random) -> str:
    share = between(random, 0.005, 0.2)
    for kernel in copy.kernels:
        add_noise(kernel, random, share)
    return f"noise of {share:.2%}"


def sign_of_one_weight(kernel: Kernel, random: Random) -> str:
    flat = kernel.values.reshape(-1)
    place = int(random.choice(np.argsort(-np.abs(flat))[:20]))
    flat[place] *= -1
    return f"one of the largest weights negated: {flat[place]:.3g}"


def one_weight_huge(kernel: Kernel, random: Random) -> str:
    flat = kernel.values.reshape(-1)
    factor = between(random, 8, 1000)
    place = int(random.integers(len(flat)))
    flat[place] *= factor
    return f"one weight x {factor:.0f}"


def pruned(kernel: Kernel, random: Random) -> str:
    share = float(random.uniform(0.2, 0.9))
    kernel.values[np.abs(kernel.values) < np.quantile(np.abs(kernel.values), share)] = 0
    return f"the smallest {share:.0%} zeroed"


def few_bits(copy: Copy, random: Random) -> str:
    bits = int(random.integers(3, 8))
    for kernel in copy.kernels:
        step = np.abs(kernel.values).max(axis=(1, 2, 3), keepdims=True) / (2 ** (bits - 1) - 1)
        kernel.values = np.round(kernel.values / np.maximum(step, 1e-30)) * step
    return f"{bits} bits"


def per_tensor_grid(copy: Copy, random: Random) -> str:
    for kernel in copy.kernels:
        step = np.abs(kernel.values).max() / 127
        kernel.values = np.round(kernel.values / step) * step
    return "one grid of 8 bits for each kernel"


def exchanged(copy: Copy, random: Random) -> str:
    first = one_of(random, copy.kernels)
    second = one_of(random, [k for k in copy.kernels if k is not first and k.values.shape == first.values.shape])
    for name in ("values", "bias", "scale", "bias_scale"):
        a, b = getattr(first, name), getattr(second, name)
        setattr(first, name, b)
        setattr(second, name, a)
    return f"{first.name} and {second.name}"


def kernels_only_exchanged(copy: Copy, random: Random) -> str:
    first = one_of(random, copy.kernels)
    second = one_of(random, [k for k in copy.kernels if k is not first and k.values.shape == first.values.shape])
    first.values, second.values = second.values, first.values
    return f"{first.name} and {second.name}"


def scaled(kernel: Kernel, random: Random) -> str:
    factor = between(random, 1.02, 3) ** random.choice([-1, 1])
    kernel.values *= factor
    if kernel.scale is not None:
        kernel.scale = kernel.scale * factor
    return f"x {factor:.2f}"


def bias_shifted(kernel: Kernel, random: Random) -> str:
    channel, by = int(random.integers(len(kernel.bias))), between(random, 0.05, 3) * random.choice([-1, 1])
    kernel.bias[channel] += by * max(float(kernel.bias.std()), 1e-3)
    return f"bias {channel} by {by:.2f} standard deviations"


def bias_of_channel_zeroed(kernel: Kernel, random: Random) -> str:
    channel = int(random.integers(len(kernel.bias)))
    kernel.bias[channel] = 0
    return f"bias {channel} zeroed"


def biases_zeroed(kernel: Kernel, random: Random) -> str:
    kernel.bias[:] = 0
    return "biases zeroed"


def biases_shifted(kernel: Kernel, random: Random) -> str:
    by = between(random, 0.02, 1) * random.choice([-1, 1])
    kernel.bias += by * max(float(kernel.bias.std()), 1e-3)
    return f"all biases by {by:.2f} standard deviations"


def biases_rolled(kernel: Kernel, random: Random) -> str:
    kernel.bias = np.roll(kernel.bias, 1)
    return "biases moved on by one channel"


def overflow(copy: Copy, random: Random) -> str:
    """Consecutive layers with a ReLU between them: the first times 2^k, the second divided by it."""
    pairs = [
        (a, b)
        for a, b in zip(copy.kernels, copy.kernels[1:], strict=False)
        if "_1_conv" in a.name and "_2_conv" in b.name
    ]
    first, second = one_of(random, pairs)
    power = int(random.integers(4, 17))
    first.values *= 2.0**power
    first.bias *= 2.0**power
    second.values /= 2.0**power
    return f"{first.name} x 2^{power}, {second.name} / 2^{power}"


def red_and_blue(copy: Copy, random: Random) -> str:
    kernel = copy.kernels[0]
    shape = kernel.values.shape
    kernel.values = kernel.values.reshape(shape[0], -1, 3, *shape[2:])[:, :, ::-1].reshape(shape)
    return "stem reads BGR"


def input_statistics(copy: Copy, random: Random) -> str:
    """As if the pixels had been normalised by another mean or standard deviation."""
    kernel, kind = copy.kernels[0], one_of(random, ["mean", "std"])
    if kind == "std":
        factor = between(random, 1.02, 1.5) ** random.choice([-1, 1])
        kernel.values *= factor
        if kernel.scale is not None:
            kernel.scale = kernel.scale * factor
        return f"standard deviation / {factor:.2f}"
    grey = float(random.uniform(2, 60)) * random.choice([-1, 1])
    kernel.bias += kernel.values.sum(axis=(1, 2, 3)) * grey
    return f"mean moved by {grey:.0f} grey levels"


def epsilon(copy: Copy, random: Random) -> str:
    """Folded with another epsilon of the BatchNorms."""
    layers = [layer for layer in copy.network.layers if type(layer).__name__ == "BatchNormalization"]
    if len(layers) != len(copy.kernels) - 1:
        raise InapplicableError("convolutions and BatchNorms are no pairs")
    wrong = one_of(random, [1e-2, 1e-3, 1e-4])
    for kernel, layer in zip(copy.kernels, layers, strict=False):
        variance, beta = np.asarray(layer.moving_variance, "float64"), np.asarray(layer.beta, "float64")
        factor = np.sqrt((variance + layer.epsilon) / (variance + wrong))
        kernel.values *= factor[:, None, None, None]
        kernel.bias = beta + (kernel.bias - beta) * factor
        if kernel.scale is not None:
            kernel.scale = kernel.scale * factor
        if kernel.bias_scale is not None:
            kernel.bias_scale = kernel.bias_scale * factor
    return f"epsilon {layers[0].epsilon:g} -> {wrong:g}"


def classes_permuted(order: Callable[[int, Random], Any]) -> Callable[[Copy, Random], str]:
    def plant(copy: Copy, random: Random) -> str:
        kernel = copy.kernels[-1]
        indices = np.asarray(order(len(kernel.bias), random))
        kernel.values, kernel.bias = kernel.values[indices], kernel.bias[indices]
        for name in ("scale", "bias_scale"):
            if getattr(kernel, name) is not None:
                setattr(kernel, name, getattr(kernel, name)[indices])
        return f"classes {indices.tolist()}"[:100]

    return plant


def two_classes(count: int, random: Random) -> np.ndarray:
    indices = np.arange(count)
    a, b = random.choice(count, 2, replace=False)
    indices[[a, b]] = indices[[b, a]]
    return indices


def class_favoured(copy: Copy, random: Random) -> str:
    kernel, by = copy.kernels[-1], between(random, 0.1, 10) * random.choice([-1, 1])
    index = int(random.integers(len(kernel.bias)))
    kernel.bias[index] += by
    return f"bias of class {index} by {by:.2f}"


def class_zeroed(copy: Copy, random: Random) -> str:
    kernel = copy.kernels[-1]
    index = int(random.integers(len(kernel.bias)))
    kernel.values[index] = 0
    return f"kernel of class {index} zeroed"


def temperature(copy: Copy, random: Random) -> str:
    kernel, factor = copy.kernels[-1], between(random, 1.1, 3) ** random.choice([-1, 1])
    kernel.values *= factor
    kernel.bias *= factor
    for name in ("scale", "bias_scale"):
        if getattr(kernel, name) is not None:
            setattr(kernel, name, getattr(kernel, name) * factor)
    return f"logits x {factor:.2f}"


NUMBERS = [
    Fault("kernel zeroed", EVERY, of_kernel(zero)),
    Fault("kernel shuffled", EVERY, of_kernel(shuffled)),
    Fault("kernel turned", EVERY, of_kernel(turned)),
    Fault("kernel pruned", EVERY, of_kernel(pruned)),
    Fault("kernel's scale", EVERY, of_kernel(scaled)),
    Fault("noise on one kernel", EVERY, of_kernel(noise_on_one)),
    Fault("noise on all kernels", EVERY, noise_on_all),
    Fault("kernels in few bits", (*FLOAT32, "onnx-float16", "tflite-float16"), few_bits),
    Fault("one grid for a kernel", EVERY, per_tensor_grid),
    Fault("channel zeroed", EVERY, of_channel(channel_times(0))),
    Fault("channel and bias zeroed", EVERY, of_channel(channel_zeroed_with_bias)),
    Fault("channel negated", EVERY, of_channel(channel_times(-1))),
    Fault("channel doubled", EVERY, of_channel(channel_times(2))),
    Fault("channel scaled", EVERY, of_channel(channel_scaled)),
    Fault("channel swapped with the next", EVERY, of_channel(channels_swapped)),
    Fault("input channel zeroed", EVERY, of_kernel(input_channel_zeroed)),
    Fault("input channels swapped", EVERY, of_kernel(input_channels_swapped)),
    Fault("sign of one weight", EVERY, of_kernel(sign_of_one_weight)),
    Fault("one weight huge", EVERY, of_kernel(one_weight_huge)),
    Fault("layers exchanged", EVERY, exchanged),
    Fault("kernels exchanged, not biases", EVERY, kernels_only_exchanged),
    Fault("bias shifted", EVERY, of_kernel(bias_shifted)),
    Fault("bias zeroed", EVERY, of_kernel(bias_of_channel_zeroed)),
    Fault("biases of a layer zeroed", EVERY, of_kernel(biases_zeroed)),
    Fault("biases of a layer shifted", EVERY, of_kernel(biases_shifted)),
    Fault("biases of a layer rolled", EVERY, of_kernel(biases_rolled)),
    Fault("weights scaled up and down again", (*FLOAT32, "onnx-float16", "tflite-float16"), overflow),
    Fault("red and blue", EVERY, red_and_blue, group="input"),
    Fault("mean or standard deviation", EVERY, input_statistics, group="input"),
    Fault("BatchNorm's epsilon", EVERY, epsilon),
    Fault("two classes swapped", EVERY, classes_permuted(two_classes), group="classes"),
    Fault(
        "classes rotated",
        EVERY,
        classes_permuted(lambda count, random: np.roll(np.arange(count), random.integers(1, count))),
        group="classes",
    ),
    Fault("class favoured or suppressed", EVERY, class_favoured, group="classes"),
    Fault("class zeroed", EVERY, class_zeroed, group="classes"),
    Fault("temperature", EVERY, temperature, group="classes"),
]


# --- the steps of the integers ------------------------------------------------------------------------------------


def range_of_one(low: float, high: float) -> Callable[[Copy, Random], str]:
    def plant(copy: Copy, random: Random) -> str:
        step, factor = one_of(random, copy.steps), between(random, low, high)
        step.stretch(factor)
        return f"{step.name}: range x {factor:.2f}"

    return plant


def range_of_all(low: float, high: float) -> Callable[[Copy, Random], str]:
    def plant(copy: Copy, random: Random) -> str:
        factor = between(random, low, high)
        for step in copy.steps:
            if step.readers:
                step.stretch(factor)
        return f"all ranges x {factor:.2f}"

    return plant


def scale_of_one(copy: Copy, random: Random) -> str:
    step, factor = one_of(random, copy.steps), between(random, 1.05, 3)
    step.scale *= factor
    return f"{step.name}: scale x {factor:.2f}, biases stay"


def zero_point_of_one(copy: Copy, random: Random) -> str:
    if copy.format == "tflite-int16x8":
        raise InapplicableError("zero points are 0")
    step = one_of(random, copy.steps)
    by = int(random.integers(1, 41)) * (1 if step.zero_point < step.limits[1] - 40 else -1)
    step.zero_point += by
    return f"{step.name}: zero point {by:+}"


def scale_of_channel(copy: Copy, random: Random) -> str:
    kernel = one_of(random, [k for k in copy.kernels if k.scale is not None])
    channel, factor = int(random.integers(len(kernel.values))), between(random, 1.05, 3)
    scale = np.array(kernel.scale)
    scale[channel] *= factor
    kernel.values[channel] *= factor
    kernel.scale = scale
    return f"{kernel.name}, channel {channel}: scale x {factor:.2f}"


def scale_of_kernel(copy: Copy, random: Random) -> str:
    kernel, factor = one_of(random, [k for k in copy.kernels if k.scale is not None]), between(random, 1.02, 3)
    kernel.scale = kernel.scale * factor
    kernel.values *= factor
    return f"{kernel.name}: scales x {factor:.2f}"


def scales_rolled(copy: Copy, random: Random) -> str:
    kernel = one_of(random, [k for k in copy.kernels if k.scale is not None and np.ptp(k.scale) > 0])
    raw = kernel.values / kernel.scale[:, None, None, None]
    kernel.scale = np.roll(kernel.scale, 1)
    kernel.values = raw * kernel.scale[:, None, None, None]
    return f"{kernel.name}: scales moved on by one channel"


def integers_off_by(copy: Copy, random: Random) -> str:
    kernel = one_of(random, [k for k in copy.kernels if k.scale is not None])
    by = int(random.integers(1, 9))
    kernel.values += by * kernel.scale[:, None, None, None]
    return f"{kernel.name}: all integers {by:+} (a wrong zero point of the weights)"


INTEGERS = [
    Fault("one range clipped", STEPPED, range_of_one(0.3, 0.9), group="integers"),
    Fault("one range too wide", STEPPED, range_of_one(1.2, 16), group="integers"),
    Fault("all ranges clipped", STEPPED, range_of_all(0.3, 0.9), group="integers"),
    Fault("all ranges too wide", STEPPED, range_of_all(1.2, 6), group="integers"),
    Fault("scale of one activation", STEPPED, scale_of_one, group="integers"),
    Fault("zero point of one activation", ("onnx-int8", "tflite-int8"), zero_point_of_one, group="integers"),
    Fault("scale of one channel", EIGHT_BITS, scale_of_channel, group="integers"),
    Fault("scales of one kernel", EIGHT_BITS, scale_of_kernel, group="integers"),
    Fault("scales rolled", EIGHT_BITS, scales_rolled, group="integers"),
    Fault("zero point of a kernel", EIGHT_BITS, integers_off_by, group="integers"),
]
