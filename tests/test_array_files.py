"""Archives of arrays: what they declare is checked before memory is made for it."""

import io
import os
import zipfile

import numpy as np
import pytest

from keras_resnet.array_files import Arrays
from keras_resnet.data.arrays import read_npz
from keras_resnet.errors import ArgumentError


def test_arrays_are_equal_to_numpys(tmp_path):
    draw = np.random.default_rng(0)
    stored = {
        "pixels": draw.integers(0, 256, (3, 4, 5), np.uint8),
        "columns": np.asfortranarray(draw.normal(size=(4, 3))),
        "none": np.zeros((0, 2), np.float32),
        "one": np.int64(7),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "arrays.npz", **stored)
        with Arrays(tmp_path / "arrays.npz") as archive:
            assert archive.names == [*stored]
            for name, wanted in stored.items():
                assert archive[name].dtype == wanted.dtype
                np.testing.assert_array_equal(archive[name], wanted)


def archive(path, shape, content=b""):
    """Writes an archive whose arrays declare a shape of uint8, with other content behind the head."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("x_train", "y_train"):
            file.writestr(f"{name}.npy", head.getvalue() + content)


def test_an_array_that_declares_more_than_is_stored_is_refused(tmp_path):
    archive(tmp_path / "bomb.npz", (1000, 1000, 1000, 1000))
    with pytest.raises(ArgumentError, match=r"x_train declares 1,000,000,000,000 bytes, and \d+ are stored"):
        read_npz(tmp_path / "bomb.npz", "train", "val")


def test_all_arrays_together_have_a_limit_that_the_environment_changes(tmp_path, monkeypatch):
    archive(tmp_path / "zeros.npz", (30, 10, 10), bytes(3000))
    monkeypatch.setenv("KERAS_RESNET_MAX_ARRAY_BYTES", "5000")
    with pytest.raises(ArgumentError) as caught:
        read_npz(tmp_path / "zeros.npz", "train", "val")
    assert str(caught.value) == (
        f"{tmp_path / 'zeros.npz'}: not an .npz archive of plain arrays: with y_train its arrays have 6,000 bytes, and "
        "the limit is 5,000. To read them, set the environment variable KERAS_RESNET_MAX_ARRAY_BYTES to 6000 or more"
    )
    monkeypatch.setenv("KERAS_RESNET_MAX_ARRAY_BYTES", "6000")
    with Arrays(tmp_path / "zeros.npz") as arrays:
        assert arrays["x_train"].shape == arrays["y_train"].shape == (30, 10, 10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ArgumentError, match="not a regular file"):
        read_npz(tmp_path / "pipe.npz", "train", "val")


@pytest.mark.parametrize(("compression", "encrypted"), [(zipfile.ZIP_BZIP2, False), (zipfile.ZIP_DEFLATED, True)])
def test_an_archive_that_numpy_does_not_write_is_refused(compression, encrypted, tmp_path):
    path = tmp_path / "arrays.npz"
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x.npy", b"something")
    if encrypted:
        content = path.read_bytes()
        entry = content.index(b"PK\x01\x02") + 8  # the flags in the directory of the archive
        path.write_bytes(content[:entry] + b"\x01" + content[entry + 1 :])
    with Arrays(path) as opened, pytest.raises(ValueError, match="x is compressed or encrypted in a way that NumPy"):
        opened["x"]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [(6, 173, "zip file version 17.3"), *((8, bit, "in a way that NumPy does not write") for bit in (0x20, 0x40))],
)
def test_an_archive_of_a_kind_that_there_is_not(place, value, words, tmp_path):
    """The version that a member needs, and the bits of patched and strongly encrypted members."""
    file = tmp_path / "odd.npz"
    np.savez(file, x_train=np.zeros((3, 8, 8, 3), np.uint8), y_train=np.arange(3))
    content = bytearray(file.read_bytes())
    content[content.rfind(b"PK\x01\x02") + place] = value
    file.write_bytes(content)
    with pytest.raises(ArgumentError, match=words):
        read_npz(file, "train", "val")
