"""Artifact and model on the same labelled images, and the gate that an artifact must pass."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_resnet.errors import AccuracyError, ExportError
from keras_resnet.evaluation import Segmentation, pixel_confusion, top1_agreement_percent, topk_accuracy_percent
from keras_resnet.evaluation.segmentation import pixel_scores
from keras_resnet.export.images import Source, read_images
from keras_resnet.variants import Contract, WholeImage

MAX_DROP_POINTS = {"top-1": 0.5, "mean IoU": 1.0}


@dataclass(frozen=True)
class Accuracy:
    """One artifact on labelled images."""

    images: int
    top1_percent: float
    top5_percent: float | None  # None with fewer than six classes
    drop_points: float  # top-1 of the model minus that of the artifact
    agreement_percent: float  # images on which both name the same class first

    title = "top-1"

    @property
    def score_percent(self) -> float:
        """What the gate compares."""
        return self.top1_percent

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class MaskAccuracy:
    """One artifact on images with masks."""

    images: int
    mean_iou_percent: float
    pixel_accuracy_percent: float
    drop_points: float  # mean IoU of the model minus that of the artifact
    agreement_percent: float  # pixels, void ones too, on which both name the same class first

    title = "mean IoU"

    @property
    def score_percent(self) -> float:
        """What the gate compares."""
        return self.mean_iou_percent

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class MaskExamination:
    """Images with masks, and the model's answers on them. Images and scores would not fit into memory all at once.

    Raises:
        ImageError: A file can't be read.
        ExportError: The data has no masks, or other classes.
    """

    def __init__(
        self, data: Any, contract: WholeImage, labels: Sequence[str] | None, void_labels: Sequence[int], model: Any
    ) -> None:
        from keras_resnet.data.masked import MaskedSource
        from keras_resnet.data.sources import open_source

        source, classes = open_source(data, "val", labels, void_labels), model.outputs[0].shape[-1]
        if not isinstance(source, MaskedSource) or len(source.classes) != classes:
            raise ExportError(
                f"`data` must be images with masks of the model's {classes} classes. Received: {data}, "
                f"{source.target.task} with {len(source.classes)} classes"
            )
        self.source, self.contract, self.classes = source, contract, classes
        self.masks: list[np.ndarray] = []  # of the model, uint8 [H, W]
        self.model = self._segmentation(lambda pixels: model.predict_on_batch(pixels.astype("float32")), self._note)

    def of(self, predict: Callable[[np.ndarray], Any]) -> MaskAccuracy:
        """Function of an artifact, pixels to probabilities `[1, H, W, classes]` -> its accuracy."""
        same = pixels = 0

        def compare(index: int, mask: np.ndarray) -> None:
            nonlocal same, pixels
            same += int(np.sum(mask == self.masks[index]))
            pixels += mask.size

        found = self._segmentation(predict, compare)
        return MaskAccuracy(
            len(self.masks),
            found.mean_iou_percent,
            found.pixel_accuracy_percent,
            self.model.mean_iou_percent - found.mean_iou_percent,
            100 * same / pixels,
        )

    def _note(self, index: int, mask: np.ndarray) -> None:
        self.masks.append(mask)

    def _segmentation(
        self, predict: Callable[[np.ndarray], Any], tell: Callable[[int, np.ndarray], None]
    ) -> Segmentation:
        confusion = np.zeros((self.classes, self.classes), np.int64)
        for index in range(self.source.count):
            _, pixels, mask = self.source.decode(index)
            scores = pixel_scores(predict, pixels, self.contract)
            confusion += pixel_confusion(scores, mask)
            tell(index, scores.argmax(axis=-1).astype(np.uint8))
        return Segmentation(confusion)


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
    data: Any, contract: Contract | None, shape: tuple[int, int, int], labels: Sequence[Any] | None
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


def check_drop(name: str, accuracy: Accuracy | MaskAccuracy, max_drop_points: float) -> None:
    """Raises `AccuracyError` if the artifact falls by more than that below its model."""
    if not accuracy.drop_points <= max_drop_points + 1e-9:
        raise AccuracyError(
            f"{name} has a {accuracy.title} of {accuracy.score_percent:.2f} % on {accuracy.images} images, "
            f"{accuracy.drop_points:.2f} points below its model; allowed: {max_drop_points:g} (--max-drop). Other "
            "calibration images, --ranges mse or --keep-float may help; --debug names the layers with the largest error"
        )
