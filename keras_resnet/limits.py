"""Limits that a user can change, by environment variables: they hold for a whole process and all that it starts."""

import os
import re

from keras_resnet.errors import ArgumentError

PIXELS_VARIABLE, MOST_PIXELS = "KERAS_RESNET_MAX_PIXELS", 178_956_970  # Pillow's own limit, 2 * MAX_IMAGE_PIXELS
ARRAY_VARIABLE, MOST_ARRAY_BYTES = "KERAS_RESNET_MAX_ARRAY_BYTES", 8_000_000_000


def most_pixels() -> int:
    """-> largest number of pixels of an image that is decoded, and of all images that are decoded at once.

    Raises:
        ArgumentError: The environment variable is no whole number above 0.
    """
    return _stated(PIXELS_VARIABLE, MOST_PIXELS)


def most_array_bytes() -> int:
    """-> largest number of bytes of all arrays that are read from one archive.

    Raises:
        ArgumentError: The environment variable is no whole number above 0.
    """
    return _stated(ARRAY_VARIABLE, MOST_ARRAY_BYTES)


def check_limits() -> None:
    """Raises `ArgumentError` if a limit in the environment is no whole number above 0."""
    most_pixels()
    most_array_bytes()


def _stated(variable: str, default: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise ArgumentError(f"the environment variable {variable} must be a whole number above 0. Received: {text}")
    return int(text)
