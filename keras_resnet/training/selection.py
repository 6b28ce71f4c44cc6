"""The rule by which an epoch of a run becomes `model.keras`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CLEARLY_LOWER = 0.9  # a loss below this share of another is clearly lower


@dataclass(frozen=True)
class Validated:
    """Figures of one epoch on the validation images."""

    score_percent: float
    low_percent: float  # lower end of the score's interval of one standard error
    high_percent: float
    loss: float  # infinite if it is not finite, or if the task's collector computes no loss

    def __str__(self) -> str:
        loss = f", loss {self.loss:.4f}" if math.isfinite(self.loss) else ""
        return f"{self.score_percent:.2f} % ({self.low_percent:.2f} to {self.high_percent:.2f}){loss}"

    @classmethod
    def of_row(cls, row: Mapping[str, Any], score: str) -> "Validated":
        """Row of the history, name of the score's column without `val_` -> figures of its epoch."""
        percent = float(row[f"val_{score}"])
        low, high = (float(row.get(column, percent)) for column in interval_columns(f"val_{score}"))
        loss = float(row.get("val_loss", math.inf))
        return cls(percent, low, high, loss if math.isfinite(loss) else math.inf)


def interval_columns(score: str) -> tuple[str, str]:
    """Column of a score -> columns of the lower and the upper end of its interval.

    Example: `"val_top1_percent"` -> `"val_top1_low_percent"`, `"val_top1_high_percent"`.
    """
    stem = score.removesuffix("_percent")
    return f"{stem}_low_percent", f"{stem}_high_percent"


def is_better(new: Validated, best: Validated, highest: Validated) -> bool:
    """Epoch, best epoch before it, epoch with the highest score so far -> whether the epoch becomes the best.

    The one-standard-error rule: the validation images can't distinguish scores within one standard error of each other,
    and the loss, which depends on the confidence of the network, decides between them. In order:

    1. An epoch below the interval of the highest score never wins, so that the best can't get worse step by step.
    2. An epoch above the interval of the best wins.
    3. Otherwise, if the losses differ by more than a tenth, the lower loss wins.
    4. Otherwise the higher score wins, and for equal scores the lower loss.

    Source: Breiman et al. 1984, "Classification and regression trees", section 3.4.3 (the rule); Hastie et al. 2009,
    "The elements of statistical learning", section 7.10.
    """
    if new.score_percent < highest.low_percent:
        return False
    if new.score_percent > best.high_percent:
        return True
    if new.loss < CLEARLY_LOWER * best.loss:
        return True
    if best.loss < CLEARLY_LOWER * new.loss:
        return False
    return (new.score_percent, -new.loss) > (best.score_percent, -best.loss)


def takes_the_place(history: Sequence[Mapping[str, Any]], best_epoch: int, score: str) -> bool:
    """Rows of the history with a new last row, best epoch before it (0: none) -> whether the last row is better."""
    *earlier, last = (Validated.of_row(row, score) for row in history)
    if not best_epoch:
        return True
    highest = max(earlier, key=lambda epoch: epoch.score_percent)
    return is_better(last, earlier[best_epoch - 1], highest)
