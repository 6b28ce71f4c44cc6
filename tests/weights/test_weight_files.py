"""Weight files: every format gives its tensors; nothing in them runs, and damaged ones are refused by name."""

import json
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from resnet18_files import (
    RESNET18,
    SHAPE,
    assert_same_weights,
    load,
    refusal,
    save,
    value,
)

from keras_resnet.errors import MissingDependencyError
from keras_resnet.models import ResNet18
from keras_resnet.weights import load_weights

# --- file formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_safetensors_of_other_precision(tmp_path, state, loaded, dtype):
    path = save(tmp_path, {name: tensor.astype(dtype) for name, tensor in state.items()})
    for ours, exact in zip(load(path).get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, exact.astype(dtype).astype(np.float32))


def test_safetensors_of_bfloat16(tmp_path, state, loaded):
    header, data = {}, b""
    for name, tensor in state.items():
        stored = (tensor.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [len(data), len(data) + len(stored)]}
        data += stored
    packed = json.dumps(header).encode()
    path = tmp_path / "bf16.safetensors"
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + data)
    model = load(str(path))
    # Truncated to 8 bits of mantissa, and nothing else.
    expected = state["layer1.0.conv1.weight"].view(np.uint32) & np.uint32(0xFFFF0000)
    np.testing.assert_array_equal(
        value(model, "stage2_block1_1_conv"), np.einsum("oihw->hwio", expected.view(np.float32))
    )
    assert_same_weights(model, loaded, rtol=2**-7)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th"])
@pytest.mark.parametrize("nesting", [None, "state_dict", "model"])
def test_pytorch_files(tmp_path, state, blank, suffix, nesting, loaded):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(tensor) for name, tensor in state.items()}
    if nesting:
        tensors = {nesting: {f"module.{name}": tensor for name, tensor in tensors.items()}, "epoch": 3}
    path = tmp_path / f"r18{suffix}"
    torch.save(tensors, path)
    load_weights(blank, RESNET18, path)
    assert_same_weights(blank, loaded)


def test_pytorch_parameters_and_bfloat16(tmp_path, state, blank, loaded):
    torch = pytest.importorskip("torch")
    path = tmp_path / "r18.pth"
    torch.save({name: torch.from_numpy(tensor).bfloat16().requires_grad_() for name, tensor in state.items()}, path)
    load_weights(blank, RESNET18, path)
    assert_same_weights(blank, loaded, rtol=2**-8)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_keras_files(tmp_path, trained, suffix):
    path = tmp_path / f"trained{suffix}"
    trained.save(path) if suffix == ".keras" else trained.save_weights(path)
    assert_same_weights(load(path), trained)


def test_keras_file_in_bfloat16(tmp_path, trained, blank):
    keras.config.set_dtype_policy("bfloat16")
    try:
        half = ResNet18(input_shape=SHAPE)
        half.set_weights(trained.get_weights())
    finally:
        keras.config.set_dtype_policy("float32")
    half.save_weights(tmp_path / "half.weights.h5")
    load_weights(blank, RESNET18, tmp_path / "half.weights.h5")
    assert_same_weights(blank, trained, rtol=2**-8)


def test_keras_file_of_a_model_around_the_network(tmp_path, trained):
    image = keras.Input(SHAPE)
    keras.Model(image, trained(keras.layers.RandomFlip()(image))).save_weights(tmp_path / "outer.weights.h5")
    assert_same_weights(load(tmp_path / "outer.weights.h5"), trained)


# --- nothing runs, nothing is followed ----------------------------------------------------------------------------


class Payload:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")  # which this pickle is written in, on purpose
def test_a_pickle_with_a_payload_is_refused_and_does_not_run(tmp_path, small):
    torch = pytest.importorskip("torch")
    touched = tmp_path / "touched"
    torch.save({"conv1.weight": torch.zeros(1), "payload": Payload(touched)}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload(touched)))
    for name in ("zip.pth", "plain.pth"):
        message = refusal(small, tmp_path / name)
        assert "could run code" in message
        assert "weights_only=False" not in message
    assert not touched.exists()
    pickle.loads((tmp_path / "plain.pth").read_bytes())  # noqa: S301 the payload is alive
    assert touched.exists()


def test_a_keras_file_with_a_lambda_gives_its_weights_and_runs_nothing(tmp_path, trained):
    touched = tmp_path / "touched"
    code = f"from pathlib import Path; Path({str(touched)!r}).touch()"
    image = keras.Input(SHAPE)
    x = keras.layers.Lambda(lambda x, code=code: exec(code) or x, output_shape=SHAPE)(image)  # noqa: S102
    outer = keras.Model(image, trained(x))
    outer.save(tmp_path / "lambda.keras")
    outer(np.zeros((1, *SHAPE)))
    touched.unlink()  # the payload is alive
    config = json.loads(zipfile.ZipFile(tmp_path / "lambda.keras").read("config.json"))
    assert "Lambda" in json.dumps(config)

    assert_same_weights(load(tmp_path / "lambda.keras"), trained)
    assert not touched.exists()


def test_the_config_of_a_keras_file_is_not_read(tmp_path, trained):
    trained.save(tmp_path / "good.keras")
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "no_config.keras", "w") as stripped,
    ):
        stripped.writestr("config.json", "{ not json")
        stripped.writestr("model.weights.h5", good.read("model.weights.h5"))
    assert_same_weights(load(tmp_path / "no_config.keras"), trained)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external data", "virtual data"])
