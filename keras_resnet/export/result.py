"""The result of an export."""

from dataclasses import dataclass, field
from pathlib import Path

from keras_resnet.export.accuracy import Accuracy
from keras_resnet.export.checks import Report
from keras_resnet.export.manifest import FILE_NAME
from keras_resnet.tasks.base import Evaluation


@dataclass
class ExportReport:
    """Artifacts by format, reports of their verification, and reasons why formats failed."""

    folder: Path
    paths: dict[str, Path] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    accuracy: dict[str, Accuracy] = field(default_factory=dict)  # if images with known targets were given
    evaluations: dict[str, Evaluation] = field(default_factory=dict)  # evaluations by format, and of "model"
    failures: dict[str, Exception] = field(default_factory=dict)
    account: list[str] = field(default_factory=list)  # what was taken of labelled images, in lines

    @property
    def manifest(self) -> Path:
        return self.folder / FILE_NAME
