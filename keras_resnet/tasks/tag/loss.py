"""Losses of a tagging network: classes of images and logits -> loss."""

from typing import Any

import keras

FOCAL_GAMMA = 2.0
GAMMA_POSITIVE, GAMMA_NEGATIVE, CLIP = 1.0, 4.0, 0.05  # constants of the asymmetric loss, as in the paper


class TagLoss(keras.losses.Loss):
    """Shares `[N, classes]` in 0..1, logits `[N, classes]` -> loss `[]`, float32: the mean over images and classes.

    Let p be the probability of a class, and y the share of the class in the image's label.

    - `binary`: -y log(p) - (1 - y) log(1 - p).
    - `focal`: -y (1 - p)^2 log(p) - (1 - y) p^2 log(1 - p) (Lin et al. 2017, arXiv 1708.02002, without the weight
      alpha).
    - `asymmetric`: -y (1 - p) log(p) - (1 - y) q^4 log(1 - q) with q = max(p - 0.05, 0), so that easy negatives count
      for nothing (Ridnik et al. 2021, arXiv 2009.14119). The gradient passes through all factors.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(name=kind, dtype="float32")
        self.kind = kind

    def call(self, shares: Any, logits: Any) -> Any:
        ops = keras.ops
        present, absent = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
        if self.kind == "focal":
            probability = ops.sigmoid(logits)
            present = present * ops.power(1 - probability, FOCAL_GAMMA)
            absent = absent * ops.power(probability, FOCAL_GAMMA)
        elif self.kind == "asymmetric":
            lowered = ops.relu(ops.sigmoid(logits) - CLIP)
            present = present * ops.power(ops.sigmoid(-logits), GAMMA_POSITIVE)
            absent = ops.log(1 - lowered) * ops.power(lowered, GAMMA_NEGATIVE)
        return -ops.mean(shares * present + (1 - shares) * absent, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"kind": self.kind}
