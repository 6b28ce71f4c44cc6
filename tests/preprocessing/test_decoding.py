"""Dirty images, made here; their pixels are known, so that the decoded ones are compared with numbers."""

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet.errors import ImageError
from keras_resnet.preprocessing import contract_of, decode_image, list_images, load_image, load_images, resize_and_crop
from keras_resnet.variants import InputContract

SMALL = InputContract(size=24, resize=28)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: Image.Image | np.ndarray, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(rows: np.ndarray, colour_type: int, transparency: bytes | None = None) -> bytes:
    """16-bit PNG by hand: `[H, W, samples]` uint16, PNG's colour type (0 grey, 2 RGB, 4 grey and alpha)."""
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 16, colour_type, 0, 0, 0)
    body = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    chunks = [png_chunk(b"IHDR", header)]
    if transparency is not None:
        chunks.append(png_chunk(b"tRNS", transparency))
    chunks += [png_chunk(b"IDAT", zlib.compress(body)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def grey(values) -> np.ndarray:
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


# --- decoding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_colours_are_kept(format):
    pixels = noise(5, 7)
    np.testing.assert_array_equal(decode_image(encode(pixels, format)), pixels)


def test_path_and_bytes_give_the_same(tmp_path):
    encoded = encode(noise(40, 31), "JPEG", quality=90)
    (tmp_path / "a.jpg").write_bytes(encoded)
    expected = np.asarray(Image.open(io.BytesIO(encoded)))
    for source in (encoded, tmp_path / "a.jpg", str(tmp_path / "a.jpg")):
        np.testing.assert_array_equal(decode_image(source), expected)


def test_grey_is_repeated_over_the_channels():
    pixels = noise(5, 7, channels=1)
    np.testing.assert_array_equal(decode_image(encode(pixels)), grey(pixels))


def test_one_bit():
    bits = noise(5, 7, channels=1) > 127
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(bits))), grey(bits * 255))


def test_palette():
    colours, indices = noise(1, 6)[0], np.array([[0, 5, 2], [4, 1, 3]], np.uint8)
    image = Image.frombytes("P", (3, 2), indices.tobytes())
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(decode_image(encode(image)), colours[indices])


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_cmyk(format):
    cmyk = np.empty((16, 24, 4), np.uint8)
    cmyk[:, :12], cmyk[:, 12:] = (255, 0, 64, 0), (10, 130, 0, 50)
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    pixels = decode_image(encode(Image.frombytes("CMYK", (24, 16), cmyk.tobytes()), format, **options))
    ink, black = cmyk[..., :3].astype(float), cmyk[..., 3:].astype(float)
    expected = (255 - ink) * (255 - black) / 255
    assert np.abs(pixels - expected).max() <= 2


def test_ycbcr_tiff():
    pixels = decode_image(encode(Image.new("YCbCr", (3, 2), (100, 30, 200)), "TIFF"))
    red, blue = 100 + 1.402 * (200 - 128), 100 + 1.772 * (30 - 128)
    green = 100 - 0.344136 * (30 - 128) - 0.714136 * (200 - 128)
    assert np.abs(pixels - np.clip([red, green, blue], 0, 255)).max() <= 1


SIXTEEN_BITS = np.array([[0x0000, 0x1234, 0x00FF], [0x8000, 0xFF00, 0xFFFF]], np.uint16)
EIGHT_BITS = [[0, 0x12, 0], [0x80, 0xFF, 0xFF]]


def test_16_bit_grey_is_scaled_not_clipped():
    sources = {
        "png": png16(SIXTEEN_BITS[..., None], 0),
        "tiff": encode(SIXTEEN_BITS, "TIFF"),
        "big-endian tiff": encode(Image.frombytes("I;16B", (3, 2), SIXTEEN_BITS.astype(">u2").tobytes()), "TIFF"),
        "pgm": b"P5 3 2 65535\n" + SIXTEEN_BITS.astype(">u2").tobytes(),
    }
    for name, source in sources.items():
        np.testing.assert_array_equal(decode_image(source), grey(EIGHT_BITS), err_msg=name)


def test_16_bit_grey_and_colour_agree():
    rgb = np.random.default_rng(1).integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    np.testing.assert_array_equal(decode_image(png16(rgb, 2)), rgb >> 8)
    np.testing.assert_array_equal(decode_image(png16(rgb[..., :1], 0)), grey(rgb[..., 0] >> 8))


