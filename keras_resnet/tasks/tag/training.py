"""How a tagging network is trained: its network, what it minimises, its figures."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet.evaluation.uncertainty import wilson_interval_percent
from keras_resnet.facts import state
from keras_resnet.tasks.classify.training import ClassifierTraining
from keras_resnet.tasks.tag.loss import TagLoss
from keras_resnet.tasks.tag.metric import STEPS_OF_TRAINING, TagAccuracy, TagDecision
from keras_resnet.tasks.tag.target import TAGS

HISTORY_COLUMNS = ("loss", "mean_average_precision_percent", "micro_f1_percent", "threshold")


class TaggerTraining(ClassifierTraining):
    """An image's classes; the network is a classifier's, whose classes don't exclude each other."""

    def evaluated_model(self) -> keras.Model:
        side = self.recipe.size
        model = self._build(input_shape=(side, side, 3), classifier_activation="sigmoid")
        model.compile("sgd", "binary_crossentropy", metrics=[TagDecision(self.classes)])
        return model

    def objective(self, model: keras.Model) -> dict[str, Any]:
        accuracy = TagAccuracy(self.classes, from_logits=True, steps=STEPS_OF_TRAINING)
        return {"loss": TagLoss(self.recipe.loss), "metrics": [accuracy]}

    def figures(self, logs: Mapping[str, float]) -> dict[str, float]:
        return {name: float(logs[name]) for name in HISTORY_COLUMNS if name in logs}

    def interval_percent(self, logs: Mapping[str, float], images: int) -> tuple[float, float]:
        """As if the mean average precision were a share of the images: Wilson's interval.

        Boyd et al. 2013, "Area under the precision-recall curve", take the average precision of one class for a share
        of the images that have it. A mean over classes is as uncertain as a share of `independent_images`, which are
        no more than the images, since the classes of one image are no independent draws.
        """
        independent = int(min(images, logs["independent_images"]))
        return wilson_interval_percent(logs["mean_average_precision_percent"], independent)

    def task_facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {"threshold": round(float(row["val_threshold"]), 6)}

    def batch_class_weights(self) -> list[float] | None:
        return None

    def _build(self, **arguments: Any) -> keras.Model:
        model = super()._build(**arguments)
        state(model, task=TAGS.task)
        return model
