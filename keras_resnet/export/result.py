"""What an export made."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_resnet.export.accuracy import Accuracy, Examination, MaskAccuracy, MaskExamination
from keras_resnet.export.manifest import FILE_NAME
from keras_resnet.export.verify import Report


@dataclass
class ExportReport:
    """The artifacts by format, how each compared with its model, and why others did not get their names."""

    folder: Path
    paths: dict[str, Path] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    accuracy: dict[str, Accuracy | MaskAccuracy] = field(default_factory=dict)  # where labelled images were given
    answers: dict[str, np.ndarray] = field(default_factory=dict)  # `[N, classes]` on these; "model" is the model's
    examination: Examination | MaskExamination | None = None
    failures: dict[str, Exception] = field(default_factory=dict)

    @property
    def manifest(self) -> Path:
        return self.folder / FILE_NAME
