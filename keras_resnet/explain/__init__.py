"""What in an image speaks for an answer of a network, as heatmaps."""

from keras_resnet.explain.class_activation import grad_cam
from keras_resnet.explain.random_masks import ExplainedDetections, d_rise

__all__ = ["ExplainedDetections", "d_rise", "grad_cam"]
