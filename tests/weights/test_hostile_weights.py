"""Weight files that were made to hurt: damage, bombs, endless structures."""

import json
import os
import shutil
import time
import zipfile

import keras
import numpy as np
import pytest
from resnet18_files import RESNET18, refusal

from keras_resnet import torch_files, weight_files
from keras_resnet.errors import WeightsError
from keras_resnet.facts import facts_of
from keras_resnet.loading import open_network, open_predictor
from keras_resnet.models import ResNet18
from keras_resnet.weights import load_weights

WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A small classifier, whole."""
    path = tmp_path_factory.mktemp("model") / "whole.keras"
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Conv2D(4, 3, name="conv")(keras.layers.Rescaling(1 / 255)(image))
    )
    keras.Model(image, keras.layers.Dense(5, activation="softmax", name="dense")(x)).save(path)
    return path


def repack(source, path, change, compression=zipfile.ZIP_STORED):
    """Writes the archive anew, with right checksums; `change(name, content)` gives the content of each member."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w", compression) as changed:
        for name in archive.namelist():
            changed.writestr(name, change(name, archive.read(name)))
    return path


def with_config(source, path, change):
    def changed(name, content):
        if name != "config.json":
            return content
        config = json.loads(content)
        layers = {layer["name"]: layer["config"] for layer in config["config"]["layers"]}
        change(config, layers)
        return json.dumps(config)

    return repack(source, path, changed)


def cli_refusal(path):
    start = time.perf_counter()
    with pytest.raises(WeightsError) as raised:
        open_network(str(path), None)
    assert time.perf_counter() - start < 10
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_wrong_checksum_is_refused(model_file, tmp_path):
    path = tmp_path / "flipped.keras"
    shutil.copy(model_file, path)
    whole = keras.models.load_model(model_file)
    content = bytearray(path.read_bytes())
    content[content.index(whole.get_layer("dense").get_weights()[0].tobytes()) + 3] ^= 0x40
    path.write_bytes(content)
    assert "'model.weights.h5' is damaged" in cli_refusal(path)


def test_an_archive_that_declares_more_than_it_stores_is_refused(model_file, tmp_path, small):
    path = repack(
        *(model_file, tmp_path / "bomb.keras"),
        lambda name, content: bytes(50_000_000) if name == WEIGHTS else content,
        zipfile.ZIP_DEFLATED,
    )
    assert path.stat().st_size < 100_000
    assert "damaged, or compressed, which Keras does not do" in cli_refusal(path)
    assert "damaged, or compressed, which Keras does not do" in refusal(small, path)


@pytest.mark.parametrize(("name", "limit"), [("config.json", "LARGEST_CONFIG_BYTES"), (WEIGHTS, "LARGEST_BYTES")])
def test_a_member_has_a_largest_size(model_file, tmp_path, monkeypatch, name, limit):
    path = shutil.copy(model_file, tmp_path / "large.keras")
    with zipfile.ZipFile(path) as archive:
        size_bytes = archive.getinfo(name).file_size
    monkeypatch.setattr(weight_files, limit, size_bytes - 1)
    with pytest.raises(WeightsError) as caught:
        weight_files.check_keras_archive(path)
    assert str(caught.value) == (
        f"{path}: its member {name} has {size_bytes:,} bytes, more than the limit of {size_bytes - 1:,}"
    )


def test_a_sparse_file_is_not_read(tmp_path):
    with (tmp_path / "sparse.weights.h5").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(WeightsError, match="has 1,099,511,627,776 bytes, and weights have at most 16,000,000,000"):
        weight_files.read_weight_file(tmp_path / "sparse.weights.h5")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_weights_are_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(WeightsError, match=r"pipe\.safetensors is no regular file"):
        weight_files.read_weight_file(tmp_path / "pipe.safetensors")


def test_the_pickle_of_a_checkpoint_has_a_largest_size(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "small.pth")
    monkeypatch.setattr(torch_files, "LARGEST_PICKLE_BYTES", 50)
    with pytest.raises(WeightsError, match=r"small\.pth: \d+ bytes describe its tensors, more than the limit of 50"):
        weight_files.read_weight_file(tmp_path / "small.pth")


def test_layers_that_ask_for_more_than_is_stored_are_refused(model_file, tmp_path):
    path = with_config(
        model_file, tmp_path / "large.keras", lambda config, layers: layers["dense"].update(units=20_000_000_000)
    )
    assert "its layers need 400,000,000,448 bytes of weights, but the file stores 548" in cli_refusal(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda config, layers: layers["conv"].update(filters="many"),
        lambda config, layers: layers["conv"].update(filters=10**30),
        lambda config, layers: layers["conv"].update(strides=[]),
        lambda config, layers: layers["dense"].update(activation={"module": "os", "class_name": "system"}),
        lambda config, layers: config.update(module="os", class_name="system"),
        lambda config, layers: config.update(config=None),
        lambda config, layers: config.update(class_name="Dense", module="keras.layers", config={"units": 3}),
        lambda config, layers: config["config"].update(layers=[]),
        lambda config, layers: config["config"].update(input_layers=3),
    ],
)
def test_a_configuration_of_no_model_is_a_clear_error(change, model_file, tmp_path):
    cli_refusal(with_config(model_file, tmp_path / "changed.keras", change))


@pytest.mark.parametrize("config", [b"", b"[]", b"{", b"null", b"\xff", b"[" * 100_000])
def test_a_configuration_that_is_no_object_is_a_clear_error(config, model_file, tmp_path):
    cli_refusal(repack(model_file, tmp_path / "x.keras", lambda name, it: config if name == "config.json" else it))


def test_a_model_that_fails_on_images_is_a_clear_error(model_file, tmp_path):
    path = with_config(
        model_file, tmp_path / "fails.keras", lambda config, layers: layers["conv"].update(strides=[10**30, 1])
    )
    with pytest.raises(WeightsError, match="fails on images"):
        open_predictor(str(path), None).predict(np.zeros((2, 32, 32, 3), "uint8"))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_a_heap_of_texts_without_an_end_is_refused(suffix, model_file, tmp_path, small):
    """libhdf5 1.14 reads a free space of no bytes in it for ever."""

    def endless(content):
        heap = bytearray(content)
        place = content.index(b"GCOL") + 16
        while heap[place : place + 2] != b"\0\0":  # to the free space, behind the texts
            place += 16 + (int.from_bytes(heap[place + 8 : place + 16], "little") + 7) // 8 * 8
        heap[place + 8 : place + 16] = bytes(8)
        return bytes(heap)

    path = tmp_path / f"endless{suffix}"
    if suffix == ".keras":
        repack(model_file, path, lambda name, content: endless(content) if name == WEIGHTS else content)
        assert "a heap of texts has no end" in cli_refusal(path)
    else:
        with zipfile.ZipFile(model_file) as archive:
            path.write_bytes(endless(archive.read(WEIGHTS)))
    assert "a heap of texts has no end" in refusal(small, path)


def test_a_file_damaged_in_the_hubs_cache_is_refused(file, small, tmp_path):
    blob = tmp_path / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    shutil.copy(file, blob)
    snapshot = tmp_path / "snapshots" / "1" / "model.safetensors"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(blob)
    assert "damaged: its SHA-256 is" in refusal(small, snapshot)
    model = ResNet18(input_shape=small.input_shape[1:])
    load_weights(model, RESNET18, file)
    whole = blob.with_name(facts_of(model).weights_origin.file_sha256)
    blob.rename(whole)
    snapshot.unlink()
    snapshot.symlink_to(whole)
    load_weights(model, RESNET18, snapshot)
