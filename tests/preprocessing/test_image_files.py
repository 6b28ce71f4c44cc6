"""Paths of image files -> batches of pixels, by the contract of a model."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from encoded import encode, noise

from keras_resnet.errors import ImageError
from keras_resnet.facts import state
from keras_resnet.preprocessing import list_images, load_image, load_images
from keras_resnet.regular_files import LARGEST_BYTES
from keras_resnet.tasks import contract_of
from keras_resnet.variants import InputContract

SMALL = InputContract(size=24, resize=28)


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
    with pytest.raises(
        ImageError, match=r"(?s)^2 of 3 images failed:\n.*text\.jpg: not an image.*\n.*absent\.jpg: No such"
    ):
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
    model = keras.Model(
        image, (keras.layers.GlobalAveragePooling2D() if None in shape else keras.layers.Flatten())(image)
    )
    if stated is not None:
        state(model, contract=stated)
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_are_named_and_never_waited_for(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(noise(40, 50)))
    for name in ("pipe", "pipe.jpg"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    assert [path.name for path in list_images([tmp_path])] == ["a.png"]
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(ImageError, match=rf"{name}: not a regular file"):
            load_image(tmp_path / name, SMALL)


def test_a_file_of_many_bytes_is_not_read(tmp_path):
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as stream:
        stream.truncate(LARGEST_BYTES + 1)
    with pytest.raises(ImageError, match=r"the file has 2,000,000,001 bytes, more than the limit of 2,000,000,000"):
        load_image(path, SMALL)
