"""What in an image speaks for an answer of a network, as heatmaps."""

from keras_resnet.explain.d_rise import ExplainedDetections, d_rise
from keras_resnet.explain.grad_cam import grad_cam

__all__ = ["ExplainedDetections", "d_rise", "grad_cam"]
