"""Model -> multiply-accumulates of one image."""

import math

import keras


def multiply_accumulates(model: keras.Model) -> int:
    """Model, `channels_last`, of a fixed input shape -> multiplications of one image by kernels.

    Biases, normalisation, activations and pooling are not counted, as in torchvision's metadata.

    Raises:
        ValueError: Height or width is free, or a layer of another kind than these three has a kernel.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense):
            positions = layer.output.shape[1:-1]
            if None in positions:
                raise ValueError(f"`model` must have a fixed input shape. Received: {model.input_shape}")
            # Whatever the groups, each value of the kernel is used once at each position.
            total += math.prod(layer.kernel.shape) * math.prod(positions)
        elif any(len(variable.shape) > 1 for variable in layer.weights):
            raise ValueError(
                "`model` must have its kernels in Conv2D, DepthwiseConv2D and Dense layers. "
                f"Received: {layer.name}, a {type(layer).__name__}"
            )
    return total
