"""Hashes of images -> images of one set that are copies of another set's images, in the same file or a changed one."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from keras_resnet.data.base import Source
from keras_resnet.errors import ImageError
from keras_resnet.optional import require

# Measured on parts of photographs: of copies with JPEG quality 30 to 75, half the size or other proportions, 98 % or
# more are within 3 bits, with a correlation above 0.98. Of 1.6 million pairs of different handwritten digits, none is.
MOST_BITS = 3
LEAST_CORRELATION = 0.98
BANDS = MOST_BITS + 1  # if two hashes differ in so few bits, one band of their bits is equal
BAND_BITS = 64 // BANDS
SMALL = 64  # pixels of the short side to which images are shrunk before they are hashed
THUMBNAIL = 32  # pixels
LEAST_CONTRAST = 4.0  # standard deviation of pixels below which an image is too flat to be compared
PAIRS_IN_TURN = 1 << 22


def hash_of_view(pixels: np.ndarray) -> int:
    """uint8 RGB `[H, W, 3]` -> perceptual hash of 64 bits: similar images differ in few bits.

    Raises:
        MissingDependencyError: imagehash is not installed.
    """
    image = Image.fromarray(pixels)
    image = image.reduce(max(1, min(image.size) // SMALL))  # the hash is of 32 x 32 pixels, and shrinking is its cost
    return int.from_bytes(np.packbits(require("imagehash", "check").phash(image).hash).tobytes())


def equal_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hashes `[n]`, hashes `[m]` -> the place in `first` of each hash of `second`, and its own place, `[pairs, 2]`."""
    values, places = np.unique(first, return_index=True)
    found = np.flatnonzero(np.isin(second, values))
    return np.stack([places[np.searchsorted(values, second[found])], found], axis=1)


def near_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """uint64 hashes `[n]`, hashes `[m]` -> places of the pairs with the fewest different bits, `[pairs, 2]`.

    A hash of `second` is in one pair if a hash of `first` differs from it in `MOST_BITS` bits or fewer. Hashes are
    compared only if a band of their bits is equal, so that the work grows with the number of images, not its square.
    """
    values, places = np.unique(first, return_index=True)
    best = np.full(len(second), MOST_BITS + 1)
    partner = np.zeros(len(second), np.int64)
    mask = np.uint64((1 << BAND_BITS) - 1)
    for band in range(BANDS):
        shift = np.uint64(band * BAND_BITS)
        keys, wanted = (values >> shift) & mask, (second >> shift) & mask
        order = np.argsort(keys, kind="stable")
        starts, ends = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
        counts = ends - starts
        begin = 0
        while begin < len(second):
            sums = np.cumsum(counts[begin:])
            end = begin + max(1, int(np.searchsorted(sums, PAIRS_IN_TURN, "right")))
            count = counts[begin:end]
            mine = np.repeat(np.arange(begin, end), count)
            inside = np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count)
            theirs = order[np.repeat(starts[begin:end], count) + inside]
            bits = np.bitwise_count(values[theirs] ^ second[mine])
            near = np.flatnonzero(bits <= MOST_BITS)
            near = near[np.lexsort((places[theirs[near]], bits[near], mine[near]))]
            near = near[np.unique(mine[near], return_index=True)[1]]  # the nearest for each
            near = near[bits[near] < best[mine[near]]]
            best[mine[near]], partner[mine[near]] = bits[near], places[theirs[near]]
            begin = end
    found = np.flatnonzero(best <= MOST_BITS)
    return np.stack([partner[found], found], axis=1)


def alike(train: Source, val: Source, pairs: np.ndarray) -> np.ndarray:
    """Pairs of indices `[n, 2]` into two sources -> whether the images of each pair look alike, bool `[n]`."""

    def compared(pair: tuple[int, int]) -> bool:
        try:
            first, second = (
                _thumbnail(source.decode(index).pixels) for source, index in zip((train, val), pair, strict=True)
            )
        except ImageError:
            return False
        contrasts = first.std(), second.std()
        if min(contrasts) < LEAST_CONTRAST:
            return False
        correlation = ((first - first.mean()) * (second - second.mean())).mean() / (contrasts[0] * contrasts[1])
        return bool(correlation >= LEAST_CORRELATION)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array([*pool.map(compared, pairs.tolist())], bool)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(image, np.float64)
