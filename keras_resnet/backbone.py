"""Image -> C1..C5: the stem and the residual stages, and models that yield feature maps."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_resnet import layer_names
from keras_resnet.blocks import basic_block, bottleneck_block, conv_bn, padded_shortcut, projection_shortcut
from keras_resnet.variants import Design, Variant

LEVELS = ("C2", "C3", "C4", "C5")  # outputs of stages 2 to 5, the paper's conv2_x to conv5_x


def resnet_backbone(x: Any, variant: Variant, output_stride: int) -> dict[str, Any]:
    """`[N, H, W, C]` -> `{"C2": [N, H/4, W/4, c], ..., "C5": [N, H/32, W/32, 8c]}`, c = 64 or 256 (bottleneck).

    "C1" is included: the stem before its pool, `[N, H/2, W/2, 64]`. A network for CIFAR yields
    `{"C1": [N, H, W, 16], "C2": [N, H, W, 16], "C3": [N, H/2, W/2, 32], "C4": [N, H/4, W/4, 64]}`. Once
    `output_stride` is reached, a stage multiplies its dilation where it would have multiplied its stride.
    """
    c1, x, total_stride = _stem(x, variant.design)
    block = basic_block if variant.block == "basic" else bottleneck_block
    shortcut = projection_shortcut if variant.design.shortcut == "projection" else padded_shortcut
    maps = {"C1": c1}
    dilation = 1
    for stage, blocks in enumerate(variant.blocks_per_stage, start=2):  # stage k yields level Ck
        stride, dilation_in = (1 if stage == 2 else 2), dilation
        if total_stride * stride > output_stride:
            stride, dilation = 1, dilation * stride
        total_stride *= stride
        for index in range(1, blocks + 1):
            x = block(
                x,
                filters=variant.design.filters * 2 ** (stage - 2),
                stride=stride if index == 1 else 1,
                dilation=dilation,
                dilation_in=dilation_in if index == 1 else dilation,
                shortcut=shortcut,
                name=layer_names.block(stage, index),
            )
        maps[f"C{stage}"] = x
    return maps


def _stem(x: Any, design: Design) -> tuple[Any, Any, int]:
    """`[N, H, W, C]` -> C1, input of the stages `[N, H / stride, W / stride, filters]`, and this stride."""
    if design.stem == "3x3":
        c1 = conv_bn(x, design.filters, 3, name=layer_names.STEM)
        return c1, c1, 1
    c1 = conv_bn(x, design.filters, 7, stride=2, name=layer_names.STEM)
    pool = layer_names.pool(layer_names.STEM)
    # Padding with zeros equals padding with -inf here, since ReLU leaves nothing below zero.
    x = layers.ZeroPadding2D(1, name=layer_names.pad(pool))(c1)
    return c1, layers.MaxPooling2D(3, strides=2, name=pool)(x), 4


def feature_maps(model: keras.Model, levels: Sequence[str] | None = None) -> keras.Model:
    """ResNet -> model with the same input and weights that yields `{level: [N, H/stride, W/stride, C]}`.

    Level Ck is the output of stage k. Its stride is 2^k, unless `output_stride` was lowered: 4, 8, 16 and 32 for C2 to
    C5. The networks for CIFAR have three stages, C2 to C4, of strides 1, 2 and 4.

    Args:
        model: A network of this package, with or without its head.
        levels: Any of the network's levels. Default: all of them.

    Raises:
        ValueError: An unknown level, no level, or a model that has no such stage.
    """
    if levels is not None and (
        not isinstance(levels, (tuple, list)) or not levels or any(level not in LEVELS for level in levels)
    ):
        raise ValueError(f"`levels` must be a non-empty sequence out of {LEVELS}. Received: levels={levels!r}")
    outputs = level_outputs(model)
    if not outputs:
        raise ValueError(
            "`model` must be a ResNet of this package, with layers named 'stage<k>_block<n>_out'. "
            f"Received: model={model.name!r} with layers {[layer.name for layer in model.layers][:5]}..."
        )
    missing = [level for level in levels or () if level not in outputs]
    if missing:
        raise ValueError(f"`levels` must be out of {tuple(outputs)} for {model.name!r}. Received: levels={levels!r}")
    chosen = {level: outputs[level] for level in levels or outputs}
    return keras.Model(model.input, chosen, name=f"{model.name}_feature_maps")


def level_outputs(model: keras.Model) -> dict[str, Any]:
    """Model -> output of each level that the model has: the output of the last block of the level's stage."""
    outputs: dict[str, Any] = {}
    for level in LEVELS:
        stage = layer_names.backbone_part(level)
        ends = [op for op in model.layers if layer_names.is_of(op.name, stage) and layer_names.is_out(op.name)]
        if ends:
            outputs[level] = ends[-1].output
    return outputs
