"""Cropped pixels -> augmented pixels and soft labels, in the graph of a tf.data pipeline.

Every random value is a pure function of the run's seed, the epoch and the place in the epoch.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.augment import Augmentation
from keras_resnet.data.crop import to_uint8
from keras_resnet.errors import ArgumentError
from keras_resnet.preprocessing import MEAN_COLOUR

# Seed for all layers, which do not use it. Without a seed, a layer would draw one from Python's generator, and so
# change other values drawn there, for example the weights of a model.
COMMON: dict[str, Any] = {"seed": 0, "dtype": "float32"}

ROWS, MIXING, CROP, SHIFT = range(1, 5)  # random streams of an epoch; stream 0 orders the images


def uniform_draws(seed: int, epoch: int, count: int) -> np.ndarray:
    """-> random numbers 0..1 for each place in an epoch, float32 `[count, 3]`: shift down, shift right, flip.

    They are drawn for the whole epoch at once: in the graph, a draw costs as much as mirroring an image.
    """
    return np.random.default_rng([seed, epoch, SHIFT]).random((count, 3), np.float32)


def stream_key(seed: int, epoch: int, stream: int) -> int:
    """-> first half of every seed of that stream; the second half is the place in the epoch."""
    return int(np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0] >> 1)


class PlacedSeeds(keras.random.SeedGenerator):
    """A generator for Keras layers whose seeds depend only on the place in the epoch.

    Keras' own generator counts its calls in a variable, so that its seeds depend on all earlier draws.
    """

    def __init__(self) -> None:  # the parent's constructor would make that variable
        self.start: tf.Tensor | None = None

    def start_at(self, seed: tf.Tensor) -> None:
        """Sets the seed, int64 `[2]`, for the next call of the layers."""
        self.start, self.drawn = seed, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self.drawn += 1
        return tf.random.fold_in(self.start, self.drawn)

    def give_to(self, layer: Any) -> Any:
        """Keras layer -> the layer, which now draws its seeds from this generator."""
        layer._get_seed_generator = lambda backend=None: self
        return layer


Step = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # float32 `[1, H, W, 3]`, seed `[2]` -> augmented image


def row_layers(augmentation: Augmentation) -> Step | None:
    """Augmentation -> function: (uint8 `[1, H, W, 3]`, seed `[2]`) -> augmented image; None if there is nothing to do.

    The layers get each image on its own, so that the result does not depend on the other images of the batch.
    """
    steps: list[Step] = []
    if augmentation.randaugment_operations:
        steps += [_rand_augment(augmentation.randaugment_magnitude)] * augmentation.randaugment_operations
    if augmentation.colour_jitter:
        steps.append(_colour_jitter(augmentation.colour_jitter))
    if augmentation.erasing_probability:
        steps.append(_erasing(augmentation.erasing_probability))
    if not steps:
        return None

    def augmented(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        shape = images.shape
        images = tf.cast(images, tf.float32)
        for number, step in enumerate(steps):
            images = step(images, tf.random.fold_in(seed, number))
        return tf.ensure_shape(to_uint8(images), shape)

    return augmented


# Tracing Keras' layers takes seconds, so each function is traced once in a process for each size, not in every epoch.


@functools.cache
def _rand_augment(magnitude: float) -> Step:
    """-> one operation of keras.layers.RandAugment, drawn for each image.

    RandAugment itself draws operations once for a whole batch, and computes all eleven to keep one of them.
    """
    seeds = PlacedSeeds()
    whole = keras.layers.RandAugment(factor=magnitude, **COMMON)
    whole.equalization._custom_histogram_fixed_width = _histogram
    layers = [seeds.give_to(getattr(whole, name)) for name in whole._AUGMENT_LAYERS]

    @tf.function(autograph=False)
    def step(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seeds.start_at(seed)
        chosen = tf.random.stateless_uniform([], seeds.next(), maxval=len(layers), dtype=tf.int32)
        return tf.switch_case(
            chosen, [lambda layer=layer: tf.ensure_shape(layer(images), images.shape) for layer in layers]
        )

    return step


def _histogram(values: tf.Tensor, value_range: tuple[float, float], nbins: int) -> tf.Tensor:
    """Values of any shape -> number of values in each bin, as keras.layers.Equalization computes it.

    On JAX, Equalization counts bin by bin, in eleven thousand operations, although the graph is TensorFlow's.
    """
    low, high = value_range
    bins = tf.cast((values - low) * (nbins - 1) / (high - low), tf.int32)
    return tf.math.bincount(tf.reshape(tf.clip_by_value(bins, 0, nbins - 1), [-1]), minlength=nbins, maxlength=nbins)


@functools.cache
def _colour_jitter(strength: float) -> Step:
    """-> the parts of keras.layers.RandomColorJitter, for pixels 0..1, with symmetric ranges.

    RandomColorJitter with one number for a range only raises contrast and only lowers saturation. On pixels 0..255, it
    clips saturation, which always lies in 0..1, at 255.
    """
    seeds = PlacedSeeds()
    # RandomSaturation multiplies by x / (1 - x).
    saturation = ((1 - strength) / (2 - strength), (1 + strength) / (2 + strength))
    common: dict[str, Any] = COMMON | {"value_range": (0, 1)}
    layers = [
        seeds.give_to(layer)
        for layer in (
            keras.layers.RandomBrightness(strength, **common),
            keras.layers.RandomContrast((strength, strength), **common),
            keras.layers.RandomSaturation(saturation, **common),
            keras.layers.RandomHue(strength / 4, **common),
        )
    ]

    @tf.function(autograph=False)
    def step(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seeds.start_at(seed)
        images /= 255.0
        for layer in layers:
            images = layer(images)
        return images * 255.0

    return step


@functools.cache
def _erasing(probability: float) -> Step:
    seeds = PlacedSeeds()
    # The factor is given twice, since a single number would be the upper bound of a random probability.
    layer = seeds.give_to(keras.layers.RandomErasing((probability,) * 2, fill_value=MEAN_COLOUR, **COMMON))

    @tf.function(autograph=False)
    def step(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        seeds.start_at(seed)
        return layer(images)

    return step


Batch = dict[str, tf.Tensor]


def mixing(augmentation: Augmentation) -> Callable[[Batch, tf.Tensor], Batch] | None:
    """Augmentation -> function: ({images float `[N, H, W, 3]`, labels `[N, classes]`}, seed `[2]`) -> mixed; or None.

    Raises:
        ArgumentError: keras.layers does not accept the alpha.
    """
    if augmentation.cutmix_alpha > 1:
        raise ArgumentError(f"`cutmix_alpha` must lie in 0..1. Received: cutmix_alpha = {augmentation.cutmix_alpha}")
    seeds = PlacedSeeds()
    layers = []
    if augmentation.mixup_alpha:
        layers.append(seeds.give_to(keras.layers.MixUp(augmentation.mixup_alpha, **COMMON)))
    if augmentation.cutmix_alpha:
        # Alpha is given twice, since a single number would be the upper bound of a random alpha.
        layers.append(seeds.give_to(keras.layers.CutMix((augmentation.cutmix_alpha,) * 2, **COMMON)))
    if not layers:
        return None

    def mixed(batch: Batch, seed: tf.Tensor) -> Batch:
        seeds.start_at(seed)
        if len(layers) == 1:
            return dict(layers[0](dict(batch)))
        chosen = tf.random.stateless_uniform([], seeds.next()) < 0.5
        return dict(tf.cond(chosen, lambda: layers[0](dict(batch)), lambda: layers[1](dict(batch))))

    return mixed


def shift_and_flip(images: tf.Tensor, draws: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """`[N, S, S, 3]`, random numbers 0..1 `[N, 3]` -> images, shifted over a border of zeros and mirrored."""
    size = images.shape[1]
    border = size // 8 if augmentation.crop == "padded" else 0
    tops, lefts = (tf.cast(draws[:, axis] * (2 * border + 1), tf.int32)[:, None] for axis in (0, 1))
    rows, columns = tops + tf.range(size), lefts + tf.range(size)
    if augmentation.flip:
        columns = tf.where(draws[:, 2:] < 0.5, columns[:, ::-1], columns)
    if border:
        images = tf.pad(images, [[0, 0], [border, border], [border, border], [0, 0]])
        images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1) if border or augmentation.flip else images
