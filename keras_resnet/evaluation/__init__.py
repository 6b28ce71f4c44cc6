"""Class probabilities and labels -> figures and pictures, of a model or of an artifact."""

from keras_resnet.evaluation.accuracy import (
    ClassAccuracy,
    class_accuracy,
    confusion_matrix,
    top1_agreement_percent,
    topk_accuracy_percent,
)
from keras_resnet.evaluation.calibration import Calibration, calibration

__all__ = [
    "Calibration",
    "ClassAccuracy",
    "calibration",
    "class_accuracy",
    "confusion_matrix",
    "top1_agreement_percent",
    "topk_accuracy_percent",
]
