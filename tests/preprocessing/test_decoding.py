"""Dirty images, made here; their pixels are known, so that the decoded ones are compared with numbers."""

import contextlib
import io
import struct
import threading
import time
import warnings

import numpy as np
import pytest
from encoded import encode, grey, noise, png16, png_chunk
from PIL import Image

from keras_resnet import preprocessing, whole_images
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.limits import check_limits
from keras_resnet.preprocessing import decode_image, load_image
from keras_resnet.whole_images import hold, whole_image


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


# --- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_image_is_converted_in_strips_to_equal_pixels(mode, orientation, monkeypatch):
    image = Image.fromarray(noise(53, 41))
    exif = Image.Exif()
    exif[0x0112] = orientation
    format = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(grey(noise(53, 41, channels=1))[..., 0]))
    if mode == "I;16":
        encoded = encode(Image.fromarray(noise(53, 41, channels=1)[..., 0].astype(np.uint16) * 250), exif=exif)
    elif mode == "P":
        encoded = encode(image.quantize(16), transparency=3, exif=exif)
    else:
        encoded = encode(image.convert(mode), format, exif=exif)
    whole = decode_image(encoded)
    monkeypatch.setattr(preprocessing, "STRIP_PIXELS", 300)
    strips = decode_image(encoded)
    assert strips.flags.writeable
    np.testing.assert_array_equal(strips, whole)


def test_the_limit_of_pixels_is_stated_and_can_be_changed(tmp_path, monkeypatch):
    (tmp_path / "large.png").write_bytes(encode(noise(30, 40)))
    monkeypatch.setenv("KERAS_RESNET_MAX_PIXELS", "1199")
    with pytest.raises(ImageError) as caught:
        load_image(tmp_path / "large.png")
    assert str(caught.value) == (
        f"{tmp_path / 'large.png'}: too many pixels: it has 1,200 (40 x 30), and the limit is 1,199. To read it, "
        "set the environment variable KERAS_RESNET_MAX_PIXELS=1200; it takes up to 11 bytes of memory a pixel"
    )
    monkeypatch.setenv("KERAS_RESNET_MAX_PIXELS", "1200")
    assert decode_image(tmp_path / "large.png").shape == (30, 40, 3)


@pytest.mark.filterwarnings("ignore:Image size")
def test_the_limit_can_be_higher_than_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    monkeypatch.setattr(preprocessing, "MOST_PIXELS", 1000)
    monkeypatch.setenv("KERAS_RESNET_MAX_PIXELS", "1000")
    with pytest.raises(ImageError, match=r"it has 1,200, and the limit is 1,000.*KERAS_RESNET_MAX_PIXELS=1200"):
        decode_image(encode(noise(30, 40)))
    monkeypatch.setenv("KERAS_RESNET_MAX_PIXELS", "1200")
    assert decode_image(encode(noise(30, 40))).shape == (30, 40, 3)


@pytest.mark.parametrize("text", ["many", "0", "-5", "1e9", "1.5"])
def test_a_limit_that_is_no_number_is_refused(text, monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_MAX_PIXELS", text)
    with pytest.raises(
        ArgumentError, match=f"KERAS_RESNET_MAX_PIXELS must be a whole number above 0. Received: {text}"
    ):
        check_limits()


def test_threads_hold_few_pixels_together(monkeypatch):
    """Eight threads with images of 40 pixels, of which two may be held at once, and one image of 90."""
    monkeypatch.setenv("KERAS_RESNET_MAX_PIXELS", "90")
    lock, held, most, done = threading.Lock(), 0, 0, []

    def work(pixels):
        nonlocal held, most
        with whole_image():
            hold(pixels)
            with lock:
                held += pixels
                most = max(most, held)
            time.sleep(0.02)
            with lock:
                held -= pixels
                done.append(pixels)

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in [40] * 7 + [90]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(done) == [40] * 7 + [90]
    assert most in (80, 90)
    assert whole_images._held == 0


def test_a_thread_that_holds_an_image_does_not_wait(monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_MAX_PIXELS", "100")
    with whole_image(), whole_image():
        hold(100)
        hold(100)  # a mask beside its image
        assert whole_images._held == 200
    assert whole_images._held == 0


def test_a_broken_image_is_no_longer_held():
    with contextlib.suppress(ImageError):
        decode_image(encode(noise(64, 64))[:3000])
    assert whole_images._held == 0
