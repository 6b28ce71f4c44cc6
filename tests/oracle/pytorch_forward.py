"""A ResNet v1.5 in `torch.nn.functional`, straight from a state dict with torchvision's names.

The weights alone say what there is to compute: how many stages there are, how many blocks a stage has, how many
convolutions a block has, where a shortcut is projected, and, by the size of the first kernel, whether the network is
one for CIFAR.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@torch.inference_mode()
def forward(state: Mapping[str, np.ndarray], pixels: np.ndarray, output_stride: int = 32) -> dict[str, np.ndarray]:
    """State dict, uint8 `[N, H, W, 3]` -> `{"logits": [N, classes], "C2": [N, H/4, W/4, c], ..., "C5": ...}`.

    A network for CIFAR has no C5, and strides of 1, 2 and 4.

    Where a stage would pass `output_stride`, its stride becomes dilation: torchvision's
    `replace_stride_with_dilation` for bottlenecks, and timm's `output_stride` for both kinds of block.
    """
    weights = tensors(state)
    maps = levels(weights, pixels, output_stride)
    head = "linear" if "linear.weight" in weights else "fc"
    last = maps[max(maps)].mean((2, 3))
    results = {level: channels_last(x) for level, x in maps.items() if level != "C1"}
    return results | {"logits": F.linear(last, weights[f"{head}.weight"], weights[f"{head}.bias"]).numpy()}


def tensors(state: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """State dict of arrays -> the same of tensors."""
    return {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}


def channels_last(x: torch.Tensor) -> np.ndarray:
    """`[N, C, H, W]` -> array `[N, H, W, C]`."""
    return x.permute(0, 2, 3, 1).numpy()


def levels(weights: Mapping[str, torch.Tensor], pixels: np.ndarray, output_stride: int) -> dict[str, torch.Tensor]:
    """State dict, uint8 `[N, H, W, 3]` -> `{"C1": [N, 64, H/2, W/2], ..., "C5": ...}`; C1 comes before the pool."""

    def unit(x: torch.Tensor, conv: str, bn: str, stride: int = 1, dilation: int = 1) -> torch.Tensor:
        kernel = weights[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=dilation * (kernel.shape[-1] // 2), dilation=dilation)
        mean, variance = weights[f"{bn}.running_mean"], weights[f"{bn}.running_var"]
        return F.batch_norm(x, mean, variance, weights[f"{bn}.weight"], weights[f"{bn}.bias"], training=False, eps=1e-5)

    def block(x: torch.Tensor, name: str, stride: int, first_dilation: int, dilation: int) -> torch.Tensor:
        shortcut = x
        if f"{name}.downsample.0.weight" in weights:
            shortcut = unit(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
        if f"{name}.conv3.weight" in weights:
            y = F.relu(unit(x, f"{name}.conv1", f"{name}.bn1"))
            y = F.relu(unit(y, f"{name}.conv2", f"{name}.bn2", stride, first_dilation))
            y = unit(y, f"{name}.conv3", f"{name}.bn3")
        else:
            y = F.relu(unit(x, f"{name}.conv1", f"{name}.bn1", stride, first_dilation))
            y = unit(y, f"{name}.conv2", f"{name}.bn2", 1, dilation)
        if shortcut.shape != y.shape:  # akamaster's option A: every second pixel, a quarter of zeros on either side
            quarter = y.shape[1] // 4
            shortcut = F.pad(shortcut[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        return F.relu(y + shortcut)

    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(MEAN).reshape(1, 3, 1, 1)) / torch.tensor(STD).reshape(1, 3, 1, 1)
    cifar = weights["conv1.weight"].shape[-1] == 3
    x = F.relu(unit(x, "conv1", "bn1", stride=1 if cifar else 2))
    results = {"C1": x}
    if not cifar:
        x = F.max_pool2d(x, 3, stride=2, padding=1)

    total_stride, dilation = (1 if cifar else 4), 1
    for stage in range(1, 4 if cifar else 5):
        stride, first_dilation = (1 if stage == 1 else 2), dilation
        if total_stride * stride > output_stride:
            dilation *= stride
            stride = 1
        total_stride *= stride
        index = 0
        while f"layer{stage}.{index}.conv1.weight" in weights:
            first = index == 0
            x = block(
                x, f"layer{stage}.{index}", stride if first else 1, first_dilation if first else dilation, dilation
            )
            index += 1
        results[f"C{stage + 1}"] = x
    return results
