"""What an export made."""

from dataclasses import dataclass, field
from pathlib import Path

from keras_resnet.export.accuracy import Accuracy
from keras_resnet.export.manifest import FILE_NAME
from keras_resnet.export.verify import Report
from keras_resnet.tasks.base import Evaluation


@dataclass
class ExportReport:
    """The artifacts by format, how each compared with its model, and why others did not get their names."""

    folder: Path
    paths: dict[str, Path] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    accuracy: dict[str, Accuracy] = field(default_factory=dict)  # where images with known targets were given
    evaluations: dict[str, Evaluation] = field(default_factory=dict)  # on these; "model" is the model's
    failures: dict[str, Exception] = field(default_factory=dict)
    account: list[str] = field(default_factory=list)  # what was taken of labelled images, in lines

    @property
    def manifest(self) -> Path:
        return self.folder / FILE_NAME