def test_16_bit_grey_with_alpha_is_over_white():
    pairs = np.array([[[0x3300, 0xFFFF], [0x3300, 0x0000], [0x3300, 0x8000]]], np.uint16)
    expected = [0x33, 255, 255 + (0x33 - 255) * 0x80 / 255]
    assert np.abs(decode_image(png16(pairs, 4))[0, :, 0] - expected).max() <= 1
    keyed = decode_image(png16(SIXTEEN_BITS[..., None], 0, transparency=struct.pack(">H", 0x00FF)))
    np.testing.assert_array_equal(keyed, grey([[0, 0x12, 255], [0x80, 0xFF, 0xFF]]))  # 0x0000 is not 0x00FF


@pytest.mark.parametrize(("values", "reason"), [([[0, 70000]], "0..70000"), ([[-1, 5]], "-1..5")])
def test_32_bit_greys_beyond_16_bits_are_refused(values, reason):
    with pytest.raises(ImageError, match=reason):
        decode_image(encode(np.array(values, np.int32), "TIFF"))


def test_float_tiff_is_refused(tmp_path):
    path = tmp_path / "depth.tif"
    path.write_bytes(encode(np.ones((4, 4), np.float32), "TIFF"))
    with pytest.raises(ImageError, match=r"depth\.tif: its pixels are floating-point"):
        load_image(path)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_composited_over_white(format):
    rgba = noise(6, 5, channels=4)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(decode_image(encode(rgba, format, **options)) - expected).max() <= 1


def test_grey_alpha_and_transparent_palette_are_composited_over_white():
    pair = noise(6, 5, channels=2)
    alpha = pair[..., 1] / 255
    pixels = decode_image(encode(Image.frombytes("LA", (5, 6), pair.tobytes())))
    assert np.abs(pixels - (pair[..., 0] * alpha + 255 * (1 - alpha))[..., None]).max() <= 1

    palette = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    half = decode_image(encode(palette, transparency=bytes([255, 0, 51])))  # 51 of 255 is a fifth
    np.testing.assert_array_equal(half, [[[10, 20, 30], [255, 255, 255], [218, 220, 222]]])
    keyed = decode_image(encode(palette, "GIF", transparency=2))
    np.testing.assert_array_equal(keyed, [[[10, 20, 30], [40, 50, 60], [255, 255, 255]]])


def test_first_frame_of_an_animation():
    first, second = Image.new("RGB", (6, 4), (200, 10, 30)), Image.new("RGB", (6, 4), (0, 90, 250))
    gif = encode(first, "GIF", save_all=True, append_images=[second], duration=50)
    assert Image.open(io.BytesIO(gif)).n_frames == 2
    np.testing.assert_array_equal(decode_image(gif), np.broadcast_to([200, 10, 30], (4, 6, 3)))


