"""The pixels of training images, by way of decoding, crop and resize, are what they should be."""

import io

import numpy as np
import pytest
from few_images import PADDED, PLAIN, STILL, TRAINED, batches, known
from pictures import decoded, jpeg, picture, write_folder
from PIL import Image

from keras_resnet.data.augment import Augmentation
from keras_resnet.data.problems import Problems
from keras_resnet.errors import ImageError
from keras_resnet.tasks.sources import open_source


def test_arrays_keep_their_pixels_where_nothing_is_done(archive):
    source = open_source(archive, "train")
    order = source.order(5, 2)
    seen = np.concatenate([images for images, _ in known(source.path, STILL)])
    np.testing.assert_array_equal(seen, source.images[order[:TRAINED]])


def test_padded_crops_are_shifts_of_the_image(archive):
    """Each is one of the 9 x 9 x 2 that NumPy makes of the image and four zeros around it, and all shifts occur."""
    source = open_source(archive, "train")
    order, shifts = source.order(5, 2), []
    seen = np.concatenate([images for images, _ in known(source.path, PADDED)])
    for image, index in zip(seen, order, strict=False):
        padded = np.pad(source.images[index], ((4, 4), (4, 4), (0, 0)))
        found = [
            (top, left, flipped)
            for top in range(9)
            for left in range(9)
            for flipped in (False, True)
            if np.array_equal(image[:, ::-1] if flipped else image, padded[top : top + 32, left : left + 32])
        ]
        assert len(found) == 1
        shifts += found
    tops, lefts, flips = np.array(shifts).T
    assert len(set(tops)) >= 7
    assert len(set(lefts)) >= 7
    assert 8 <= flips.sum() <= 32
    assert not np.array_equal(tops, lefts)


def test_files_are_resized_and_cropped_at_their_centre(folder):
    """Against Pillow's antialiased resize of the centred square; photographs this smooth need no antialiasing."""
    source = open_source(folder, "train")
    order = source.order(5, 2)
    seen = np.concatenate([images for images, _ in batches(source, STILL, size=40)])
    for image, index in zip(seen, order, strict=False):
        pixels = decoded(source.read(index))
        height, width = pixels.shape[:2]
        top, left = (height - min(height, width)) // 2, (width - min(height, width)) // 2
        square = pixels[top : top + min(height, width), left : left + min(height, width)]
        wanted = np.asarray(Image.fromarray(square).resize((40, 40), Image.Resampling.BILINEAR))
        assert np.abs(image.astype(int) - wanted).max() <= 12  # at the crop's right edge, where colours are upsampled
        assert np.abs(image.astype(int) - wanted).mean() < 0.7


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [1, 3, 5, 9])
def test_large_files_are_decoded_at_a_fraction_of_their_size(interpolation, scale, tmp_path):
    folder = write_folder(tmp_path / "large", {"ant": 2}, height=64 * scale, width=64 * scale)
    source = open_source(folder, "train")
    image = batches(source, STILL, batch_size=1, size=48, interpolation=interpolation)[0][0][0]
    pixels = decoded(source.read(0))
    height, width = pixels.shape[:2]
    top, left = (height - min(height, width)) // 2, (width - min(height, width)) // 2
    square = Image.fromarray(pixels[top : top + min(height, width), left : left + min(height, width)])
    wanted = np.asarray(square.resize((48, 48), getattr(Image.Resampling, interpolation.upper())))
    assert np.abs(image.astype(int) - wanted).mean() < 5  # another part of the picture: above 40


