"""Resize and crop against an oracle by matrix products."""

import numpy as np
import pytest
from encoded import noise

from keras_resnet.preprocessing import resize_and_crop
from keras_resnet.variants import InputContract


def triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - x, 0)


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1/2, for x >= 0."""
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def resampling_weights(size: int, new_size: int, kernel) -> np.ndarray:
    """`[new_size, size]`: each new pixel's share of the old ones; the kernel widens where the image shrinks."""
    scale = size / new_size
    centres = (np.arange(new_size) + 0.5) * scale
    distances = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = kernel(distances)
    return weights / weights.sum(axis=1, keepdims=True)


def oracles(pixels: np.ndarray, resize: int, size: int, kernel) -> list[np.ndarray]:
    """The same contract by matrix products, with the offsets counted from the pixels left over.

    Between its two passes Pillow rounds to grey levels, and which pass comes first depends on its version and on the
    shape: hence two oracles, columns first and rows first.
    """
    height, width = pixels.shape[:2]
    new_height, new_width = (resize * height // width, resize) if width < height else (resize, resize * width // height)
    passes = [
        ("ih,hwc->iwc", resampling_weights(height, new_height, kernel)),
        ("jw,hwc->hjc", resampling_weights(width, new_width, kernel)),
    ]

    def offset(spare: int) -> int:  # half of the spare pixels; an odd one goes wherever the offset becomes even
        half = spare // 2
        return half if spare % 2 == 0 else half + half % 2

    top, left = offset(new_height - size), offset(new_width - size)
    results = []
    for order in (passes, passes[::-1]):
        resized = pixels.astype(float)
        for axes, weights in order:
            resized = np.clip(np.rint(np.einsum(axes, weights, resized)), 0, 255)
        results.append(resized[top : top + size, left : left + size])
    return results


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (60, 91),
        (91, 60),
        (57, 57),
        (28, 71),
        (73, 28),
        (9, 13),
        (1, 1),
        (1, 90),
        (33, 28),
        (31, 28),
        (28, 35),
        (120, 41),
    ],
)
@pytest.mark.parametrize("size", [24, 21, 28])
@pytest.mark.parametrize(("interpolation", "kernel"), [("bilinear", triangle), ("bicubic", cubic)])
def test_resize_and_crop_equals_the_oracle(height, width, size, interpolation, kernel):
    pixels = noise(height, width, seed=height * width)
    result = resize_and_crop(pixels, InputContract(size, 28, interpolation))
    assert result.shape == (size, size, 3)
    assert result.dtype == np.uint8
    assert min(np.abs(result - expected).max() for expected in oracles(pixels, 28, size, kernel)) <= 1


@pytest.mark.parametrize(("spare", "offset"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (7, 4), (9, 4)])
def test_crop_offset_is_half_to_even_and_no_resize_is_exact(spare, offset):
    pixels = noise(28, 28 + spare)
    contract = InputContract(size=28, resize=28)
    np.testing.assert_array_equal(resize_and_crop(pixels, contract), pixels[:, offset : offset + 28])
    upright = np.ascontiguousarray(pixels.transpose(1, 0, 2))
    np.testing.assert_array_equal(resize_and_crop(upright, contract), upright[offset : offset + 28])


def test_result_is_a_copy():
    pixels = noise(28, 28)
    resize_and_crop(pixels, InputContract(28, 28))[:] = 0
    assert pixels.any()


@pytest.mark.parametrize(
    "pixels", [np.zeros((9, 9, 3), np.float32), np.zeros((9, 9), np.uint8), np.zeros((0, 9, 3), np.uint8), [[1]]]
)
def test_wrong_pixels_are_refused(pixels):
    with pytest.raises(ValueError, match="`pixels` must"):
        resize_and_crop(pixels)


def test_crop_larger_than_the_resized_image_is_refused():
    with pytest.raises(ValueError, match=r"size <= resize.*size=30, resize=28"):
        resize_and_crop(noise(40, 40), InputContract(size=30, resize=28))
