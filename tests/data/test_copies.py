"""Validation images that are copies of training images: found, counted, and told from images that only resemble."""

import sys

import numpy as np
import pytest
from command_line import in_process
from PIL import Image

from keras_resnet.data.copies import hash_of_view, near_pairs

pytest.importorskip("imagehash")


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def picture(height, width, seed):
    """-> uint8 `[height, width, 3]`: shapes with edges, as photographs have them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


@pytest.fixture
def images(tmp_path):
    """Two classes of different pictures in each split."""
    for seed in range(12):
        for split, first in (("train", 0), ("val", 100)):
            write(tmp_path / split / ("cat", "dog")[seed % 2] / f"{seed:02}.png", picture(90, 120, first + seed))
    return tmp_path


def wrong(data):
    """-> what `data check` says looks wrong."""
    status, lines, _ = in_process("data", "check", data)
    start = next(place for place, line in enumerate(lines) if line.startswith("looks wrong: "))
    listed = lines[start + 1 : start + 1 + int(lines[start].removeprefix("looks wrong: "))]
    assert status == bool(listed)
    return listed


def test_other_sizes_formats_and_qualities_of_a_picture_are_found(images):
    assert wrong(images) == []
    shown = Image.fromarray(picture(90, 120, 3))
    shown.resize((80, 60)).save(images / "val" / "dog" / "small.png")
    shown.save(images / "val" / "dog" / "poor.jpg", quality=60)
    shown.resize((240, 180)).save(images / "val" / "dog" / "large.webp", quality=80)
    assert wrong(images) == [
        "  images of val that look like training images: 3 (such as train/dog/03.png ~ val/dog/large.webp)"
    ]


def test_equal_files_are_counted_once_and_not_again_as_similar(images):
    encoded = (images / "train" / "cat" / "00.png").read_bytes()
    for name in ("a.png", "b.png"):
        (images / "val" / "cat" / name).write_bytes(encoded)
    assert wrong(images) == [
        "  images of val that are training images, too: 2 (such as train/cat/00.png = val/cat/a.png)"
    ]


def test_equal_files_with_different_classes_are_named(images):
    (images / "train" / "dog" / "copy.png").write_bytes((images / "train" / "cat" / "02.png").read_bytes())
    assert wrong(images) == ["  equal images with different classes: 1 (train/cat/02.png = train/dog/copy.png)"]


def test_flat_images_and_other_colours_are_no_copies(images):
    """All flat images have one hash; an image in other colours has nearly the same."""
    for level in (10, 200):
        write(images / "train" / "cat" / f"flat{level}.png", np.full((40, 40, 3), level, np.uint8))
        write(images / "val" / "cat" / f"flat{level + 1}.png", np.full((40, 40, 3), level + 1, np.uint8))
    red = picture(90, 120, 77) * np.array([1, 0, 0], np.uint8)
    green = (red[..., [1, 0, 2]] * 0.509).round().astype(np.uint8)  # as bright
    assert (hash_of_view(red) ^ hash_of_view(green)).bit_count() <= 3
    write(images / "train" / "cat" / "red.png", red)
    write(images / "val" / "dog" / "green.png", green)
    assert wrong(images) == []


@pytest.mark.parametrize("count", [1, 700])
def test_near_hashes_are_those_that_a_comparison_of_all_pairs_finds(count, monkeypatch):
    rng = np.random.default_rng(count)
    first = rng.integers(0, 2**64, count, dtype=np.uint64)
    second = rng.integers(0, 2**64, 2 * count, dtype=np.uint64)
    for place in range(0, len(second), 3):  # some near ones, with 0 to 5 other bits
        flips = rng.choice(64, place % 6, replace=False)
        second[place] = first[rng.integers(count)] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64))
    monkeypatch.setattr("keras_resnet.data.copies.PAIRS_IN_TURN", 50)
    bits = np.bitwise_count(first[:, None] ^ second[None])
    expected = [(int(bits[:, place].argmin()), place) for place in np.flatnonzero(bits.min(0) <= 3).tolist()]
    assert near_pairs(first, second).tolist() == [list(pair) for pair in expected]
    assert len(expected) >= count // 3


def test_without_imagehash_the_command_names_the_extra(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    status, lines, _ = in_process("data", "check", images)
    assert status == 0
    assert (
        "smaller and recompressed copies are not looked for: this needs the package 'imagehash', which is not "
        "installed: pip install 'keras-resnet-kit[check]'"
    ) in lines


def test_images_of_an_archive_are_compared_too(tmp_path):
    pixels = np.stack([picture(24, 24, seed) for seed in range(8)])
    labels = np.arange(8) % 2
    arrays = {"x_train": pixels, "y_train": labels, "x_val": pixels[[0, 5]], "y_val": np.array([1, 1])}
    np.savez(tmp_path / "data.npz", **arrays)
    assert wrong(tmp_path / "data.npz") == [
        "  val has no image of 0",
        "  equal images with different classes: 1 (train/0 = val/0)",
        "  images of val that are training images, too: 2 (such as train/0 = val/0)",
    ]