# What EXIF says of each stored picture: where its first row and first column belong.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),  # the first row is the right-hand side: turn clockwise
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_exif_orientation(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = encode(noise(8, 16), format, exif=exif)
    exif[0x0112] = 1
    stored = decode_image(encode(noise(8, 16), format, exif=exif))
    np.testing.assert_array_equal(decode_image(encoded), UPRIGHT[orientation](stored))


def test_broken_exif_does_not_matter():
    encoded = encode(noise(8, 16), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert decode_image(encoded).shape == (8, 16, 3)


def bad_files() -> dict[str, tuple[bytes, str]]:
    jpeg, png = encode(noise(64, 64), "JPEG"), encode(noise(64, 64))
    bomb = png16(np.zeros((1, 1, 1), np.uint16), 0)
    bomb = bomb[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)) + bomb[33:]
    return {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
        "header.jpg": (jpeg[:3], "not an image"),
        "flipped.png": (png[:60] + bytes([png[60] ^ 0xFF]) + png[61:], "broken"),
        "text.jpg": (b"To whom it may concern\n", "not an image"),
        "empty.jpg": (b"", "the file is empty"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image"),
        "bomb.png": (bomb, "too many pixels"),
        "ribbon.png": (encode(np.zeros((1, 65_000), np.uint8)), "65000x1 pixels are too elongated"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_bad_file_is_named_with_the_reason(name, tmp_path):
    content, reason = bad_files()[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        load_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(ImageError, match=r"absent\.jpg: No such file"):
        load_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="Is a directory"):
        load_image(tmp_path)


def test_every_truncation_works_or_is_an_image_error():
    for format in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        encoded = encode(noise(12, 10), format)
        for length in range(0, len(encoded), 7):
            with contextlib.suppress(ImageError):
                assert decode_image(encoded[:length]).shape == (12, 10, 3)


def test_warnings_of_pillow_do_not_reach_the_user(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    encoded = encode(noise(12, 12))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(encoded)):
            assert len(caught) == 1  # Pillow does warn
        assert decode_image(encoded).shape == (12, 12, 3)
    assert len(caught) == 1


# --- resize and crop ----------------------------------------------------------------------------------------------


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


# --- many images --------------------------------------------------------------------------------------------------


def test_load_images_stacks_what_load_image_gives(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, path in enumerate(paths):
        path.write_bytes(encode(noise(40, 50 + seed, seed=seed)))
    images = load_images(paths, SMALL)
    assert images.shape == (2, 24, 24, 3)
    for image, path in zip(images, paths, strict=True):
        np.testing.assert_array_equal(image, load_image(path, SMALL))
    assert load_images(paths[:1]).shape == (1, 224, 224, 3)


def test_load_images_lists_every_bad_file(tmp_path):
    (tmp_path / "good.png").write_bytes(encode(noise(9, 9)))
    (tmp_path / "text.jpg").write_bytes(b"text")
    paths = [tmp_path / name for name in ("good.png", "text.jpg", "absent.jpg")]
    with pytest.raises(ImageError, match=r"(?s)^2 of 3 images:\n.*text\.jpg: not an image.*\n.*absent\.jpg: No such"):
        load_images(paths)
    with pytest.raises(ValueError, match="`paths` must name at least one"):
        load_images([])


@pytest.mark.parametrize(
    ("shape", "stated", "contract"),
    [
        ((224, 224, 3), None, InputContract(224, 256, "bilinear")),
        ((224, 224, 3), InputContract(224, 235, "bicubic"), InputContract(224, 235, "bicubic")),
        ((None, None, 3), None, InputContract(224, 256, "bilinear")),
        ((None, None, 3), InputContract(224, 235, "bicubic"), InputContract(224, 235, "bicubic")),
        ((64, 64, 1), None, InputContract(64, 73, "bilinear")),
        ((64, 64, 3), InputContract(224, 235, "bicubic"), InputContract(64, 73, "bilinear")),
        ((64, 96, 3), InputContract(64, 73), None),
        ((64, None, 3), None, None),
        ((64,), None, None),
    ],
)
def test_contract_of_a_model(shape, stated, contract):
    image = keras.Input(shape)
    model = keras.Model(image, keras.layers.Flatten()(image) if None not in shape else image)
    if stated is not None:
        model.input_contract = stated
    assert contract_of(model) == contract


def test_no_contract_of_a_model_without_one_image():
    a, b = keras.Input((64, 64, 3)), keras.Input((64, 64, 3))
    assert contract_of(keras.Model([a, b], keras.layers.Add()([a, b]))) is None
    assert contract_of(keras.Model([a], keras.layers.Flatten()(a))) == InputContract(64, 73)
    assert contract_of(keras.Sequential()) is None


def test_list_images(tmp_path):
    for name in ("b/2.JPEG", "b/1.png", "b/deep/3.jpg", "b/notes.txt", "a.gif", "c [1].jpg", "odd.image"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def listed(*patterns: str) -> list[str]:
        paths = list_images(str(tmp_path / pattern) for pattern in patterns)
        return [path.relative_to(tmp_path).as_posix() for path in paths]

    assert listed("b") == ["b/1.png", "b/2.JPEG", "b/deep/3.jpg"]
    assert listed("odd.image", "a.gif") == ["odd.image", "a.gif"]
    assert listed("c [1].jpg") == ["c [1].jpg"]
    assert listed("b/*.png", "*.gif") == ["b/1.png", "a.gif"]
    assert listed("**/*.jpg") == ["b/deep/3.jpg", "c [1].jpg"]
    assert listed("?") == ["b/1.png", "b/2.JPEG", "b/deep/3.jpg"]
    (tmp_path / "empty").mkdir()
    for pattern in ("absent.jpg", "*.bmp", "empty"):
        with pytest.raises(ImageError) as caught:
            listed("a.gif", pattern)
        assert str(caught.value).startswith(f"{tmp_path / pattern}: no ")


# --- real images --------------------------------------------------------------------------------------------------


def test_real_crops_are_bit_identical_to_the_reference(shared_data: Path):
    reference = np.load(shared_data / "reference" / "imagenet_crops48.npz")
    paths = list_images(str(shared_data / "imagenet_500" / "images" / f"{y:03d}_*.jpg") for y in reference["y"])
    assert len(paths) == 48
    np.testing.assert_array_equal(load_images(paths), reference["x"])


def test_real_originals_decode(shared_data: Path):
    paths = list_images([shared_data / "imagenet_originals"])
    assert len(paths) == len(list((shared_data / "imagenet_originals").iterdir())) >= 23
    images = load_images(paths)
    assert images.shape == (len(paths), 224, 224, 3)
    assert (images.reshape(len(paths), -1).std(axis=1) > 10).all()
