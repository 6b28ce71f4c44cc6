"""The report of an artifact's checks."""

import math
from dataclasses import asdict, dataclass

from keras_resnet.tasks.base import Check


@dataclass(frozen=True)
class Report:
    """The checks of one artifact, in order."""

    format: str
    checks: tuple[Check, ...]
    images: int
    max_difference: float  # largest |artifact - model| of a probability; NaN if it could not be measured
    relative_error: float  # max_difference / the model's largest probability
    top1_agreement_percent: float

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]

    def as_dict(self) -> dict:
        numbers = {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(self).items()}
        return {**numbers, "passed": self.passed}
