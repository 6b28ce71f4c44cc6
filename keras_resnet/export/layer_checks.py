"""Comparison of an artifact with its model layer by layer.

Each layer of the model is given the values that the artifact computed before it, and must yield the value that the
artifact computed next. So the errors of earlier layers don't add up, and one wrong channel of one layer is seen, which
would hardly change the answers to a few images. The artifact's tensors are found by their values, not by their names.

A detector's boxes are compared as a set: where two scores are nearly equal, the runtimes put their boxes in either
order. The layers behind are given the artifact's boxes.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from keras_resnet.compress.quantization import is_quantization_aware
from keras_resnet.compress.rewrite import is_softmax, quantization_points
from keras_resnet.detection_layers.detections import Detections
from keras_resnet.detection_layers.proposals import Proposals
from keras_resnet.detection_layers.roi_align import RoIAlign
from keras_resnet.export.fold import fold
from keras_resnet.export.formats import LayerTolerance
from keras_resnet.export.inner_tensors import OUTPUT, InnerTensors, Run
from keras_resnet.export.quantize import learned
from keras_resnet.export.ranges import Ranges
from keras_resnet.graph import consumers, unshared
from keras_resnet.tasks.base import Check

LAYER_PIXELS, MOST_IMAGES = 16 * 224 * 224, 64  # images for this comparison: about so many pixels in all
CHUNK_PIXELS = 2 * 224 * 224  # pixels whose tensors are held in memory at once; a ResNet-50 takes 100 MB for 224x224
FEW_IMAGES = 2  # images by which the artifact's tensors are found
LAYER_ERRORS = ("layer_noise", "channel_noise", "channel_scale", "channel_mean", "logits_mean")  # see `LayerTolerance`
STEPS = 255  # steps of the range of an 8-bit tensor
SOFTMAX_STEPS = 2  # steps of the answers by which they may differ from the softmax of the file's own logits
ANSWER_STEPS = 3  # the highest integer stands for one step less than 1, and rounding adds half a step
MEAN_SHARE = 4  # rounded weights shift a channel in proportion to its mean, which counts with a quarter
VARIED_STEPS = 4  # standard deviation in steps from which on the scale of a channel can be measured
SURE = 2  # standard errors of a slope that are no fault
SURE_MEAN = 3  # standard errors of a mean that are no fault: calibration images have other means than these few
MOST_STEPS = 2  # steps of a file / steps that the range of its values on these images needs, which are no fault
EVERY_VALUE = 7  # every so many values of a tensor show its steps
ALIKE = 0.01  # largest difference of the edges, in pixels, of two boxes that are one box, and of their scores
ALIKE_PERCENT = 90.0  # required share of boxes that are in both; with nearly equal scores, a few others are chosen


class Point(NamedTuple):
    """A value that artifacts hold, and the part of the model that computes it from earlier ones."""

    name: str  # its layer; of a detector's boxes and scores, with these words
    read: tuple[str, ...]  # earlier points
    part: keras.Model
    is_logits: bool  # whether only a softmax reads it
    limits: tuple[float, float] | None  # range that quantization-aware training has learned, to which it is clipped
    is_unordered: bool = False  # whether it is boxes `[N, R, 4]` or scores `[N, R]`, whose order rounding may change


@dataclass
class _Channels:
    """Sums over places of a tensor's channels, expected and received, from which the errors are computed."""

    least_step: float = 0.0  # smallest difference between two values
    count: int = 0
    images: int = 0
    sums: dict[str, Any] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    largest_difference: float = 0.0
    steps: np.ndarray | None = None  # values that occur, for a file whose values are steps

    def add(self, expected: np.ndarray, received: np.ndarray, images: int) -> None:
        """Adds values `[N, ..., C]` of so many images; a layer may have several rows for each image."""
        a, b = (values.reshape(-1, values.shape[-1]).astype("float64") for values in (expected, received))
        d = b - a
        i = d.reshape(images, -1, a.shape[-1]).mean(axis=1)
        pairs = {"aa": (a, a), "ab": (a, b), "bb": (b, b), "dd": (d, d), "ii": (i, i)}
        # `einsum` writes no product to memory, in a third of the time.
        products = {key: np.einsum("nc,nc->c", *pair) for key, pair in pairs.items()}
        found = {"a": a.sum(axis=0), "b": b.sum(axis=0), **products}
        self.sums = {key: self.sums.get(key, 0) + values for key, values in found.items()}
        self.count += len(a)
        self.images += images
        self.low, self.high = min(self.low, float(a.min())), max(self.high, float(a.max()))
        self.largest_difference = float(np.maximum(self.largest_difference, np.abs(d).max()))  # NaN stays
        if self.steps is not None and not self.is_float:
            self.steps = np.union1d(self.steps, received.ravel()[::EVERY_VALUE])

    @property
    def is_float(self) -> bool:
        """Whether the values are no steps of 8 bits: an `openvino-int8` has both kinds. The last digit may give a step
        two values.
        """
        return self.steps is None or len(self.steps) > 2 * STEPS

    @property
    def step(self) -> float:
        """Smallest difference between two values that occur, of a file whose values are steps; else 0."""
        return 0.0 if self.steps is None or len(self.steps) < 2 else float(np.diff(self.steps).min())

    def range_use(self) -> float | None:
        """-> steps between the lowest and the highest value that occur / steps of 8 bits; None for float values."""
        if self.steps is None or self.is_float:
            return None
        return float(np.ptp(self.steps) / self.step / STEPS) if self.step else 0.0

    def errors(self) -> dict[str, np.ndarray]:
        """-> errors by kind, of the layer `[1]` or of each channel `[channels]`; see `LayerTolerance`."""
        if not self.count:
            return {}
        mean = {key: values / (self.images if key == "ii" else self.count) for key, values in self.sums.items()}
        variance = np.maximum(mean["aa"] - mean["a"] ** 2, 0)
        step = max((self.high - self.low) / STEPS, self.least_step)
        unit = variance + step**2 + (mean["a"] / MEAN_SHARE) ** 2 + 1e-30
        covariance = mean["ab"] - mean["a"] * mean["b"]
        varied = variance > (VARIED_STEPS * step) ** 2
        divisor = np.where(varied, variance, 1)
        slope = np.where(varied, covariance / divisor, 1)
        # Few places, as of the smallest map of a detector, tell the slope only roughly.
        unexplained = np.maximum(mean["bb"] - mean["b"] ** 2 - slope * covariance, 0)
        slope_error = np.where(varied, np.sqrt(unexplained / divisor / self.count), 0)
        shift = mean["b"] - mean["a"]
        noise = np.maximum(mean["dd"] - shift**2, 0)
        shift_error = np.sqrt(np.maximum(mean["ii"] - shift**2, 0) / max(self.images - 1, 1))
        # A channel that hardly varies may lie anywhere between two steps.
        rounding = min(self.step, MOST_STEPS * step) / 2
        return {
            "layer_noise": np.array([np.maximum(noise - rounding**2 / 3, 0).sum() / unit.sum()]),
            "channel_noise": np.maximum(noise - rounding**2, 0) / unit,
            "channel_scale": np.maximum(np.abs(slope - 1) - SURE * slope_error, 0),
            "channel_mean": np.maximum(np.abs(shift) - SURE_MEAN * shift_error - rounding, 0) / np.sqrt(unit),
        }


