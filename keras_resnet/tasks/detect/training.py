"""Training of a detector: network, losses and figures."""

import warnings
from collections.abc import Mapping
from typing import Any, cast

import keras

from keras_resnet import detection, layer_names
from keras_resnet.data.base import Source
from keras_resnet.errors import ArgumentError
from keras_resnet.evaluation.uncertainty import wilson_interval_percent
from keras_resnet.tasks.detect.detected import DetectedSource
from keras_resnet.tasks.detect.loss_graph import OBJECTS, PARTS, with_losses
from keras_resnet.variants import Contract, WholeImage

FUNCTIONS = {"faster_rcnn": detection.FasterRCNN, "mask_rcnn": detection.MaskRCNN}
HISTORY_COLUMNS = (
    *("loss", *(f"{name}_loss" for name in PARTS)),
    *("ap_percent", "ap50_percent", "ap75_percent", "mask_ap_percent", "mask_ap50_percent"),
)
MORE_PROPOSALS = 2  # in training, times the number in prediction, as in torchvision


class ComputedLoss(keras.losses.Loss):
    """A loss that the network has computed, as its output -> the loss.

    The objects are an input of the network, since they take part in the choice of the boxes for its heads.
    """

    def call(self, _: Any, output: Any) -> Any:
        return output


class DetectorTraining:
    """Training for the boxes of objects, and for their masks."""

    collects = True

    def __init__(self, recipe: Any, source: Source) -> None:
        self.recipe, self.source, self.classes = recipe, cast(DetectedSource, source), len(source.classes)
        if recipe.detector == "mask_rcnn" and self.source.instances is None:
            raise ArgumentError(
                f"detector = mask_rcnn needs objects with masks, but in {source.path} they have only boxes. Give "
                "detector = faster_rcnn (--detector faster_rcnn)"
            )

    def training_model(self, fresh: bool) -> keras.Model:
        weights = {name: self.recipe.source_of(name) for name in ("weights", "backbone_weights")}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the head stays fresh")  # expected for new classes
            detector = self._build(MORE_PROPOSALS * self.recipe.proposals, **(weights if fresh else {}))
        return with_losses(
            detector,
            self.source.most_objects,
            self.source.instances is not None,
            self.recipe.box_samples,
            self.recipe.seed,
        )

    def contract(self, model: keras.Model) -> Contract:
        return WholeImage(self.recipe.size, self.recipe.size)

    def evaluated_model(self) -> keras.Model:
        return self._build(self.recipe.proposals)

    def objective(self, model: keras.Model) -> dict[str, Any]:
        return {"loss": {name: ComputedLoss(name=name, dtype="float32") for name in model.output}}

    def nothing(self, model: keras.Model) -> tuple[Any, Any]:
        zeros = dict.fromkeys(model.output, keras.ops.zeros(1))
        return zeros, zeros

    def batches(self, model: keras.Model, batches: Any) -> Any:
        # Keras wants a target for each output; `ComputedLoss` does not read it.
        return batches.map(
            lambda pixels, targets: (
                {layer_names.IMAGE: pixels, OBJECTS: targets},
                dict.fromkeys(model.output, targets[:, 0]),
            )
        )

    def figures(self, logs: Mapping[str, float]) -> dict[str, float]:
        return {name: float(logs[name]) for name in HISTORY_COLUMNS if name in logs}

    def interval_percent(self, logs: Mapping[str, float], images: int) -> tuple[float, float]:
        """-> Wilson's interval, as if the average precision were a share of images.

        The objects of an image are not independent of each other, so that their number says less than the number of
        images.
        """
        return wilson_interval_percent(logs["ap_percent"], images)

    def task_facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def batch_class_weights(self) -> list[float] | None:
        return None

    def _build(self, proposals: int, **weights: Any) -> keras.Model:
        recipe = self.recipe
        return FUNCTIONS[recipe.detector](
            recipe.network,
            self.classes,
            version=recipe.detector_version,
            input_shape=(recipe.size, recipe.size, 3),
            min_size=recipe.size,
            max_size=recipe.size,
            anchor_sizes=recipe.anchor_sizes,
            channels=recipe.pyramid_channels,
            units=recipe.box_units,
            proposals=proposals,
            max_detections=recipe.max_detections,
            **weights,
        )
