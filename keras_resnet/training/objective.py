"""Recipe -> what is minimised and what is reported: for one-hot or soft labels, and logits."""

from typing import Any

import keras
import numpy as np

from keras_resnet.training.recipe import Recipe


def make_loss(recipe: Recipe) -> keras.losses.Loss:
    """Recipe -> loss of labels `[N, classes]` and logits `[N, classes]`.

    `binary` takes each class on its own (Wightman et al. 2021, arXiv 2110.00476); `focal` weakens what is already
    right (Lin et al. 2017, arXiv 1708.02002), with Keras' gamma of 2.
    """
    if recipe.loss == "binary":
        return keras.losses.BinaryCrossentropy(from_logits=True)
    if recipe.loss == "focal":
        return keras.losses.CategoricalFocalCrossentropy(alpha=1.0, from_logits=True)
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def make_metrics() -> list[Any]:
    """-> accuracy as `fit` counts it: against the largest share of a mixed label."""
    return [keras.metrics.CategoricalAccuracy(name="top1")]


def class_weights(recipe: Recipe, class_counts: np.ndarray) -> list[float] | None:
    """Images of each class -> weight of each class, 1 on average over the images, or None where all count alike."""
    if recipe.class_weights == "none":
        return None
    present = np.maximum(class_counts, 1)
    return [float(weight) for weight in class_counts.sum() / (np.count_nonzero(class_counts) * present)]
