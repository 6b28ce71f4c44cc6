"""Folded model, calibration images -> the range of each activation, which the 256 steps of an integer divide."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_resnet.errors import ExportError
from keras_resnet.export.rounding import observed

BINS = 2048  # a histogram has so many on either side of zero
SMALLEST_EXPONENT = -100  # a bin's width is at least 2 to this power, far above the smallest numbers of float32
EVERY = 7  # smallest step between sampled values
LARGE = 4096  # number of an image's values above which they are sampled
CLIPPING_CANDIDATES = 100
LOGITS_CANDIDATES = 32
MSE_IMAGES = 64  # fewer images show too few of the large values, of which mse would cut off even more

Ranges = Mapping[str, tuple[float, float]]  # name of a layer -> minimum and maximum of its output


def usual_ranges(images: int) -> Literal["minmax", "mse"]:
    """Number of calibration images -> method of ranges whose integers agree better with the model."""
    return "mse" if images >= MSE_IMAGES else "minmax"


def activation_ranges(
    model: keras.Model, points: Sequence[str], images: np.ndarray, method: str, wanted: Sequence[Any] = ()
) -> tuple[dict[str, tuple[float, float]], list[np.ndarray]]:
    """Folded model, its quantization points, calibration images, method as for `quantize`, further tensors -> range of
    each point; values of the further tensors for all images.

    Raises:
        ExportError: A layer's values are not finite.
    """
    tensors = [model.get_layer(name).output for name in points]
    extremes = (ops.stack([extreme(tensor) for tensor in tensors]) for extreme in (ops.min, ops.max))
    lowest, highest = (ops.expand_dims(values, 0) for values in extremes)
    samples = [Sampled()(tensor) for tensor in tensors] if method == "mse" else []
    histograms = [Histogram() for _ in samples]
    low, high = np.zeros((2, len(points)))
    kept: list[list[np.ndarray]] = [[] for _ in wanted]
    for _, (lows, highs, *rest) in observed(model, [lowest, highest, *wanted, *samples], images):
        low, high = np.minimum(low, lows[0]), np.maximum(high, highs[0])
        if not np.isfinite(high - low).all():
            name = points[int(np.argmin(np.isfinite(high - low)))]
            raise ExportError(
                "int8 formats need a model whose values are finite for the calibration images. Received: the layer "
                f"{name!r}, which gives infinite values or NaN"
            )
        for values, parts in zip(rest[: len(wanted)], kept, strict=True):
            parts.append(values)
        for histogram, values in zip(histograms, rest[len(wanted) :], strict=True):
            histogram.add(values)
    ranges = list(zip(low.tolist(), high.tolist(), strict=True))
    if histograms:
        ranges = [histogram.least_squares_range(*each) for histogram, each in zip(histograms, ranges, strict=True)]
    return dict(zip(points, ranges, strict=True)), [np.concatenate(parts) for parts in kept]


class Sampled(keras.layers.Layer):
    """Values of images, places and channels `[N, ...]` -> `[n]`, all values of small images, else every n-th.

    Since n and the number of an image's values have no common factor, all channels, rows and columns are sampled
    evenly.
    """

    def call(self, values: Any) -> Any:
        size = math.prod(values.shape[1:])
        step = next(step for step in itertools.count(EVERY) if math.gcd(step, size) == 1) if size > LARGE else 1
        return ops.reshape(values, (-1,))[::step]


class Histogram:
    """How often values occur in each of 4,096 bins of one width, which doubles whenever a larger value comes.

    So the images are read once, and not a first time for their extremes. Zeros are left out: zero is one of the 256
    values, so that rounding and clipping leave it.
    """

    def __init__(self) -> None:
        self.width = 0.0  # a power of two
        self.counts = np.zeros(2 * BINS, "int64")  # values from -BINS * width to BINS * width

    def add(self, values: np.ndarray) -> None:
        values = values[values != 0]
        if not values.size:
            return
        largest = float(np.abs(values).max())
        self.width = self.width or 2.0 ** max(math.floor(math.log2(largest / BINS)), SMALLEST_EXPONENT)
        while largest >= BINS * self.width:
            self.width *= 2
            outer = np.zeros(BINS // 2, "int64")
            self.counts = np.concatenate([outer, self.counts.reshape(-1, 2).sum(axis=1), outer])
        bins = np.floor(values / np.float32(self.width)).astype("int64") + BINS
        self.counts += np.bincount(bins, minlength=2 * BINS)

    def least_squares_range(self, low: float, high: float) -> tuple[float, float]:
        """Extremes -> the fraction of low..high with the least squared error in 256 steps."""
        [filled] = self.counts.nonzero()
        values, counts = (filled - BINS + 0.5) * self.width, self.counts[filled]
        best, least = (low, high), np.inf
        for fraction in np.linspace(0.3, 1, CLIPPING_CANDIDATES):
            a, b = fraction * low, fraction * high
            step = (b - a) / 255
            inside = (values >= a) & (values <= b)
            error = np.where(inside, step**2 / 12, (values - np.clip(values, a, b)) ** 2)
            total = float(counts @ error)
            if total < least:
                best, least = (float(a), float(b)), total
        return best


def logits_range(logits: np.ndarray) -> tuple[float, float]:
    """Logits `[N, classes]` -> range with the least squared error of probabilities.

    Both methods use this range: 256 steps from the lowest to the highest logit would make the best two classes equal
    (in 3 % of ResNet-18's and ResNet-50's answers). Very low logits, and very high logits of confident answers, hardly
    affect probabilities.
    """
    logits = logits.astype("float64")

    def softmax(values: np.ndarray) -> np.ndarray:
        exponentials = np.exp(values - values.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    expected = softmax(logits)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        rough = low + np.round(np.clip(logits - low, 0, high - low) / step) * step
        return float(np.square(softmax(rough) - expected).sum())

    low, high = float(logits.min()), float(logits.max())
    low = min(np.linspace(low, high, LOGITS_CANDIDATES, endpoint=False), key=lambda floor: error(floor, high))
    high = min(np.linspace(high, low, LOGITS_CANDIDATES, endpoint=False), key=lambda ceiling: error(low, ceiling))
    return float(low), float(high)
