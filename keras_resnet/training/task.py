"""What differs between the tasks that a run can train: its network, what it minimises, its figures."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import keras

from keras_resnet import models, segmentation
from keras_resnet.data.base import Source
from keras_resnet.data.targets import LABEL, MASK, Target
from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation.segmentation_metric import SegmentationInterval
from keras_resnet.evaluation.uncertainty import wilson_interval_percent
from keras_resnet.facts import facts_of
from keras_resnet.labels import VOID
from keras_resnet.layer_names import AUXILIARY, LOGITS
from keras_resnet.training.objective import class_weights, for_outputs, loss_weights, make_loss, make_metrics
from keras_resnet.training.recipe import Recipe
from keras_resnet.variants import Contract, WholeImage

# Columns of the history, and what they are called where people read them.
TITLES: Mapping[str, str] = {
    "loss": "loss",
    "top1_percent": "top-1",
    "top5_percent": "top-5",
    "mean_iou_percent": "mean IoU",
    "pixel_accuracy_percent": "pixel accuracy",
}


class Task(Protocol):
    """A task with the recipe and the training images of one run."""

    target: ClassVar[Target]  # what its images have
    score: ClassVar[str]  # column of the history, by whose `val_` the best epoch is chosen

    def training_model(self, fresh: bool) -> keras.Model:
        """-> pixels to logits; with the weights that the recipe starts from, if it is the start."""
        ...

    def contract(self, model: keras.Model) -> Contract:
        """Training model at its start -> how image files become the pixels of validation."""
        ...

    def evaluated_model(self) -> keras.Model:
        """-> pixels to probabilities, compiled to be evaluated."""
        ...

    def objective(self, model: keras.Model) -> dict[str, Any]:
        """Training model -> arguments of `compile`."""
        ...

    def nothing(self, model: keras.Model) -> tuple[Any, Any]:
        """Training model -> targets and outputs of zeros, with which its metrics are built."""
        ...

    def batches(self, model: keras.Model, batches: Any) -> Any:
        """Training model, batches of the pipeline -> with targets as the model's outputs ask for them."""
        ...

    def figures(self, logs: Mapping[str, float]) -> dict[str, float]:
        """What Keras measured -> columns of the history."""
        ...

    def interval_percent(self, logs: Mapping[str, float], images: int) -> tuple[float, float]:
        """What Keras measured on so many validation images -> the score's interval of one standard error."""
        ...


def task_of(recipe: Recipe, source: Source) -> Task:
    """Recipe, training images -> task.

    Raises:
        ArgumentError: The images have other targets.
    """
    chosen = TASKS[recipe.task]
    if source.target is not chosen.target:
        other = source.target.task
        raise ArgumentError(
            f"{source.path} has the targets of {source.target.title}, task = {other} (--task {other}). "
            f"Received: task = {recipe.task}"
        )
    return chosen(recipe, source)


class Classification:
    """An image's class."""

    target: ClassVar[Target] = LABEL
    score: ClassVar[str] = "top1_percent"

    def __init__(self, recipe: Recipe, source: Source) -> None:
        self.recipe, self.source, self.classes = recipe, source, len(source.classes)

    def training_model(self, fresh: bool) -> keras.Model:
        side = None if self.recipe.progressive_sizes else self.recipe.size
        weights = self.recipe.weights or None if fresh else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the head stays fresh")  # as new classes mean
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
        # An optimizer without variables of its own, of which the file would lack the values.
        model.compile("sgd", "categorical_crossentropy", metrics=metrics)
        return model

    def objective(self, model: keras.Model) -> dict[str, Any]:
        return {"loss": make_loss(self.recipe), "metrics": make_metrics(self.recipe.task, self.classes)}

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

    def _build(self, **arguments: Any) -> keras.Model:
        return models.BUILDERS[self.recipe.network](classes=self.classes, **arguments)


class Segmentation:
    """The class of every pixel."""

    target: ClassVar[Target] = MASK
    score: ClassVar[str] = "mean_iou_percent"

    def __init__(self, recipe: Recipe, source: Source) -> None:
        self.recipe, self.source, self.classes = recipe, source, len(source.classes)
        # Counted over all masks, which are read for it.
        self.class_weights = None if recipe.class_weights == "none" else class_weights(recipe, source.class_counts)

    def training_model(self, fresh: bool) -> keras.Model:
        side = None if self.recipe.progressive_sizes else self.recipe.size
        weights = {"weights": self.recipe.weights or None, "backbone_weights": self.recipe.backbone_weights or None}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the head stays fresh")
            return self._build(
                **(weights if fresh else {}),
                auxiliary_head=self.recipe.auxiliary_head,
                input_shape=(side, side, 3),
                classifier_activation=None,
            )

    def contract(self, model: keras.Model) -> Contract:
        return WholeImage()

    def evaluated_model(self) -> keras.Model:
        model = self._build()
        loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=VOID)
        model.compile("sgd", loss, metrics=[SegmentationInterval(self.classes)])
        return model

    def objective(self, model: keras.Model) -> dict[str, Any]:
        outputs = _outputs(model)
        loss = make_loss(self.recipe, self.class_weights)
        metrics = make_metrics(self.recipe.task, self.classes)
        if len(outputs) == 1:
            return {"loss": loss, "metrics": metrics}
        return {
            "loss": for_outputs(loss, outputs),
            "loss_weights": loss_weights(outputs),
            "metrics": {outputs[0]: metrics},
        }

    def nothing(self, model: keras.Model) -> tuple[Any, Any]:
        outputs = _outputs(model)
        masks, logits = keras.ops.zeros((1, 1, 1), "uint8"), keras.ops.zeros((1, 1, 1, self.classes))
        return for_outputs(masks, outputs), for_outputs(logits, outputs)

    def batches(self, model: keras.Model, batches: Any) -> Any:
        outputs = _outputs(model)
        if len(outputs) == 1:
            return batches
        return batches.map(lambda pixels, masks: (pixels, for_outputs(masks, outputs)))

    def figures(self, logs: Mapping[str, float]) -> dict[str, float]:
        # Keras writes the name of the output before a metric, where there are several outputs.
        own = {name.removeprefix(f"{LOGITS}_"): value for name, value in logs.items()}
        columns = {"loss": logs["loss"]}
        return columns | {name: own[name] for name in ("mean_iou_percent", "pixel_accuracy_percent")}

    def interval_percent(self, logs: Mapping[str, float], images: int) -> tuple[float, float]:
        return logs["mean_iou_low_percent"], logs["mean_iou_high_percent"]

    def _build(self, **arguments: Any) -> keras.Model:
        if self.recipe.output_stride:
            arguments["output_stride"] = self.recipe.output_stride
        return segmentation.BUILDERS[self.recipe.architecture](self.recipe.network, self.classes, **arguments)


def _outputs(model: keras.Model) -> Sequence[str]:
    """Model -> names of its outputs, the main one first."""
    return sorted(model.output, key=AUXILIARY.__eq__) if isinstance(model.output, dict) else [LOGITS]


TASKS: Mapping[str, type[Classification] | type[Segmentation]] = {"classify": Classification, "segment": Segmentation}
