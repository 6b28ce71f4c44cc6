"""The anchors of a feature map: the boxes from which a detector's boxes are measured."""

from collections.abc import Sequence

import numpy as np

ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width


def anchors_of(size: float, map_sides: Sequence[int], frame_sides: Sequence[int]) -> np.ndarray:
    """Side of an anchor, height and width of a map and of the frame -> `[height * width * 3, 4]` float32.

    The order is by row, column and aspect ratio. The stride is the whole quotient of the sides, as in torchvision: a
    map of 13 rows in a frame of 800 has the stride 61, and not 64.
    """
    roots = np.sqrt(np.array(ASPECT_RATIOS, np.float32))
    heights, widths = roots * np.float32(size), (1 / roots) * np.float32(size)
    base = np.round(np.stack([-widths, -heights, widths, heights], axis=1) / 2)
    down, across = (frame // side for frame, side in zip(frame_sides, map_sides, strict=True))
    y, x = np.meshgrid(np.arange(map_sides[0]) * down, np.arange(map_sides[1]) * across, indexing="ij")
    corners = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4).astype(np.float32)
    return (corners + base).reshape(-1, 4)
