"""Comparison of an artifact with its model layer by layer.

Each layer of the model is given the values that the artifact computed before it, and must yield the value that the
artifact computed next. So the errors of earlier layers don't add up, and one wrong channel of one layer is seen, which
would hardly change the answers to a few images. The artifact's tensors are found by their values, not by their names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from keras_resnet.compress.quantization import is_quantization_aware
from keras_resnet.compress.rewrite import is_softmax, quantization_points
from keras_resnet.export.fold import fold
from keras_resnet.export.formats import LayerTolerance
from keras_resnet.export.inner_tensors import InnerTensors, Run
from keras_resnet.export.quantize import Ranges, learned
from keras_resnet.graph import consumers
from keras_resnet.tasks.base import Check

LAYER_PIXELS, MOST_IMAGES = 16 * 224 * 224, 64  # images for this comparison: about so many pixels in all
CHUNK_PIXELS = 2 * 224 * 224  # pixels whose tensors are held in memory at once; a ResNet-50 takes 100 MB for 224x224
FEW_IMAGES = 2  # images by which the artifact's tensors are found
STEPS = 255  # steps of the range of an 8-bit tensor
ANSWER_STEPS = 3  # the highest integer stands for one step less than 1, and rounding adds half a step
MEAN_SHARE = 4  # rounded weights shift a channel in proportion to its mean, which counts with a quarter
VARIED_STEPS = 4  # standard deviation in steps from which on the scale of a channel can be measured


class Point(NamedTuple):
    """A value that artifacts hold, and the part of the model that computes it from earlier ones."""

    name: str  # its layer
    read: tuple[str, ...]  # earlier points
    part: keras.Model
    is_logits: bool  # whether only a softmax reads it
    limits: tuple[float, float] | None  # range that quantization-aware training has learned, to which it is clipped


@dataclass
class _Channels:
    """Sums over places of a tensor's channels, expected and received, from which the errors are computed."""

    least_step: float = 0.0  # smallest difference between two values
    count: int = 0
    sums: dict[str, Any] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0

    def add(self, expected: np.ndarray, received: np.ndarray) -> None:
        a, b = (values.reshape(-1, values.shape[-1]).astype("float64") for values in (expected, received))
        found = {"a": a, "b": b, "aa": a * a, "ab": a * b, "dd": (b - a) ** 2}
        self.sums = {key: self.sums.get(key, 0) + values.sum(axis=0) for key, values in found.items()}
        self.count += len(a)
        self.low, self.high = min(self.low, float(a.min())), max(self.high, float(a.max()))

    def errors(self) -> dict[str, np.ndarray]:
        """-> errors by kind, of the layer `[1]` or of each channel `[channels]`; see `LayerTolerance`."""
        if not self.count:
            return {}
        mean = {key: values / self.count for key, values in self.sums.items()}
        variance = np.maximum(mean["aa"] - mean["a"] ** 2, 0)
        step = max((self.high - self.low) / STEPS, self.least_step)
        unit = variance + step**2 + (mean["a"] / MEAN_SHARE) ** 2 + 1e-30
        covariance = mean["ab"] - mean["a"] * mean["b"]
        varied = variance > (VARIED_STEPS * step) ** 2
        slope = np.where(varied, covariance / np.where(varied, variance, 1), 1)
        return {
            "layer_noise": np.array([mean["dd"].sum() / unit.sum()]),
            "channel_noise": mean["dd"] / unit,
            "channel_scale": np.abs(slope - 1),
            "channel_mean": np.abs(mean["b"] - mean["a"]) / np.sqrt(unit),
        }


def layer_checks(
    run: Run, points: Sequence[Point], images: np.ndarray, tolerance: LayerTolerance, answer_step: float
) -> list[Check]:
    """Function that computes the artifact's tensors, the model's points, pixels `[N, H, W, C]`, smallest difference
    between two answers -> a check of each kind of error, with the worst layer and channel.
    """
    tensors: dict[str, str] = {}
    found: dict[str, _Channels] = {point.name: _Channels() for point in points}
    found[points[-1].name].least_step = ANSWER_STEPS * answer_step
    for chunk in _chunks(images):
        _add(found, run(chunk), points, tensors, chunk)
    worst: dict[str, tuple[float, str]] = {}
    logits = {point.name for point in points if point.is_logits}
    for point, channels in found.items():
        for kind, errors in channels.errors().items():
            if kind == "channel_mean" and point in logits:
                kind = "logits_mean"
            index = int(np.argmax(errors))
            if not errors[index] <= worst.get(kind, (-1.0, ""))[0]:  # NaN counts
                worst[kind] = float(errors[index]), point if len(errors) == 1 else f"channel {index} of {point}"
    nothing = np.inf, "no layer: no tensor of the file has a layer's shape"
    checks = []
    for kind, bound in asdict(tolerance).items():
        if kind == "logits_mean" and kind not in worst:
            continue  # a network without a softmax, or an artifact that has merged it
        value, place = worst.get(kind, nothing)
        checks.append(Check(kind.replace("_", " "), f"{value:.3g} in {place}", f"at most {bound:.3g}", value <= bound))
    return checks


