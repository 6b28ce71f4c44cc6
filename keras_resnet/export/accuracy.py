"""Artifact and model on the same labelled images, and the gate that an artifact must pass."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_resnet.errors import AccuracyError
from keras_resnet.evaluation import top1_agreement_percent, topk_accuracy_percent
from keras_resnet.export.images import Source, read_images
from keras_resnet.variants import InputContract

MAX_DROP_POINTS = 0.5


@dataclass(frozen=True)
class Accuracy:
    """One artifact on labelled images."""

    images: int
    top1_percent: float
    top5_percent: float | None  # None with fewer than six classes
    drop_points: float  # top-1 of the model minus that of the artifact
    agreement_percent: float  # images on which both name the same class first

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Examination:
    """Labelled images, and the model's answers on them."""

    images: np.ndarray  # uint8 `[N, H, W, C]`
    classes: np.ndarray  # `[N]`
    names: list[str]  # of the files, or their positions
    answers: np.ndarray  # of the model, `[N, classes]`

    def of(self, answers: np.ndarray) -> Accuracy:
        """Answers of an artifact `[N, classes]` -> its accuracy."""
        top1 = topk_accuracy_percent(answers, self.classes)
        return Accuracy(
            len(self.images),
            top1,
            topk_accuracy_percent(answers, self.classes, 5) if answers.shape[1] > 5 else None,
            topk_accuracy_percent(self.answers, self.classes) - top1,
            top1_agreement_percent(answers, self.answers),
        )


def labelled(
    data: Any, contract: InputContract | None, shape: tuple[int, int, int], labels: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Folder of class folders, CSV file, or (pixels, classes) -> pixels uint8 `[N, H, W, C]`, classes `[N]`, names.

    Raises:
        ImageError: A file can't be read.
        ExportError: The images are not of that shape.
    """
    if isinstance(data, tuple):
        images: Source
        images, classes = data
        pixels = read_images(images, contract, shape)
        return pixels, np.asarray(classes), [f"image {index}" for index in range(len(pixels))]
    from keras_resnet.data.labelled import labelled_images
    from keras_resnet.preprocessing import IMAGENET_CONTRACT, load_images

    paths, classes = labelled_images(data, labels)
    return load_images(paths, contract or IMAGENET_CONTRACT), classes, [f"{p.parent.name}/{p.name}" for p in paths]


def check_drop(name: str, accuracy: Accuracy, max_drop_points: float) -> None:
    """Raises `AccuracyError` if the artifact falls by more than that below its model."""
    if accuracy.drop_points > max_drop_points + 1e-9:
        raise AccuracyError(
            f"{name} has a top-1 accuracy of {accuracy.top1_percent:.2f} % on {accuracy.images} images, "
            f"{accuracy.drop_points:.2f} points below its model; allowed: {max_drop_points:g} (--max-drop). Other "
            "calibration images, --ranges mse or --keep-float may help; --debug names the layers with the largest error"
        )
