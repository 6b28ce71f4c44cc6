"""Image -> C2..C5: the stem and four residual stages, and the view of a model as its feature maps."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_resnet.blocks import basic_block, bottleneck_block, conv_bn
from keras_resnet.variants import Variant

LEVELS = ("C2", "C3", "C4", "C5")  # level Ck has stride 2^k, unless the output stride is lowered
OUTPUT_STRIDES = (8, 16, 32)


def resnet_backbone(x: Any, variant: Variant, output_stride: int = 32) -> dict[str, Any]:
    """`[N, H, W, C]` -> `{"C2": [N, H/4, W/4, c], ..., "C5": [N, H/32, W/32, 8c]}`, c = 64 or 256 (bottleneck).

    Once `output_stride` is reached, a stage multiplies its dilation where it would have multiplied its stride.
    """
    x = conv_bn(x, 64, 7, stride=2, name="stem")
    # Padding with zeros equals padding with -inf here, since ReLU leaves nothing below zero.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)

    block = basic_block if variant.block == "basic" else bottleneck_block
    maps = {}
    total_stride, dilation = 4, 1
    for stage, blocks in enumerate(variant.blocks_per_stage, start=2):  # stage k yields level Ck
        stride, dilation_in = (1 if stage == 2 else 2), dilation
        if total_stride * stride > output_stride:
            stride, dilation = 1, dilation * stride
        total_stride *= stride
        for index in range(1, blocks + 1):
            x = block(
                x,
                filters=64 * 2 ** (stage - 2),
                stride=stride if index == 1 else 1,
                dilation=dilation,
                dilation_in=dilation_in if index == 1 else dilation,
                name=f"stage{stage}_block{index}",
            )
        maps[f"C{stage}"] = x
    return maps


def feature_maps(model: keras.Model, levels: Sequence[str] = LEVELS) -> keras.Model:
    """ResNet -> model with the same input and weights that yields `{level: [N, H/stride, W/stride, C]}`.

    Args:
        model: A network of this package, with or without its head.
        levels: Any of `"C2", "C3", "C4", "C5"`.

    Raises:
        ValueError: An unknown level, no level, or a model that has no such stage.
    """
    if not isinstance(levels, (tuple, list)) or not levels or any(level not in LEVELS for level in levels):
        raise ValueError(f"`levels` must be a non-empty sequence out of {LEVELS}. Received: levels={levels!r}")
    outputs = {}
    for level in levels:
        block_outputs = [
            layer.output
            for layer in model.layers
            if layer.name.startswith(f"stage{level[1]}_block") and layer.name.endswith("_out")
        ]
        if not block_outputs:
            raise ValueError(
                f"`model` must be a ResNet of this package, with layers named 'stage{level[1]}_block<n>_out' for level "
                f"{level}. Received: model={model.name!r} with layers {[layer.name for layer in model.layers][:5]}..."
            )
        outputs[level] = block_outputs[-1]
    return keras.Model(model.input, outputs, name=f"{model.name}_feature_maps")