def bilinear(pixels, size):
    """uint8 `[H, W, 3]` -> `[size, size, 3]`, rounded; two neighbours along each axis, pixel centres aligned."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(place).astype(int)
        share = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        above = np.take(pixels, np.minimum(low + 1, length - 1), axis)
        pixels = np.take(pixels, low, axis) * (1 - share) + above * share
    return np.floor(pixels + 0.5)


@pytest.mark.parametrize(
    ("side", "divisor"), [(88, 1), (95, 1), (96, 2), (184, 2), (192, 4), (376, 4), (384, 8), (400, 8)]
)
def test_the_divisor_is_the_largest_that_leaves_enough_pixels(side, divisor, tmp_path):
    """Against Pillow's decoding at a fraction, and NumPy's interpolation of it."""
    encoded = jpeg(picture(side, side, 8))
    (tmp_path / "ant").mkdir()
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / "ant" / name).write_bytes(encoded)
    image = batches(open_source(tmp_path, "train"), STILL, batch_size=1, size=48)[0][0][0]
    with Image.open(io.BytesIO(encoded)) as reduced:
        reduced.draft("RGB", (side // divisor, side // divisor))
        assert reduced.size == (-(-side // divisor),) * 2
        pixels = np.asarray(reduced.convert("RGB"))[: side // divisor, : side // divisor]
    difference = image - bilinear(pixels.astype(float), 48)
    assert np.abs(difference).max() <= 1  # where the sum lies next to a half
    assert (difference != 0).mean() < 0.01


# Arrays that shrink are antialiased.
@pytest.mark.parametrize(("kind", "side"), [("file", 29), ("file", 48), ("file", 70), ("array", 29), ("array", 48)])
def test_pixels_are_those_of_numpys_interpolation(kind, side, tmp_path):
    pixels = picture(side, side, 8)
    if kind == "file":
        for name in ("0.jpg", "1.jpg"):
            (tmp_path / "ant").mkdir(exist_ok=True)
            (tmp_path / "ant" / name).write_bytes(jpeg(pixels))
        source, pixels = open_source(tmp_path, "train"), decoded(jpeg(pixels))
    else:
        np.savez(tmp_path / "a.npz", x_train=np.stack([pixels] * 2), y_train=np.zeros(2, int))
        source = open_source(tmp_path / "a.npz", "train")
    image = batches(source, STILL, batch_size=1, size=48)[0][0][0]
    difference = image - bilinear(pixels.astype(float), 48)
    assert np.abs(difference).max() <= 1  # where the sum lies next to a half
    assert (difference != 0).mean() < 0.01


def test_ordinary_files_are_never_left_to_pillow(tmp_path, monkeypatch):
    def fail(encoded):
        raise ImageError("left to Pillow")

    turned = Image.Exif()
    turned[0x0112] = 6
    pixels = picture(90, 120, 6)
    (tmp_path / "ant").mkdir()
    for name, content in {
        "plain": jpeg(pixels),
        "grey": jpeg(pixels[..., 0]),
        "progressive": jpeg(pixels, progressive=True),
        "turned": jpeg(pixels, exif=turned.tobytes()),
        "half": jpeg(picture(200, 210, 1)),
        "quarter": jpeg(picture(330, 300, 2)),
        "eighth": jpeg(picture(600, 700, 3)),
        "other": jpeg(picture(33, 32, 4)),
    }.items():
        (tmp_path / "ant" / f"{name}.jpg").write_bytes(content)
    monkeypatch.setattr("keras_resnet.data.base.decode_image", fail)
    for augmentation in (Augmentation(crop="none"), Augmentation(crop="padded"), PLAIN):
        problems = Problems(0)
        source = open_source(tmp_path, "train")
        images = batches(source, augmentation, problems, batch_size=source.count)[0][0]
        assert problems.found == []
        assert (images.reshape(len(images), -1).std(axis=1) > 5).all()


def test_random_areas_cover_what_they_should(folder):
    """Of an image whose red rises to the right and whose green rises downwards, the crop can be read off."""
    ramp = np.zeros((250, 250, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(250), np.arange(250)[:, None]
    path = folder.parent / "ramp.npz"
    np.savez(path, x_train=np.repeat(ramp[None], 400, 0), y_train=np.zeros(400, int))
    source = open_source(path, "train")
    images = np.concatenate([x for x, _ in batches(source, Augmentation(minimum_area=0.2, flip=False), batch_size=40)])
    widths = (images[:, 16, -1, 0].astype(float) - images[:, 16, 0, 0]) * 32 / 31
    heights = (images[:, -1, 16, 1].astype(float) - images[:, 0, 16, 1]) * 32 / 31
    areas, ratios = widths * heights / 250**2, widths / heights
    assert 0.18 < areas.min() < 0.3
    assert 0.85 < areas.max() < 1.02
    assert 0.44 < areas.mean() < 0.56  # large ones that are not square fit less often
    assert 0.72 < ratios.min() < 0.85
    assert 1.18 < ratios.max() < 1.38
    flipped = np.concatenate([x for x, _ in batches(source, Augmentation(minimum_area=0.2), batch_size=40)])
    mirrored = flipped[:, 16, -1, 0] < flipped[:, 16, 0, 0]
    assert 0.4 < mirrored.mean() < 0.6
    np.testing.assert_array_equal(np.where(mirrored[:, None, None, None], flipped[:, :, ::-1], flipped), images)


def test_tiny_and_narrow_files(tmp_path):
    (tmp_path / "ant").mkdir()
    for index, (height, width) in enumerate([(1, 1), (1, 40), (40, 1), (2, 3), (8, 8), (15, 17)]):
        (tmp_path / "ant" / f"{index}.jpg").write_bytes(jpeg(picture(height, width, index)))
    for augmentation in (PLAIN, PADDED, Augmentation(crop="none")):
        problems = Problems(0)
        images = batches(open_source(tmp_path, "train"), augmentation, problems, batch_size=5)[0][0]
        assert images.shape == (5, 32, 32, 3)
        assert not problems.exceeded