def layer_checks(
    run: Run, points: Sequence[Point], images: np.ndarray, tolerance: LayerTolerance, answer_step: float
) -> list[Check]:
    """Function that computes the artifact's tensors, the model's points, pixels `[N, H, W, C]`, smallest difference
    between two answers -> a check of each kind of error, with the worst layer and channel.
    """
    tensors: dict[str, str] = {}
    stepped = tolerance.range_use is not None
    found: dict[str, _Channels] = {
        point.name: _Channels(steps=np.zeros(0, "float32") if stepped else None)
        for point in points
        if not point.is_unordered
    }
    alike: dict[str, list[float]] = {point.name: [] for point in points if point.is_unordered}
    if points[-1].name in found:
        found[points[-1].name].least_step = ANSWER_STEPS * answer_step
    # The sums of one layer are added up while the model computes the next.
    with ThreadPoolExecutor(1) as adds:
        for chunk in _chunks(images):
            _add(found, alike, run(chunk), points, tensors, chunk, adds)
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
    for kind in LAYER_ERRORS:
        bound = getattr(tolerance, kind)
        if kind == "logits_mean" and kind not in worst:
            continue  # a network without a softmax, or an artifact that has merged it
        value, place = worst.get(kind, nothing)
        checks.append(Check(kind.replace("_", " "), f"{value:.3g} in {place}", f"at most {bound:.3g}", value <= bound))
    answer = points[-1]
    if set(answer.read) <= logits & set(tensors) and answer.name in tensors:
        # A softmax has no weights, so that the file's answers follow from its own logits, up to the answers' steps.
        classes = answer.part.output.shape[-1]
        bound = tolerance.softmax + tolerance.softmax_per_class * classes + SOFTMAX_STEPS * answer_step
        largest = found[answer.name].largest_difference
        checks.append(Check("softmax", f"{largest:.3g} from its logits'", f"at most {bound:.3g}", largest <= bound))
    shares = [share for channels in found.values() if channels.count and (share := channels.range_use()) is not None]
    if tolerance.range_use is not None and shares:
        used = float(np.median(shares))
        required = f"at least {tolerance.range_use:.0%} of the steps"
        checks.append(Check("range use", f"{used:.0%} of the steps", required, used >= tolerance.range_use))
    for name, percents in alike.items():
        percent = float(np.mean(percents)) if percents else 0.0
        required = f"at least {ALIKE_PERCENT:g} % within {ALIKE:g} of the model's"
        checks.append(Check(name, f"{percent:.2f} %", required, percent >= ALIKE_PERCENT))
    return checks


