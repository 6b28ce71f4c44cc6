"""Figures and pictures of a model or an artifact, from its answers and known labels or masks."""

from keras_resnet.evaluation.accuracy import (
    ClassAccuracy,
    class_accuracy,
    confusion_matrix,
    top1_agreement_percent,
    topk_accuracy_percent,
)
from keras_resnet.evaluation.calibration import Calibration, calibration
from keras_resnet.evaluation.segmentation import Segmentation, evaluate_segmentation, pixel_confusion

__all__ = [
    "Calibration",
    "ClassAccuracy",
    "Segmentation",
    "calibration",
    "class_accuracy",
    "confusion_matrix",
    "evaluate_segmentation",
    "pixel_confusion",
    "top1_agreement_percent",
    "topk_accuracy_percent",
]
