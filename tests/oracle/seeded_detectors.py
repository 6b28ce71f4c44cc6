"""Names and shapes of a detector's tensors -> seeded values, and the images of its references, from NumPy alone."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from oracle.seeded import _random


class Case(NamedTuple):
    """One network against torchvision's, and the arguments that both get."""

    function: str  # "FasterRCNN" or "MaskRCNN"
    version: str
    backbone: str
    outputs: int  # classes with the background
    min_size: int
    max_size: int
    channels: int
    units: int
    anchor_sizes: tuple[int, ...]
    proposals: int
    sizes: tuple[tuple[int, int], ...]  # height and width of the images of the batch
    earlier_names: bool = False  # whether the file has torchvision's earlier names


NARROW = (16, 32, (12, 24, 48, 64, 96), 60)
FULL = (256, 1024, (32, 64, 128, 256, 512), 300)
SIZES = ((64, 96), (90, 51))  # one wide, one tall; neither keeps its size
CASES = {
    "fasterrcnn_v1": Case("FasterRCNN", "v1", "resnet18", 4, 72, 128, *NARROW, SIZES, earlier_names=True),
    "fasterrcnn_v2": Case("FasterRCNN", "v2", "resnet18", 91, 72, 128, *NARROW, SIZES),
    "maskrcnn_v1": Case("MaskRCNN", "v1", "resnet18", 8, 72, 128, *NARROW, SIZES, earlier_names=True),
    "maskrcnn_v2": Case("MaskRCNN", "v2", "resnet18", 5, 72, 128, *NARROW, SIZES),
    "fasterrcnn_v1_full": Case("FasterRCNN", "v1", "resnet50", 91, 256, 352, *FULL, ((180, 240), (256, 200))),
    "fasterrcnn_v2_full": Case("FasterRCNN", "v2", "resnet50", 91, 256, 352, *FULL, ((180, 240), (256, 200))),
    "maskrcnn_v1_full": Case(
        "MaskRCNN", "v1", "resnet50", 91, 256, 352, *FULL, ((180, 240), (256, 200)), earlier_names=True
    ),
    "maskrcnn_v2_full": Case("MaskRCNN", "v2", "resnet50", 8, 256, 352, *FULL, ((180, 240), (256, 200))),
}
_GAINS = {  # by which the bound of a kernel is multiplied, so that scores spread over 0..1 and boxes move
    r"rpn\.head\.cls_logits": 1.0,
    r"rpn\.head\.bbox_pred": 0.15,
    r"roi_heads\.box_predictor\.cls_score": 3.0,
    r"roi_heads\.box_predictor\.bbox_pred": 1.0,
    r"roi_heads\.mask_predictor\.mask_fcn_logits": 8.0,
}


def detector_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Names and shapes -> values, BatchNorm far from its initial state."""
    return {name: _values(name, tuple(shape)) for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    random = _random(name)
    if name.endswith("num_batches_tracked"):
        return np.array(1000, dtype=np.int64)
    if name.endswith("running_var"):
        return random.uniform(0.5, 2.0, shape).astype(np.float32)
    if len(shape) == 1:
        is_scale = name.endswith("weight")
        last = re.search(r"body\.layer\d\.\d+\.bn(\d)\.", name)
        # The last scale of a branch is small, so that the blocks on top of each other stay bounded.
        low, high = ((0.2, 0.5) if last and last[1] != "1" else (0.7, 1.3)) if is_scale else (-0.3, 0.3)
        return random.uniform(low, high, shape).astype(np.float32)
    in_body = ".body." in name
    bound = np.sqrt((6 if in_body else 3) / np.prod(shape[1:]))
    gain = next((gain for pattern, gain in _GAINS.items() if re.match(pattern, name)), 1.0)
    return random.uniform(-gain * bound, gain * bound, shape).astype(np.float32)


def images(sizes: tuple[tuple[int, int], ...]) -> list[np.ndarray]:
    """Sizes -> smooth pictures, uint8 `[height, width, 3]` each."""
    found = []
    for index, (height, width) in enumerate(sizes):
        random = _random(f"picture {index}")
        y, x = np.meshgrid(np.arange(height) / 64, np.arange(width) / 64, indexing="ij")
        waves = sum(
            random.uniform(10, 40, 3)
            * np.sin(
                y[..., None] * random.uniform(2, 40) + x[..., None] * random.uniform(2, 40) + random.uniform(0, 6, 3)
            )
            for _ in range(6)
        )
        found.append(np.clip(128 + waves, 0, 255).astype(np.uint8))
    return found