def _chunks(images: np.ndarray) -> Iterator[np.ndarray]:
    """-> images, evenly chosen, so many at a time that all tensors of the artifact fit into memory."""
    pixels = images.shape[1] * images.shape[2]
    count = min(len(images), MOST_IMAGES, max(1, LAYER_PIXELS // pixels))
    chosen = images[np.linspace(0, len(images) - 1, count).astype(int)]
    size = max(1, CHUNK_PIXELS // pixels)
    return (chosen[start : start + size] for start in range(0, count, size))


def points_of(model: keras.Model) -> Iterator[Point]:
    """Prepared model -> the points of its artifacts, in graph order, the answer last.

    A model that calls a layer several times has none: its values can't be told by the names of layers.
    """
    model = fold(model)
    if any(len(op._inbound_nodes) > 1 for op in model.operations):
        return
    limits: Ranges = {}
    if is_quantization_aware(model):
        quantized = learned(model)
        model, limits = quantized.model, quantized.ranges
    readers = consumers(model)
    last = model.outputs[0]._keras_history.operation.name
    names = quantization_points(model)
    names += [] if last in names else [last]
    for name in names:
        before: dict[str, Any] = {}
        _walk(model.get_layer(name).input, set(names), before)
        is_logits = bool(readers[name]) and all(map(is_softmax, readers[name]))
        part = keras.Model(list(before.values()), model.get_layer(name).output)
        yield Point(name, tuple(before), part, is_logits, None if is_logits else limits.get(name))


def _walk(tensors: Any, points: set[str], found: dict[str, Any]) -> None:
    """Collects the points, or the input, from which these tensors are computed: name -> tensor."""
    for tensor in keras.tree.flatten(tensors):
        operation = tensor._keras_history.operation
        if operation.name in points or isinstance(operation, layers.InputLayer):
            found[operation.name] = tensor
        else:
            _walk(operation.input, points, found)


def _add(
    found: dict[str, _Channels],
    given: InnerTensors,
    points: Sequence[Point],
    tensors: dict[str, str],
    images: np.ndarray,
) -> None:
    """Compares the artifact's tensors of some images at all points, and adds the results to `found`.

    `tensors` holds the artifact's tensor of each point, once it is known.
    """
    values = {points[0].read[0]: images.astype("float32")}
    for point in points:
        expected = np.asarray(point.part([values[name] for name in point.read], training=False))
        if point.limits is not None:
            expected = np.clip(expected, *point.limits)
        if point.name not in tensors:
            same_shape = {
                name: values.reshape(expected.shape)
                for name, values in given.items()
                if values.size == expected.size and values.shape[-1] == expected.shape[-1]
            }
            if not same_shape:  # the value was merged with a later one
                values[point.name] = expected
                continue
            few = expected[:FEW_IMAGES]
            tensors[point.name] = min(same_shape, key=lambda name: _distance(few, same_shape[name][:FEW_IMAGES], point))
        received = given[tensors[point.name]].reshape(expected.shape)
        found[point.name].add(_without_shift(expected, received) if point.is_logits else expected, received)
        values[point.name] = received


def _distance(expected: np.ndarray, received: np.ndarray, point: Point) -> float:
    difference = expected.astype("float64") - received
    distance = float(np.square(difference - difference.mean() if point.is_logits else difference).sum())
    return distance if np.isfinite(distance) else np.inf


def _without_shift(expected: np.ndarray, received: np.ndarray) -> np.ndarray:
    """Expected and received logits -> expected logits as the artifact would hold them.

    All logits of an artifact may be shifted by one number, and the lowest and highest may be clipped.
    """
    inside = (received > received.min()) & (received < received.max())
    shift = float(np.mean((expected - received)[inside])) if inside.any() else 0.0
    return np.where(inside, expected - shift, received)
