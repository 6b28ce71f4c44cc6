"""Levels of a backbone -> class probabilities or logits of every pixel."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from keras import layers

from keras_resnet import layer_names
from keras_resnet.blocks import conv_bn, with_kernel
from keras_resnet.heads.logits import logits_initializer
from keras_resnet.resize import ResizeLike

Levels = Mapping[str, Any]  # {"C1": [N, H/2, W/2, c], ..., "C5": ...}
Decoder = Callable[[Levels, int], Any]  # levels, output stride -> feature map whose positions are classified

UNET_CHANNELS = {4: 256, 3: 128, 2: 64, 1: 32}  # channels of the decoder, by level of the skip connection


def segmentation_head(x: Any, image: Any, classes: int, activation: str | None, name: str = "") -> Any:
    """`[N, h, w, C]`, image `[N, H, W, D]` -> `[N, H, W, classes]` float32: 1x1 convolution, resize, activation.

    The head computes in float32 under every dtype policy, like the head of a classifier.
    """
    named = partial(layer_names.of_head, head=name)
    initializer = logits_initializer()
    logits = layers.Conv2D(classes, 1, kernel_initializer=initializer, name=named(layer_names.LOGITS), dtype="float32")
    x = with_kernel(logits, x)
    x = ResizeLike(name=named(layer_names.UPSAMPLE), dtype="float32")([x, image])
    if activation is None:
        return x
    return layers.Activation(activation, name=named(layer_names.PROBABILITIES), dtype="float32")(x)


def auxiliary_head(levels: Levels, image: Any, classes: int, activation: str | None) -> Any:
    """Levels, image `[N, H, W, D]` -> `[N, H, W, classes]` float32: an FCN head on C4, for a second loss."""
    name = layer_names.AUXILIARY
    return segmentation_head(_fcn(levels["C4"], name), image, classes, activation, name)


def _fcn_decoder(levels: Levels, output_stride: int) -> Any:
    """C5 `[N, h, w, C]` -> `[N, h, w, C / 4]`."""
    return _fcn(levels["C5"], layer_names.DECODER)


def _fcn(x: Any, name: str) -> Any:
    """`[N, h, w, C]` -> `[N, h, w, C / 4]`: torchvision's FCN head, up to its last convolution."""
    x = conv_bn(x, x.shape[-1] // 4, 3, name=name)
    return layers.Dropout(0.1, name=layer_names.dropout(name))(x)


def _deeplabv3_decoder(levels: Levels, output_stride: int) -> Any:
    """C5 `[N, h, w, C]` -> `[N, h, w, 256]`."""
    x = _aspp(levels["C5"], output_stride, dropout=0.5)
    return conv_bn(x, 256, 3, name=layer_names.DECODER)


def _aspp(c5: Any, output_stride: int, dropout: float) -> Any:
    """`[N, h, w, C]` -> `[N, h, w, 256]`: atrous spatial pyramid pooling (Chen et al. 2017, arXiv 1706.05587).

    The rates are 6, 12 and 18 at output stride 16, and twice as large at 8, as in the paper.
    """
    name = layer_names.ASPP
    branches = [conv_bn(c5, 256, 1, name=layer_names.numbered(name, 1))]
    for index, rate in enumerate((12, 24, 36), start=2):
        dilation = rate * 8 // output_stride
        branches.append(conv_bn(c5, 256, 3, dilation=dilation, name=layer_names.numbered(name, index)))
    pool = layers.GlobalAveragePooling2D(keepdims=True, name=layer_names.pool(name), dtype="float32")
    last = layer_names.numbered(name, 5)
    pooled = conv_bn(pool(c5), 256, 1, name=last)  # [N, 1, 1, 256]
    branches.append(ResizeLike(name=layer_names.upsample(last))([pooled, c5]))
    x = layers.Concatenate(name=layer_names.concat(name))(branches)
    x = conv_bn(x, 256, 1, name=layer_names.ASPP_PROJECT)
    return layers.Dropout(dropout, name=layer_names.dropout(name))(x)


def _deeplabv3plus_decoder(levels: Levels, output_stride: int) -> Any:
    """C5, C2 `[N, H/4, W/4, c]` -> `[N, H/4, W/4, 256]`."""
    x = _aspp(levels["C5"], output_stride, dropout=0.1)  # dropout rate in the authors' code
    name = layer_names.DECODER
    low_level = conv_bn(levels["C2"], 48, 1, name=f"{name}_low_level")
    x = ResizeLike(name=layer_names.upsample(name))([x, low_level])
    x = layers.Concatenate(name=layer_names.concat(name))([x, low_level])
    x = conv_bn(x, 256, 3, name=layer_names.numbered(name, 1))
    return conv_bn(x, 256, 3, name=layer_names.numbered(name, 2))


def _unet_decoder(levels: Levels, output_stride: int) -> Any:
    """C5 to C1 -> `[N, H/2, W/2, 32]`.

    The decoder ends at stride 2, at the last skip connection: the encoder has no finer level, and two convolutions of
    16 channels at full resolution would take twice the memory of the previous two.
    """
    x = levels["C5"]
    for level, channels in UNET_CHANNELS.items():
        name, skip = f"{layer_names.DECODER}{level}", levels[f"C{level}"]
        x = ResizeLike(name=layer_names.upsample(name))([x, skip])
        x = layers.Concatenate(name=layer_names.concat(name))([x, skip])
        x = conv_bn(x, channels, 3, name=layer_names.numbered(name, 1))
        x = conv_bn(x, channels, 3, name=layer_names.numbered(name, 2))
    return x


DECODERS: Mapping[str, Decoder] = {
    "fcn": _fcn_decoder,
    "deeplabv3": _deeplabv3_decoder,
    "deeplabv3plus": _deeplabv3plus_decoder,
    "unet": _unet_decoder,
}