def _chunks(images: np.ndarray) -> Iterator[np.ndarray]:
    """-> images, evenly chosen, so many at a time that all tensors of the artifact fit into memory."""
    pixels = images.shape[1] * images.shape[2]
    count = min(len(images), MOST_IMAGES, max(1, LAYER_PIXELS // pixels))
    chosen = images[np.linspace(0, len(images) - 1, count).astype(int)]
    size = max(1, CHUNK_PIXELS // pixels)
    return (chosen[start : start + size] for start in range(0, count, size))


def points_of(model: keras.Model) -> Iterator[Point]:
    """Prepared model -> the points of its artifacts, in graph order, the answer last if the model has only one.

    A layer that is called several times has a point for each call. A model that calls another operation several times
    has none: its values can't be told by the names of operations.
    """
    model = fold(unshared(model))
    if any(len(op._inbound_nodes) > 1 for op in model.operations):
        return
    limits: Ranges = {}
    if is_quantization_aware(model):
        quantized = learned(model)
        model, limits = quantized.model, quantized.ranges
    readers = consumers(model)
    names = {*quantization_points(model)}
    if len(model.outputs) == 1:
        names.add(model.outputs[0]._keras_history.operation.name)
    unordered = {
        id(tensor)
        for op in model.operations
        if isinstance(op, (RoIAlign, Detections))
        for tensor in op.input
        if isinstance(tensor._keras_history.operation, (Proposals, Detections))
    }
    found: dict[int, str] = {}  # tensor of each point -> name of the point
    for op in model.operations:
        for tensor in keras.tree.flatten(op.output):
            is_unordered = id(tensor) in unordered
            if op.name not in names and not is_unordered:
                continue
            before: dict[str, Any] = {}
            _walk(op.input, found, before)
            is_logits = bool(readers[op.name]) and all(map(is_softmax, readers[op.name]))
            part = keras.Model(list(before.values()), tensor)
            name = f"{op.name} {'boxes' if len(tensor.shape) == 3 else 'scores'}" if is_unordered else op.name
            yield Point(name, tuple(before), part, is_logits, None if is_logits else limits.get(op.name), is_unordered)
            found[id(tensor)] = name


def _walk(tensors: Any, points: Mapping[int, str], found: dict[str, Any]) -> None:
    """Collects the points, or the input, from which these tensors are computed: name -> tensor."""
    for tensor in keras.tree.flatten(tensors):
        operation = tensor._keras_history.operation
        if id(tensor) in points:
            found[points[id(tensor)]] = tensor
        elif isinstance(operation, layers.InputLayer):
            found[operation.name] = tensor
        else:
            _walk(operation.input, points, found)


def _add(
    found: dict[str, _Channels],
    alike: dict[str, list[float]],
    given: InnerTensors,
    points: Sequence[Point],
    tensors: dict[str, str],
    images: np.ndarray,
    adds: ThreadPoolExecutor,
) -> None:
    """Compares the artifact's tensors of some images at all points, and adds the results to `found` or to `alike`.

    `tensors` holds the artifact's tensor of each point, once it is known.
    """
    added = []
    values = {points[0].read[0]: images.astype("float32")}
    for point in points:
        expected = np.asarray(point.part([values[name] for name in point.read], training=False))
        if point.limits is not None:
            expected = np.clip(expected, *point.limits)
        if _is_constant(expected):  # a runtime may leave it out: the next point shows a fault
            values[point.name] = expected
            continue
        if point.name not in tensors:
            same_shape = {
                name: values.reshape(expected.shape)
                for name, values in given.items()
                if values.size == expected.size and values.shape[-1] == expected.shape[-1]
            }
            if not same_shape:  # the value was merged with a later one
                values[point.name] = expected
                continue
            if point is points[-1] and OUTPUT in same_shape:  # an operation behind the last layer counts, too
                same_shape = {OUTPUT: same_shape[OUTPUT]}
            few = slice(FEW_IMAGES * len(expected) // len(images))  # a layer may have several rows for each image
            tensors[point.name] = min(
                same_shape, key=lambda name: _distance(expected[few], same_shape[name][few], point)
            )
        received = given[tensors[point.name]].reshape(expected.shape)
        if point.is_unordered:
            alike[point.name] += [_alike_percent(*pair) for pair in zip(expected, received, strict=True)]
        else:
            wanted = _without_shift(expected, received) if point.is_logits else expected
            added.append(adds.submit(found[point.name].add, wanted, received, len(images)))
        values[point.name] = received
    for each in added:
        each.result()


def _is_constant(values: np.ndarray) -> bool:
    """Values `[N, ..., C]` -> whether each channel has one value, as behind a BatchNorm whose scale is still zero."""
    rows = values.reshape(-1, values.shape[-1])
    return len(rows) > 1 and bool((rows[0] == rows[-1]).all() and (rows == rows[0]).all())


@np.errstate(invalid="ignore", over="ignore")  # tensors of one shape are tried, and some hold infinities
def _distance(expected: np.ndarray, received: np.ndarray, point: Point) -> float:
    if point.is_unordered:
        return -sum(_alike_percent(*pair) for pair in zip(expected, received, strict=True))
    difference = expected.astype("float64") - received
    distance = float(np.square(difference - difference.mean() if point.is_logits else difference).sum())
    return distance if np.isfinite(distance) else np.inf


@np.errstate(invalid="ignore")
def _alike_percent(expected: np.ndarray, received: np.ndarray) -> float:
    """Boxes `[R, 4]` or scores `[R]`, the model's and the artifact's -> share of all that the others hold as well."""
    a, b = (values.reshape(len(values), -1) for values in (expected, received))
    alike = (np.abs(a[:, None] - b[None]) <= ALIKE).all(axis=-1)
    return float(50 * (alike.any(axis=0).mean() + alike.any(axis=1).mean()))


def _without_shift(expected: np.ndarray, received: np.ndarray) -> np.ndarray:
    """Expected and received logits -> expected logits as the artifact would hold them.

    All logits of an artifact may be shifted by one number, and the lowest and highest may be clipped.
    """
    inside = (received > received.min()) & (received < received.max())
    shift = float(np.mean((expected - received)[inside])) if inside.any() else 0.0
    return np.where(inside, expected - shift, received)
