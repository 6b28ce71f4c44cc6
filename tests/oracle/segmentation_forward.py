"""Segmentation networks in `torch.nn.functional`.

FCN and DeepLabV3 come straight from a state dict with torchvision's names. torchvision lacks the other two: their
decoders are given as arrays by this package's layers and variables, "decoder_1_conv/kernel" say, in Keras' layout.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F

from oracle.pytorch_forward import channels_last, levels, tensors

Unit = Callable[..., torch.Tensor]  # input, name, dilation -> convolution, BatchNorm, ReLU


@torch.inference_mode()
def torchvision_forward(
    state: Mapping[str, np.ndarray], pixels: np.ndarray, output_stride: int = 8
) -> dict[str, np.ndarray]:
    """State dict, uint8 `[N, H, W, 3]` -> logits `{"logits": [N, H, W, classes], "auxiliary": the same}`."""
    weights = tensors(state)
    maps = levels(_below("backbone.", weights), pixels, output_stride)

    def unit(x: torch.Tensor, name: str, dilation: int = 1) -> torch.Tensor:
        module, _, index = name.rpartition(".")
        bn = _below(f"{module}.{int(index) + 1}.", weights)
        return _unit(x, weights[f"{name}.weight"], dilation, **{key: bn[key] for key in _STATISTICS})

    x = maps["C5"]
    if "classifier.0.project.0.weight" in weights:
        branches = ("convs.0.0", "convs.1.0", "convs.2.0", "convs.3.0", "convs.4.1", "project.0")
        x = unit(_aspp(x, [f"classifier.0.{name}" for name in branches], unit, output_stride), "classifier.1")
    else:
        x = unit(x, "classifier.0")
    auxiliary = unit(maps["C4"], "aux_classifier.0")
    return {
        "logits": _classify(x, weights["classifier.4.weight"], weights["classifier.4.bias"], pixels),
        "auxiliary": _classify(auxiliary, weights["aux_classifier.4.weight"], weights["aux_classifier.4.bias"], pixels),
    }


@torch.inference_mode()
def deeplabv3plus_forward(
    backbone: Mapping[str, np.ndarray], decoder: Mapping[str, np.ndarray], pixels: np.ndarray, output_stride: int
) -> np.ndarray:
    """State dict of the classifier, decoder, uint8 `[N, H, W, 3]` -> logits `[N, H, W, classes]`."""
    maps, unit, head = levels(tensors(backbone), pixels, output_stride), *_keras_parts(decoder)
    branches = ("aspp_1", "aspp_2", "aspp_3", "aspp_4", "aspp_5", "aspp_project")
    x = _aspp(maps["C5"], branches, unit, output_stride)
    low_level = unit(maps["C2"], "decoder_low_level")
    x = torch.cat([_resize(x, low_level.shape[2:]), low_level], 1)
    return _classify(unit(unit(x, "decoder_1"), "decoder_2"), *head, pixels)


@torch.inference_mode()
def unet_forward(
    backbone: Mapping[str, np.ndarray], decoder: Mapping[str, np.ndarray], pixels: np.ndarray
) -> np.ndarray:
    """State dict of the classifier, decoder, uint8 `[N, H, W, 3]` -> logits `[N, H, W, classes]`."""
    maps, unit, head = levels(tensors(backbone), pixels, 32), *_keras_parts(decoder)
    x = maps["C5"]
    for level in (4, 3, 2, 1):
        skip = maps[f"C{level}"]
        x = torch.cat([_resize(x, skip.shape[2:]), skip], 1)
        x = unit(unit(x, f"decoder{level}_1"), f"decoder{level}_2")
    return _classify(x, *head, pixels)


_STATISTICS = ("running_mean", "running_var", "weight", "bias")
_KERAS_STATISTICS = ("moving_mean", "moving_variance", "gamma", "beta")


def _below(prefix: str, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _keras_parts(decoder: Mapping[str, np.ndarray]) -> tuple[Unit, tuple[torch.Tensor, torch.Tensor]]:
    """Decoder's arrays -> its units, and kernel and bias of its last convolution."""
    weights = {
        name: value.permute(3, 2, 0, 1) if value.ndim == 4 else value for name, value in tensors(decoder).items()
    }

    def unit(x: torch.Tensor, name: str, dilation: int = 1) -> torch.Tensor:
        names = zip(_STATISTICS, _KERAS_STATISTICS, strict=True)
        statistics = {theirs: weights[f"{name}_bn/{ours}"] for theirs, ours in names}
        return _unit(x, weights[f"{name}_conv/kernel"], dilation, **statistics)

    return unit, (weights["logits/kernel"], weights["logits/bias"])


def _unit(x: torch.Tensor, kernel: torch.Tensor, dilation: int, **statistics: torch.Tensor) -> torch.Tensor:
    x = F.conv2d(x, kernel, padding=dilation * (kernel.shape[-1] // 2), dilation=dilation)
    return F.relu(F.batch_norm(x, **statistics, training=False, eps=1e-5))


def _aspp(c5: torch.Tensor, names: list[str] | tuple[str, ...], unit: Unit, output_stride: int) -> torch.Tensor:
    one, *atrous, pooling, project = names
    rates = {8: (12, 24, 36), 16: (6, 12, 18)}[output_stride]
    branches = [unit(c5, one), *(unit(c5, name, rate) for name, rate in zip(atrous, rates, strict=True))]
    pooled = unit(F.adaptive_avg_pool2d(c5, 1), pooling)
    return unit(torch.cat([*branches, _resize(pooled, c5.shape[2:])], 1), project)


def _resize(x: torch.Tensor, size: torch.Size | tuple[int, ...]) -> torch.Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _classify(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor, pixels: np.ndarray) -> np.ndarray:
    return channels_last(_resize(F.conv2d(x, kernel, bias), pixels.shape[1:3]))
