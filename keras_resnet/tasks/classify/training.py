"""Training of a classifier: network, loss and figures."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet import models
from keras_resnet.data.base import Source
from keras_resnet.evaluation.uncertainty import wilson_interval_percent
from keras_resnet.facts import facts_of
from keras_resnet.tasks.class_weights import class_weights
from keras_resnet.variants import Contract

FOCAL_GAMMA = 2.0


def make_loss(name: str) -> keras.losses.Loss:
    """A recipe's `loss` -> loss of labels `[N, classes]`, one-hot or soft, and logits `[N, classes]`.

    `binary` treats each class as a yes-or-no question (Wightman et al. 2021, arXiv 2110.00476); `focal` reduces the
    loss of well-classified images (Lin et al. 2017, arXiv 1708.02002), with Keras' gamma of 2.
    """
    if name == "binary":
        return keras.losses.BinaryCrossentropy(from_logits=True)
    if name == "focal":
        return keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=FOCAL_GAMMA, from_logits=True)
    return keras.losses.CategoricalCrossentropy(from_logits=True)


class ClassifierTraining:
    """Training for the class of an image."""

    collects = False

    def __init__(self, recipe: Any, source: Source) -> None:
        self.recipe, self.source, self.classes = recipe, source, len(source.classes)

    def training_model(self, fresh: bool) -> keras.Model:
        side = None if self.recipe.progressive_sizes else self.recipe.size
        weights = self.recipe.source_of("weights") if fresh else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the head stays fresh")  # expected for new classes
            return self._build(weights=weights, input_shape=(side, side, 3), classifier_activation=None)

    def contract(self, model: keras.Model) -> Contract:
        published = facts_of(model).contract
        if self.recipe.crop == "resized" and published is not None and published.sides == self.recipe.contract.sides:
            return published
        return self.recipe.contract

    def evaluated_model(self) -> keras.Model:
        model = self._build(input_shape=(self.recipe.size, self.recipe.size, 3))
        metrics: list[Any] = [keras.metrics.CategoricalAccuracy(name="top1")]
        if self.classes > 5:
            metrics.append(keras.metrics.TopKCategoricalAccuracy(5, name="top5"))
        # This optimizer has no variables, whose values the file would lack.
        model.compile("sgd", "categorical_crossentropy", metrics=metrics)
        return model

    def objective(self, model: keras.Model) -> dict[str, Any]:
        return {"loss": make_loss(self.recipe.loss), "metrics": [keras.metrics.CategoricalAccuracy(name="top1")]}

    def nothing(self, model: keras.Model) -> tuple[Any, Any]:
        zeros = keras.ops.zeros((1, self.classes))
        return zeros, zeros

    def batches(self, model: keras.Model, batches: Any) -> Any:
        return batches

    def figures(self, logs: Mapping[str, float]) -> dict[str, float]:
        columns = {"loss": logs["loss"], "top1_percent": 100 * logs["top1"]}
        return columns | ({"top5_percent": 100 * logs["top5"]} if "top5" in logs else {})

    def interval_percent(self, logs: Mapping[str, float], images: int) -> tuple[float, float]:
        return wilson_interval_percent(100 * logs["top1"], images)

    def task_facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def batch_class_weights(self) -> list[float] | None:
        return class_weights(self.recipe.class_weights, self.source.class_counts)

    def _build(self, **arguments: Any) -> keras.Model:
        return models.BUILDERS[self.recipe.network](classes=self.classes, **arguments)
