"""Average precision, accumulated over the batches of Keras' `fit` and `evaluate`."""

from typing import Any

import keras

# Scores are counted in steps of their logit, which separate high and low probabilities as well as middle ones. A step
# in validation is 0.006, at most 0.15 % of a probability. Steps in training, whose figure is computed after each batch,
# are 16 times as wide: with 1000 classes, 2048 steps took 70 ms of a CPU.
LARGEST_LOGIT, STEPS, STEPS_OF_TRAINING = 12.0, 4096, 256


class TagAccuracy(keras.metrics.Metric):
    """Shares `[N, classes]`, scores `[N, classes]` -> `mean_average_precision_percent`.

    The result is the mean of `figures.average_precision` over the classes that an image has, with all scores within a
    step treated as equal; zero without such a class. A class counts as present if its share is above one half.
    """

    def __init__(self, classes: int, from_logits: bool, steps: int, name: str = "tag_accuracy") -> None:
        super().__init__(name=name, dtype="int32")
        self.classes, self.from_logits, self.steps = classes, from_logits, steps
        self.scored, self.present = (
            self.add_variable((classes, steps), initializer="zeros", dtype="int32", name=part)
            for part in ("scored", "present")
        )

    def update_state(self, shares: Any, scores: Any, sample_weight: Any = None) -> None:
        ops = keras.ops
        scores = ops.cast(scores, "float32")
        logits = scores if self.from_logits else ops.log(scores) - ops.log(1 - scores)  # infinite for scores 0 and 1
        bounded = ops.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)
        steps = ops.cast(ops.floor((bounded + LARGEST_LOGIT) * (self.steps / (2 * LARGEST_LOGIT))), "int32")
        cells = ops.minimum(steps, self.steps - 1) + self.steps * ops.arange(self.classes, dtype="int32")
        cells = ops.reshape(cells, (-1,))
        there = ops.reshape(ops.cast(ops.cast(shares, "float32") > 0.5, "int32"), (-1,))
        for counted, of_each in ((self.scored, ops.ones_like(cells)), (self.present, there)):
            counts = ops.segment_sum(of_each, cells, num_segments=self.classes * self.steps)
            counted.assign(counted + ops.reshape(counts, (self.classes, self.steps)))

    def _from_the_top(self, counts: Any) -> Any:
        """Counts `[classes, steps]` -> number of scores in the step or above it, float32 `[classes, steps]`."""
        ops = keras.ops
        return ops.cast(ops.flip(ops.cumsum(ops.flip(counts, axis=1), axis=1), axis=1), "float32")

    def result(self) -> dict[str, Any]:
        ops = keras.ops
        found, right = self._from_the_top(self.scored), self._from_the_top(self.present)
        there = right[:, 0]
        sums = ops.sum(ops.cast(self.present, "float32") * right / ops.maximum(found, 1.0), axis=1)
        counted = ops.cast(there > 0, "float32")
        mean = ops.sum(sums / ops.maximum(there, 1.0)) / ops.maximum(ops.sum(counted), 1.0)
        return {"mean_average_precision_percent": 100 * mean}


class TagDecision(TagAccuracy):
    """`TagAccuracy` of probabilities, with the best threshold for the images and its figures.

    - `threshold`: the threshold for all classes with the highest micro F1; the middle one if several are equal.
    - `micro_f1_percent`: micro F1 at this threshold.
    - `independent_images`: classes² / sum over the classes of 1 / images of the class. If the mean average precision
      were a share of images, a share of so many images would be as uncertain.
    """

    def __init__(self, classes: int, name: str = "tag_decision") -> None:
        super().__init__(classes, from_logits=False, steps=STEPS, name=name)

    def result(self) -> dict[str, Any]:
        ops = keras.ops
        found, right = self._from_the_top(self.scored), self._from_the_top(self.present)
        there = right[:, 0]
        f1 = 2 * ops.sum(right, axis=0) / ops.maximum(ops.sum(found, axis=0) + ops.sum(there), 1.0)  # [steps]
        best = ops.cast(f1 >= ops.max(f1), "int32")
        middle = ops.argmax(ops.cast(ops.cumsum(best) * 2 >= ops.sum(best), "int32"))
        logit = 2 * LARGEST_LOGIT / self.steps * ops.cast(middle, "float32") - LARGEST_LOGIT
        counted = ops.cast(there > 0, "float32")
        inverse = ops.sum(counted / ops.maximum(there, 1.0))
        return {
            **super().result(),
            "micro_f1_percent": 100 * ops.max(f1),
            "threshold": ops.sigmoid(logit),
            "independent_images": ops.square(ops.sum(counted)) / ops.maximum(inverse, 1e-30),
        }
