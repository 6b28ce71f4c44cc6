"""Gradients on the backend of this process, which Keras has no function for."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def gradients(function: Callable[[list[Any]], dict[str, Any]], at: list[np.ndarray]) -> tuple[dict[str, float], list]:
    """Function from tensors to named losses, arrays -> the losses, and the gradients of their sum."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(x) for x in at]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            losses = function(tensors)
            total = sum(losses.values())
        found = tape.gradient(total, tensors)
    elif keras.backend.backend() == "jax":
        import jax

        def total_of(tensors: list[Any]) -> Any:
            losses = function(tensors)
            return sum(losses.values()), losses

        (_, losses), found = jax.value_and_grad(total_of, has_aux=True)([jax.numpy.asarray(x) for x in at])
    else:
        import torch

        tensors = [torch.tensor(x, requires_grad=True) for x in at]
        losses = function(tensors)
        found = torch.autograd.grad(sum(losses.values()), tensors)
        losses = {name: loss.detach() for name, loss in losses.items()}
    return {name: float(loss) for name, loss in losses.items()}, [np.asarray(x) for x in found]
