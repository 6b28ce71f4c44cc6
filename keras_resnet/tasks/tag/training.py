"""Training of a tagging network: network, loss and figures."""

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
    """Training for an image's classes, which don't exclude each other; the network is built like a classifier."""

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
        """-> Wilson's interval, as if the mean average precision were a share of images.

        Boyd et al. 2013, "Area under the precision-recall curve", treat the average precision of a class as a share of
        the images that have the class. A mean over classes is treated as a share of `independent_images`, limited by
        the number of images, since the classes of one image are not independent.
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