def test_an_h5_file_that_points_elsewhere_is_refused(tmp_path, trained, small, kind):
    path, other = tmp_path / "r18.weights.h5", tmp_path / "secret.h5"
    trained.save_weights(path)
    kernel = trained.get_layer("stem_conv").get_weights()[0]
    with h5py.File(other, "w") as h5:
        h5["0"] = kernel
    raw = tmp_path / "raw.bin"
    raw.write_bytes(kernel.tobytes())
    with h5py.File(path, "a") as h5:
        [variables] = [g["vars"] for g in h5["layers"].values() if g["vars"].attrs["name"] == "stem_conv"]
        del variables["0"]
        if kind == "external link":
            variables["0"] = h5py.ExternalLink(str(other), "/0")
        elif kind == "soft link":
            variables["0"] = h5py.SoftLink("/optimizer/vars/2")
        elif kind == "external data":
            variables.create_dataset("0", kernel.shape, "f4", external=[(str(raw), 0, kernel.nbytes)])
        else:
            layout = h5py.VirtualLayout(kernel.shape, "f4")
            layout[:] = h5py.VirtualSource(str(other), "0", kernel.shape)
            variables.create_virtual_dataset("0", layout)
    expected = "links are not followed" if kind.endswith("link") else "in another file, which is not read"
    assert expected in refusal(small, path)


def test_an_h5_file_that_declares_more_than_it_stores_is_refused(tmp_path, trained, small):
    path = tmp_path / "r18.weights.h5"
    trained.save_weights(path)
    with h5py.File(path, "a") as h5:
        [variables] = [g["vars"] for g in h5["layers"].values() if g["vars"].attrs["name"] == "stem_conv"]
        del variables["0"]
        variables.create_dataset("0", (1_000_000, 1_000_000, 3, 64), "f4", chunks=(1, 1, 3, 64))
    assert "stores 0 of the 768,000,000,000,000 bytes" in refusal(small, path)


# --- damaged and foreign files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".keras", ".weights.h5"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text"])
def test_damaged_files_are_refused_by_name(tmp_path, file, trained, small, state, suffix, damage):
    path = tmp_path / f"damaged{suffix}"
    if damage != "truncated":
        path.write_bytes({"empty": b"", "text": b"<html>404</html>"}[damage])
    elif suffix == ".safetensors":
        path.write_bytes(file.read_bytes())
    elif suffix == ".pth":
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(tensor) for name, tensor in state.items()}, path)
    elif suffix == ".keras":
        trained.save(path)
    else:
        trained.save_weights(path)
    if damage == "truncated":
        os.truncate(path, path.stat().st_size * 2 // 3)
    message = refusal(small, path)
    assert message.startswith(str(path))
    assert damage != "empty" or message.endswith("is empty")


def test_paths_that_are_no_weight_file(tmp_path, small):
    (tmp_path / "r18.onnx").write_bytes(b"x")
    (tmp_path / "r18.weights.json").write_text("{}")
    (tmp_path / "folder.keras").mkdir()
    assert "none of the known suffixes: .safetensors, .pth" in refusal(small, tmp_path / "r18.onnx")
    assert "index of weights in several files" in refusal(small, tmp_path / "r18.weights.json")
    assert "is a folder" in refusal(small, tmp_path / "folder.keras")
    assert "does not exist" in refusal(small, tmp_path / "absent.pth")
    assert "does not exist" in refusal(small, "absent.safetensors")
    assert "does not exist" in refusal(small, "absent.ckpt")


def test_pytorch_files_that_hold_something_else(tmp_path, small):
    torch = pytest.importorskip("torch")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    torch.save({"net": {"conv1.weight": torch.zeros(3)}, "epoch": 4}, tmp_path / "nested.pth")
    assert "it holds Tensor" in refusal(small, tmp_path / "tensor.pth")
    assert "top-level keys: 'net' (1 tensor), 'epoch' (int)" in refusal(small, tmp_path / "nested.pth")


def test_a_pytorch_file_without_pytorch_names_the_extra(tmp_path, small, monkeypatch):
    (tmp_path / "r18.pth").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"keras-resnet-kit\[torch\]"):
        load_weights(small, RESNET18, tmp_path / "r18.pth")


def test_an_h5_file_without_layer_names(tmp_path, trained, small):
    path = tmp_path / "old.weights.h5"
    trained.save_weights(path)
    with h5py.File(path, "a") as h5:
        for group in h5["layers"].values():
            del group["vars"].attrs["name"]
    assert "does not name the layer" in refusal(small, path)


def test_h5_and_zip_files_of_other_make(tmp_path, small):
    with h5py.File(tmp_path / "other.weights.h5", "w") as h5:
        h5["data"] = np.zeros(3)
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "holds no layer's weights" in refusal(small, tmp_path / "other.weights.h5")
    assert "no member 'model.weights.h5'" in refusal(small, tmp_path / "other.keras")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")]).save(tmp_path / "dense.keras")
    message = refusal(small, tmp_path / "dense.keras")
    assert "no layer has a name of this package's networks" in message
    assert "unknown (2):\n  d/0\n  d/1" in message
