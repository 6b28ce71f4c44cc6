"""Levels of a backbone -> feature pyramid -> answers about anchors; parts of the pyramid -> answers about boxes.

The parts are torchvision's (Lin et al. 2016, arXiv 1612.03144; Ren et al. 2015, arXiv 1506.01497; He et al. 2017, arXiv
1703.06870). Answers are computed in float32 under every dtype policy.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers
from keras.initializers import RandomNormal, VarianceScaling

from keras_resnet import layer_names
from keras_resnet.blocks import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, with_kernel
from keras_resnet.detection_layers.anchors import ASPECT_RATIOS
from keras_resnet.heads.logits import logits_initializer
from keras_resnet.variants import Detector

LEVELS = (2, 3, 4, 5)  # levels that the pyramid reads


def feature_pyramid(levels: Mapping[str, Any], detector: Detector, channels: int) -> list[Any]:
    """C2 to C5 -> P2 to P5 `[N, h, w, channels]`, and every second pixel of P5."""
    initializer = VarianceScaling(1.0, mode="fan_in", distribution="uniform")

    def unit(x: Any, size: int, name: str) -> Any:
        return _unit(x, channels, size, name, initializer, detector.has_batch_norm, relu=False)

    sums: dict[int, Any] = {}
    for level in reversed(LEVELS):
        x = unit(levels[f"C{level}"], 1, layer_names.lateral(level))
        if sums:
            owner = layer_names.lateral(level)
            above = layers.UpSampling2D(2, interpolation="nearest", name=layer_names.upsample(owner))(sums[level + 1])
            x = layers.Add(name=layer_names.add(owner))([x, above])
        sums[level] = x
    maps = [unit(sums[level], 3, layer_names.output(level)) for level in LEVELS]
    return [*maps, layers.MaxPooling2D(1, strides=2, name=layer_names.pool(layer_names.FPN))(maps[-1])]


def region_proposals(maps: Sequence[Any], detector: Detector, channels: int) -> tuple[list[Any], list[Any]]:
    """Maps -> logits `[N, h, w, 3]` and deltas `[N, h, w, 12]` of the anchors, for each map; all maps share layers."""
    anchors = len(ASPECT_RATIOS)
    layers_of_all: list[Any] = []
    for i in range(detector.rpn_convolutions):
        unit = layer_names.numbered(layer_names.RPN, i + 1)
        layers_of_all.append(_shared(layers.Conv2D(channels, 3, padding="same", **_rpn(layer_names.conv(unit)))))
        layers_of_all.append(layers.ReLU(name=layer_names.relu(unit)))
    logits_of = _shared(layers.Conv2D(anchors, 1, dtype="float32", **_rpn(layer_names.RPN_LOGITS)))
    deltas_of = _shared(layers.Conv2D(4 * anchors, 1, dtype="float32", **_rpn(layer_names.RPN_DELTAS)))
    logits, deltas = [], []
    for x in maps:
        for layer in layers_of_all:
            x = layer(x)
        logits.append(logits_of(x))
        deltas.append(deltas_of(x))
    return logits, deltas


def box_head(x: Any, detector: Detector, classes: int, channels: int, units: int) -> tuple[Any, Any]:
    """`[R, 7, 7, C]` -> logits `[R, 1 + classes]`, deltas `[R, 4 * (1 + classes)]`; class 0 is the background."""
    x = _convolutions(x, detector.box_convolutions, channels, layer_names.BOX, detector.has_batch_norm)
    x = layers.Flatten(name=layer_names.BOX_FLATTEN)(x)
    for i in range(detector.box_dense_layers):
        unit = layer_names.numbered(layer_names.BOX, detector.box_convolutions + i + 1)
        x = _dense(x, units, layer_names.dense(unit))
        x = layers.ReLU(name=layer_names.relu(unit))(x)
    outputs = 1 + classes
    logits = _dense(x, outputs, layer_names.BOX_LOGITS, dtype="float32")
    return logits, _dense(x, 4 * outputs, layer_names.BOX_DELTAS, dtype="float32")


def mask_head(x: Any, detector: Detector, classes: int, channels: int) -> Any:
    """`[R, 14, 14, C]` -> logits `[R, 28, 28, 1 + classes]`."""
    x = _convolutions(x, detector.mask_convolutions, channels, layer_names.MASK, detector.has_batch_norm)
    initializer = _he_fan_out()
    name = layer_names.MASK_UPSAMPLE
    x = with_kernel(layers.Conv2DTranspose(channels, 2, strides=2, kernel_initializer=initializer, name=name), x)
    x = layers.ReLU(name=layer_names.relu(name))(x)
    logits = layers.Conv2D(
        1 + classes, 1, kernel_initializer=initializer, name=layer_names.MASK_LOGITS, dtype="float32"
    )
    return with_kernel(logits, x)


def _convolutions(x: Any, count: int, channels: int, owner: str, has_batch_norm: bool) -> Any:
    for i in range(count):
        x = _unit(x, channels, 3, layer_names.numbered(owner, i + 1), _he_fan_out(), has_batch_norm)
    return x


def _unit(x: Any, filters: int, size: int, name: str, initializer: Any, has_batch_norm: bool, relu: bool = True) -> Any:
    """`[N, H, W, C]` -> `[N, H, W, filters]`: convolution, BatchNorm or a bias, ReLU if `relu`."""
    convolution = layers.Conv2D(
        filters,
        size,
        padding="same",
        use_bias=not has_batch_norm,
        kernel_initializer=initializer,
        name=layer_names.conv(name),
    )
    x = with_kernel(convolution, x)
    if has_batch_norm:
        name_of_bn = layer_names.bn(name)
        x = layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name_of_bn)(x)
    return layers.ReLU(name=layer_names.relu(name))(x) if relu else x


def _dense(x: Any, units: int, name: str, dtype: str | None = None) -> Any:
    """As PyTorch begins linear layers: the bias is drawn as the kernel is."""
    bound = x.shape[-1] ** -0.5
    bias = keras.initializers.RandomUniform(-bound, bound)
    layer = layers.Dense(units, kernel_initializer=logits_initializer(), bias_initializer=bias, name=name, dtype=dtype)
    return with_kernel(layer, x)


def _rpn(name: str) -> dict[str, Any]:
    return {"kernel_initializer": RandomNormal(stddev=0.01), "name": name}


def _shared(layer: Any) -> Any:
    """Layer -> function that calls it; only the first call builds it."""
    return lambda x: layer(x) if layer.built else with_kernel(layer, x)


def _he_fan_out() -> Any:
    return VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
