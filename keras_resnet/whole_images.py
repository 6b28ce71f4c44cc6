"""Whole images in memory: their pixels are counted over all threads of the process, and threads wait for each other.

A decoded image takes up to `BYTES_PER_PIXEL` while it is decoded. Without a common count, each thread could hold an
image of the largest size.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from keras_resnet.limits import most_pixels

BYTES_PER_PIXEL = 11  # Pillow holds 4 bytes, twice for an image that is turned upright; its pixels take 3


class _Count(threading.local):
    """What this thread holds."""

    depth = 0  # number of `whole_image` blocks in each other
    pixels = 0


_count = _Count()
_freed = threading.Condition()
_held = 0  # pixels that all threads hold


@contextmanager
def whole_image() -> Iterator[None]:
    """`with whole_image():` the pixels that `hold` counts in the block are held until its end; blocks may nest."""
    global _held
    _count.depth += 1
    try:
        yield
    finally:
        _count.depth -= 1
        if _count.depth == 0 and _count.pixels:
            with _freed:
                _held -= _count.pixels
                _count.pixels = 0
                _freed.notify_all()


def hold(pixels: int) -> None:
    """Counts the pixels of an image in the innermost `whole_image` block, once other threads hold few enough.

    A thread that already holds an image does not wait, since it could wait for ever: a mask is decoded beside its
    image.
    """
    global _held
    with _freed:
        if not _count.pixels:
            _freed.wait_for(lambda: _held == 0 or _held + pixels <= most_pixels())
        _held += pixels
        _count.pixels += pixels
