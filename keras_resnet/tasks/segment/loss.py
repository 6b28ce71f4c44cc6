"""Losses of a segmentation network: masks and logits -> loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_resnet.labels import VOID
from keras_resnet.layer_names import AUXILIARY

AUXILIARY_WEIGHT = 0.5  # weight of the auxiliary loss, as in torchvision's references/segmentation/train.py
FOCAL_GAMMA = 2.0


class MaskLoss(keras.losses.Loss):
    """Masks, integers `[N, H, W]`, logits `[N, H, W, classes]` -> loss `[]`, float32; void pixels are ignored.

    `cross_entropy` and `focal` are means over the pixels, weighted by the weights of their classes, as in
    `torch.nn.functional.cross_entropy`. `dice` is 1 - mean(2 * overlap / sum of both areas) over the classes in the
    batch, weighted by the weights of the classes. If all pixels are void, the loss is zero.

    Source: Lin et al. 2017, arXiv 1708.02002 (focal); Milletari et al. 2016, arXiv 1606.04797 (dice, which counts
    classes alike, however small they are).
    """

    def __init__(self, kind: str, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(name=kind, dtype="float32")
        self.kind, self.class_weights = kind, class_weights

    def call(self, masks: Any, logits: Any) -> Any:
        ops = keras.ops
        masks, logits = ops.cast(masks, "int32"), ops.cast(logits, "float32")
        counted = ops.not_equal(masks, VOID)
        labels = ops.where(counted, masks, 0)
        inside = ops.cast(counted, "float32")
        weights = None if self.class_weights is None else ops.convert_to_tensor(self.class_weights, "float32")
        if self.kind == "dice":
            return self._dice(labels, inside, logits, weights)
        loss = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        if self.kind == "focal":
            loss = loss * ops.power(1 - ops.exp(-loss), FOCAL_GAMMA)
        if weights is not None:
            inside = inside * ops.take(weights, labels)
        return _mean(loss, inside)

    def _dice(self, labels: Any, inside: Any, logits: Any, weights: Any) -> Any:
        ops = keras.ops
        true = ops.one_hot(labels, logits.shape[-1], dtype="float32") * inside[..., None]
        predicted = ops.softmax(logits) * inside[..., None]
        axes = tuple(range(len(logits.shape) - 1))
        overlap, area = ops.sum(true * predicted, axes), ops.sum(true, axes)
        share = 2 * overlap / ops.maximum(area + ops.sum(predicted, axes), keras.config.epsilon())
        present = ops.cast(area > 0, "float32")
        return _mean(1 - share, present if weights is None else present * weights)

    def get_config(self) -> dict[str, Any]:
        return {"kind": self.kind, "class_weights": self.class_weights}


def _mean(values: Any, weights: Any) -> Any:
    """Values, weights of the same shape -> weighted mean; zero if all weights are zero."""
    total = keras.ops.sum(weights)
    return keras.ops.sum(values * weights) / keras.ops.where(total > 0, total, 1.0)


def loss_weights(outputs: Sequence[str]) -> dict[str, float]:
    """Names of a network's outputs -> weight of each output's loss."""
    return {name: AUXILIARY_WEIGHT if name == AUXILIARY else 1.0 for name in outputs}


def for_outputs(made: Any, outputs: Sequence[str]) -> Mapping[str, Any] | Any:
    """Value for a single output (a loss, targets), names of the outputs -> value for each output, as Keras takes it."""
    return made if len(outputs) == 1 else dict.fromkeys(outputs, made)
