"""Tensor -> tensor: the convolution unit, shortcuts and residual blocks of He et al. 2015 (arXiv 1512.03385)."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import keras
from keras import layers

from keras_resnet import layer_names

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9  # 1 - momentum is torchvision's 0.1

_values_follow = ContextVar("values_follow", default=False)

Shortcut = Callable[[Any, int, int, str], Any]  # block's input, output channels, stride, block's name -> shortcut


@contextlib.contextmanager
def values_follow(follow: bool) -> Iterator[None]:
    """While active with `follow`, kernels start as zeros: a file will overwrite them, and random values cost time."""
    token = _values_follow.set(follow)
    try:
        yield
    finally:
        _values_follow.reset(token)


def with_kernel(layer: Any, x: Any) -> Any:
    """Layer that is not built yet, tensor -> its output. The kernel is random, or zeros if a file will overwrite it."""
    initializer = layer.kernel_initializer
    if _values_follow.get():
        layer.kernel_initializer = keras.initializers.Zeros()
    y = layer(x)
    layer.kernel_initializer = initializer  # the layer's configuration keeps the real initializer
    return y


def conv_bn(
    x: Any,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    stride: int = 1,
    dilation: int = 1,
    relu: bool = True,
    zero_scale: bool = False,
) -> Any:
    """`[N, H, W, C]` -> `[N, ceil(H / stride), ceil(W / stride), filters]`: convolution, BatchNorm, ReLU if `relu`.

    `zero_scale` starts the BatchNorm scale at zero, so that a residual branch that ends here starts silent.
    """
    if stride > 1 and kernel_size > 1:
        # padding="same" is asymmetric at stride 2; the published weights were trained with symmetric padding.
        x = layers.ZeroPadding2D((kernel_size - 1) // 2, name=layer_names.pad(name))(x)
        padding = "valid"
    else:
        padding = "same"
    convolution = layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        dilation_rate=dilation,
        padding=padding,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal"),
        name=layer_names.conv(name),
    )
    x = with_kernel(convolution, x)
    x = layers.BatchNormalization(
        epsilon=BATCH_NORM_EPSILON,
        momentum=BATCH_NORM_MOMENTUM,
        gamma_initializer="zeros" if zero_scale else "ones",
        name=layer_names.bn(name),
    )(x)
    return layers.ReLU(name=layer_names.relu(name))(x) if relu else x


def projection_shortcut(x: Any, filters: int, stride: int, name: str) -> Any:
    """`[N, H, W, C]` -> `[N, ceil(H / stride), ceil(W / stride), filters]`: identity, or a 1x1 convolution.

    Option B of the paper: the convolution is used only if the shape changes.
    """
    if stride == 1 and x.shape[-1] == filters:
        return x
    return conv_bn(x, filters, 1, stride=stride, relu=False, name=layer_names.shortcut(name))


def padded_shortcut(x: Any, filters: int, stride: int, name: str) -> Any:
    """`[N, H, W, C]` -> `[N, ceil(H / stride), ceil(W / stride), filters]`: identity, or pixels and zeros.

    Option A of the paper: if the shape changes, the shortcut takes every `stride`-th pixel and adds channels of zeros,
    half before and half after the old channels, as in akamaster/pytorch_resnet_cifar10.
    """
    channels = x.shape[-1]
    if stride == 1 and channels == filters:
        return x
    # Pooling over one pixel is a strided slice, and padding with "channels first" pads the last two axes. Every format
    # and backend supports these two layers.
    name = layer_names.shortcut(name)
    x = layers.MaxPooling2D(1, strides=stride, name=layer_names.pool(name))(x)
    before = (filters - channels) // 2
    padding = ((0, 0), (before, filters - channels - before))
    return layers.ZeroPadding2D(padding, data_format="channels_first", name=layer_names.pad(name))(x)


def basic_block(
    x: Any,
    filters: int,
    *,
    name: str,
    stride: int = 1,
    dilation: int = 1,
    dilation_in: int = 1,
    shortcut: Shortcut = projection_shortcut,
) -> Any:
    """`[N, H, W, C]` -> `[N, H / stride, W / stride, filters]`: two 3x3 convolutions and a shortcut.

    `dilation_in` is the dilation of the first convolution: a stage that dilates instead of striding reads its input
    at the previous stage's dilation, as torchvision and timm do.
    """
    identity = shortcut(x, filters, stride, name)
    y = conv_bn(x, filters, 3, stride=stride, dilation=dilation_in, name=layer_names.numbered(name, 1))
    y = conv_bn(y, filters, 3, dilation=dilation, relu=False, zero_scale=True, name=layer_names.numbered(name, 2))
    return _join(y, identity, name)


def bottleneck_block(
    x: Any,
    filters: int,
    *,
    name: str,
    stride: int = 1,
    dilation: int = 1,
    dilation_in: int = 1,
    shortcut: Shortcut = projection_shortcut,
) -> Any:
    """`[N, H, W, C]` -> `[N, H / stride, W / stride, 4 * filters]`: 1x1, 3x3, 1x1 convolutions and a shortcut.

    The stride sits on the 3x3 convolution ("v1.5"), as in torchvision. `dilation_in` is its dilation in the first
    block of a stage. `dilation` is the dilation in the stage's later blocks, and unused here.
    """
    identity = shortcut(x, 4 * filters, stride, name)
    y = conv_bn(x, filters, 1, name=layer_names.numbered(name, 1))
    y = conv_bn(y, filters, 3, stride=stride, dilation=dilation_in, name=layer_names.numbered(name, 2))
    y = conv_bn(y, 4 * filters, 1, relu=False, zero_scale=True, name=layer_names.numbered(name, 3))
    return _join(y, identity, name)


def _join(y: Any, identity: Any, name: str) -> Any:
    return layers.ReLU(name=layer_names.out(name))(layers.Add(name=layer_names.add(name))([y, identity]))
