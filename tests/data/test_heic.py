"""HEIC files, with and without the package that reads them."""

import io
import sys

import numpy as np
import pytest
from command_line import in_process
from pictures import picture
from PIL import Image

from keras_resnet.data.augment import Augmentation
from keras_resnet.data.pipeline import training_batches
from keras_resnet.data.problems import Problems
from keras_resnet.data.taken import left_aside
from keras_resnet.errors import ImageError
from keras_resnet.image_files import reads_heic
from keras_resnet.preprocessing import decode_image, list_images
from keras_resnet.tasks.sources import open_source

pillow_heif = pytest.importorskip("pillow_heif")
REASON = "HEIC, which needs pip install 'keras-resnet-kit[heic]'"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of six images, one of them of HEIC files with different names."""
    assert reads_heic()
    folder = tmp_path_factory.mktemp("photos")
    for name, kind in (("cat", "HEIF"), ("dog", "JPEG")):
        (folder / name).mkdir()
        for index in range(6):
            stream = io.BytesIO()
            Image.fromarray(picture(64, 96, 10 * (name == "cat") + index)).save(stream, kind, quality=95)
            suffix = {"JPEG": ".jpg", "HEIF": (".HEIC", ".heif", "")[index % 3]}[kind]
            (folder / name / f"IMG_{index}{suffix}").write_bytes(stream.getvalue())
    return folder


@pytest.fixture
def without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    reads_heic.cache_clear()
    yield
    reads_heic.cache_clear()


def test_they_are_read_as_all_images_are(photos, tmp_path):
    train, val = (open_source(photos, split) for split in ("train", "val"))
    assert (train.class_counts + val.class_counts).tolist() == [6, 6]
    for index in range(train.count):
        expected = picture(64, 96, 10 * (train.labels[index] == 0) + int(train.name_of(index)[8]))
        assert np.abs(train.decode(index).pixels.astype(int) - expected).mean() < 5
    problems = Problems(0)
    plain = Augmentation(crop="resized", flip=False)
    for pixels, _ in training_batches(train, plain, size=32, batch_size=5, seed=0, epoch=0, problems=problems):
        assert (pixels.shape, problems.found) == ((5, 32, 32, 3), [])
    status, lines, _ = in_process("data", "check", photos)
    assert (status, lines[-1]) == (0, "can't be read: 0")
    status, lines, errors = in_process("data", "pack", photos, tmp_path / "shards")
    assert (status, errors, lines[0][:16]) == (0, [], "train  10 images")
    assert open_source(tmp_path / "shards", "train").decode(0).pixels.shape == (64, 96, 3)


def test_they_stand_upright_once():
    """The file states a turn in its own way and again in EXIF, as files of iPhones do."""
    stored, exif, stream = picture(40, 60, 1), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(stored).save(stream, "HEIF", quality=95, exif=exif.tobytes())
    upright = decode_image(stream.getvalue())
    assert np.abs(upright.astype(int) - np.rot90(stored, -1)).mean() < 8


def test_without_the_package_they_are_left_aside_with_the_reason(photos, without_the_package):
    train, val = (open_source(photos, split) for split in ("train", "val"))
    assert (train.classes, train.count + val.count) == (("dog",), 6)
    assert left_aside([train]).lines == [
        f"{REASON}: 6 (such as cat/IMG_0.HEIC)",
        "class folder without an image: 1 (such as cat/)",
    ]


def test_without_the_package_a_file_that_was_named_is_an_error_with_the_cure(photos, without_the_package):
    file = photos / "cat" / "IMG_0.HEIC"
    with pytest.raises(ImageError) as caught:
        decode_image(file)
    assert str(caught.value) == f"{file}: {REASON}"
    assert len(list_images([photos / "cat"])) == 6  # a folder's, too, are named when they are read
