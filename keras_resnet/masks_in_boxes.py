"""Masks of boxes -> masks of the whole image, in NumPy: the last step of instance segmentation, outside the network."""

from collections.abc import Iterator

import numpy as np

PADDING = 1  # positions around a mask, so that it can end between two of them


def paste_masks(masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[D, 28, 28]` probabilities, `[D, 4]` x1, y1, x2, y2 in an image -> `[D, height, width]` float32.

    It is torchvision's `paste_masks_in_image`. Pixels outside of a box are 0; a threshold of 0.5 gives the mask.
    """
    pasted = np.zeros((len(masks), height, width), np.float32)
    for image, (rows, columns, part) in zip(pasted, mask_parts(masks, boxes, height, width), strict=True):
        image[rows, columns] = part
    return pasted


def mask_parts(
    masks: np.ndarray, boxes: np.ndarray, height: int, width: int
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """As `paste_masks`, without the zeros: of each mask the rows and columns that it covers, and float32 of these."""
    masks, boxes = np.asarray(masks, np.float32), np.asarray(boxes, np.float32)
    side = masks.shape[-1]
    masks = np.pad(masks, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * np.float32((side + 2 * PADDING) / side)
    centres = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    edges = np.concatenate([centres - half, centres + half], axis=1).astype(np.int64)  # towards zero, as torchvision
    for mask, (x1, y1, x2, y2) in zip(masks, edges.tolist(), strict=True):
        top, left = min(max(y1, 0), height), min(max(x1, 0), width)
        bottom, right = max(min(y2 + 1, height), top), max(min(x2 + 1, width), left)
        rows = _weights(mask.shape[0], max(y2 - y1 + 1, 1))[top - y1 : bottom - y1]
        columns = _weights(mask.shape[1], max(x2 - x1 + 1, 1))[left - x1 : right - x1]
        yield slice(top, bottom), slice(left, right), rows @ mask @ columns.T


def _weights(source: int, target: int) -> np.ndarray:
    """Two numbers of positions -> `[target, source]`: the bilinear resize along one side, between centres of pixels."""
    place = np.maximum(np.float32(source / target) * (np.arange(target, dtype=np.float32) + 0.5) - 0.5, 0)
    low = np.minimum(place.astype(np.int64), source - 1)
    share = (place - low).astype(np.float32)
    weights = np.zeros((target, source), np.float32)
    positions = np.arange(target)
    np.add.at(weights, (positions, low), 1 - share)
    np.add.at(weights, (positions, np.minimum(low + 1, source - 1)), share)
    return weights


def masks_of_parts(masks: np.ndarray, boxes: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """`[D, 28, 28]` probabilities in boxes `[D, 4]`, parts of the boxes `[D, 4]` -> `[D, 28, 28]`, in the parts.

    Masks are resized bilinearly between the centres of their positions.
    """
    masks = np.asarray(masks, np.float32).copy()
    side = masks.shape[-1]
    centres = (np.arange(side) + 0.5) / side
    for place in np.flatnonzero((boxes != parts).any(axis=1)):
        (x1, y1, x2, y2), (left, top, right, bottom) = boxes[place].astype(float), parts[place].astype(float)
        columns = _tents((left + centres * (right - left) - x1) / (x2 - x1), side)
        rows = _tents((top + centres * (bottom - top) - y1) / (y2 - y1), side)
        masks[place] = rows @ masks[place] @ columns.T
    return masks


def _tents(places: np.ndarray, side: int) -> np.ndarray:
    """Places as shares of a side `[n]`, number of positions -> weights `[n, side]` of the two nearest positions."""
    at = np.clip(places * side - 0.5, 0, side - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(side))).astype(np.float32)
