"""BatchNorm in training as one operation of TensorFlow, with the values of Keras' layer.

On TensorFlow, Keras computes the moments and the normalisation by a dozen operations, in float32. They read and write
each feature map about ten times, and under a 16-bit policy they convert it as well. `FusedBatchNormV3` is one operation
of oneDNN or cuDNN, and so is its gradient. It reads and writes the 16-bit map and computes in float32. Other backends
compile Keras' operations into few loops, and keep them.
"""

import functools
import math
from typing import Any

import keras
from keras import layers, ops

FUSED_DTYPES = ("float16", "bfloat16", "float32")


def fuse_batch_norm(model: keras.Model) -> keras.Model:
    """Keras model -> the model, whose BatchNorm layers train by one operation each if the backend is TensorFlow.

    The layers stay Keras' own `BatchNormalization`: only the attribute `call` of each object changes. Files,
    configurations and copies of the model therefore name Keras' class, and open without this package. A copy is not
    fused, and computes the values slower. A model that has already trained a step keeps the function that this step
    traced.
    """
    if keras.backend.backend() == "tensorflow":
        for layer in model.layers:
            if type(layer) is layers.BatchNormalization:
                layer.call = functools.partial(_call, layer)
    return model


def _call(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """As `BatchNormalization.call`, which computes all but an ordinary step of training on feature maps."""
    is_plain = not layer.renorm and not layer.synchronized and mask is None
    is_map = len(inputs.shape) == 4 and layer.axis in (-1, 3)
    is_fused = training and layer.trainable and is_plain and is_map
    if not is_fused or keras.backend.standardize_dtype(inputs.dtype) not in FUSED_DTYPES:
        return layers.BatchNormalization.call(layer, inputs, training=training, mask=mask)
    import tensorflow as tf

    channels = inputs.shape[-1]
    unused = tf.zeros([0])  # the operation would update moving statistics, but with another variance than Keras
    # Not `tf.compat.v1.nn.fused_batch_norm`, which raises an epsilon of 1e-5 to 1.001e-5 for an old cuDNN.
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=ops.cast(layer.gamma, "float32") if layer.scale else tf.ones([channels]),
        offset=ops.cast(layer.beta, "float32") if layer.center else tf.zeros([channels]),
        mean=unused,
        variance=unused,
        epsilon=layer.epsilon,
        exponential_avg_factor=1.0,
        data_format="NHWC",
        is_training=True,
    )
    # The operation returns the variance of the population, estimated by n - 1. Keras' moving variance is by n.
    values = ops.cast(math.prod(ops.shape(inputs)[:-1]), "float32")
    _move(layer.moving_mean, mean, layer.momentum)
    _move(layer.moving_variance, variance * ((values - 1) / values), layer.momentum)
    return ops.cast(outputs, layer.compute_dtype)


def _move(average: Any, value: Any, momentum: float) -> None:
    average.assign(ops.cast(average, "float32") * momentum + value * (1.0 - momentum))
