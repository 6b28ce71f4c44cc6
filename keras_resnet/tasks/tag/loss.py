"""What a tagging network minimises: the classes of images, and logits -> loss."""

from typing import Any

import keras

FOCAL_GAMMA = 2.0
GAMMA_POSITIVE, GAMMA_NEGATIVE, CLIP = 1.0, 4.0, 0.05  # of the asymmetric loss, as its authors have them


class TagLoss(keras.losses.Loss):
    """Shares `[N, classes]` in 0..1, logits `[N, classes]` -> loss `[]`, float32: the mean over images and classes.

    With p, the probability of a class, and y, the share of it that the image has:

    - `binary`: -y log(p) - (1 - y) log(1 - p).
    - `focal`: the same, each term weakened by the square of what is left of it, (1 - p)^2 and p^2 (Lin et al. 2017,
      arXiv 1708.02002, without the weight alpha).
    - `asymmetric`: as focal, with the powers 1 for a class that is there and 4 for one that is not, of which p is
      lowered by 0.05, but not below 0, so that easy ones count for nothing (Ridnik et al. 2021, arXiv 2009.14119). The
      gradient is that of the whole formula.
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
