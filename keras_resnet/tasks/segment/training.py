"""Training of a segmentation network: network, loss and figures."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_resnet import segmentation
from keras_resnet.data.base import Source
from keras_resnet.evaluation.segmentation_metric import SegmentationAccuracy, SegmentationInterval
from keras_resnet.labels import VOID
from keras_resnet.layer_names import AUXILIARY, LOGITS
from keras_resnet.tasks.class_weights import class_weights
from keras_resnet.tasks.segment.loss import MaskLoss, for_outputs, loss_weights
from keras_resnet.variants import Contract, WholeImage


class SegmenterTraining:
    """Training for the class of every pixel."""

    collects = False

    def __init__(self, recipe: Any, source: Source) -> None:
        self.recipe, self.source, self.classes = recipe, source, len(source.classes)
        # Counting the classes reads all masks.
        balanced = recipe.class_weights != "none"
        self.class_weights = class_weights(recipe.class_weights, source.class_counts) if balanced else None

    def training_model(self, fresh: bool) -> keras.Model:
        side = None if self.recipe.progressive_sizes else self.recipe.size
        weights = {name: self.recipe.source_of(name) for name in ("weights", "backbone_weights")}
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
        loss = MaskLoss(self.recipe.loss, self.class_weights)
        metrics = [SegmentationAccuracy(self.classes)]
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

    def task_facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def batch_class_weights(self) -> list[float] | None:
        return None  # the loss takes the weights

    def _build(self, **arguments: Any) -> keras.Model:
        if self.recipe.output_stride:
            arguments["output_stride"] = self.recipe.output_stride
        return segmentation.ARCHITECTURE_BUILDERS[self.recipe.architecture](
            self.recipe.network, self.classes, **arguments
        )


def _outputs(model: keras.Model) -> Sequence[str]:
    """Model -> names of its outputs, starting with the main output."""
    return sorted(model.output, key=AUXILIARY.__eq__) if isinstance(model.output, dict) else [LOGITS]
