"""Files that hold no weights for a network here: the message says what each is, and what to do."""

import json
import pickle
import re
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
from resnet18_files import refusal
from safetensors.numpy import save_file

from keras_resnet.errors import WeightsError
from keras_resnet.variants import VARIANTS
from keras_resnet.weight_files import read_weight_file
from keras_resnet.weights import load_weights

torch = pytest.importorskip("torch")


@pytest.fixture(scope="session")
def tensors(state):
    return {name: torch.from_numpy(np.array(tensor)) for name, tensor in state.items()}


# --- pickles ------------------------------------------------------------------------------------------------------


def lines_of(path):
    """-> the lines that the message has for the user, run as they are printed."""
    with pytest.raises(WeightsError) as refused:
        read_weight_file(path)
    message, *lines = str(refused.value).split("\n")
    exec("\n".join(map(str.strip, lines)), {"torch": torch})  # noqa: S102
    return message, path.with_name(f"{path.name.partition('.')[0]}-weights.pth")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (lambda net: net, "as a whole model"),
        (lambda net: {"epoch": 3, "model": net}, "as a whole model"),
        (lambda net: {"hyper_parameters": {"net": net}, "state_dict": net.state_dict()}, "beside its weights"),
        (lambda net: {**net.state_dict(), "extra": net}, "beside its weights"),
    ],
)
def test_the_lines_for_a_refused_object_save_its_tensors(content, what, old, tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))
    path = tmp_path / "best.model.pt"
    torch.save(content(net), path, _use_new_zipfile_serialization=not old)
    message, new = lines_of(path)
    assert f"holds Python objects other than tensors (torch.nn.modules.container.Sequential) {what}" in message
    np.testing.assert_array_equal(read_weight_file(new).tensors["0.weight"].read(), net.state_dict()["0.weight"])


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("payload", "named"),
    [(Calls(eval, "1"), "calls eval on loading"), (Calls(pickle.loads, b""), "calls pickle.loads on loading")],
)
def test_a_file_that_calls_a_function_gets_no_lines(payload, named, tmp_path, small):
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "x": payload}, tmp_path / "x.pth")
    message = refusal(small, tmp_path / "x.pth")
    assert named in message
    assert "weights_only" not in message
    assert ("It may be an attack" in message) == ("eval" in named)


def test_a_plain_pickle_is_named(tmp_path, small):
    content = {"model": {"stem.conv1.weight": np.zeros(3)}, "__author__": "me"}
    for protocol in (2, 4, 5):
        (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content, protocol))
        assert "is a plain pickle, which torch.save did not write" in refusal(small, tmp_path / "R-50.pkl")


def test_another_protocol_of_pickle_is_named(tmp_path, small):
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth", pickle_protocol=4)
    assert "was saved with protocol 4 of pickle" in refusal(small, tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "is quantized"),
        (lambda tensor: tensor.to_sparse(), r"is sparse; save tensor\.to_dense\(\)"),
        (lambda tensor: tensor.to("meta"), "is on the device meta, without values"),
    ],
)
def test_tensors_without_plain_values_are_named(changed, what, tmp_path, tensors, small):
    torch.save({**tensors, "layer1.0.conv1.weight": changed(tensors["layer1.0.conv1.weight"])}, tmp_path / "x.pth")
    assert re.search(rf"the tensor layer1\.0\.conv1\.weight {what}", refusal(small, tmp_path / "x.pth"))


# --- other kinds of files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\n\n  <!DOCTYPE html>\n<html>", "is a page of HTML"),
        (b'<?xml version="1.0"?><Error>', "is a text and not a file of weights; it begins with '<?xml"),
        (b"Not Found\n", "is a text and not a file of weights; it begins with 'Not Found'"),
        (b"\x1c\0\0\0TFL3" + bytes(20), "is a TFLite file and holds no weights"),
        (b"\x08\x08\x12\x07pytorch\x1a\x03" + bytes(20), "is an ONNX file and holds no weights"),
        (b"\x82\xa6params\x81", "is a file of Flax (MessagePack)"),
        (b"PK\x03\x04" + bytes(200), "is the beginning of an archive, and its end is missing"),
    ],
)
@pytest.mark.parametrize("name", ["x.pth", "x.ckpt"])
def test_strangers_are_named_under_any_suffix(name, content, what, tmp_path, small):
    (tmp_path / name).write_bytes(content)
    assert what in refusal(small, tmp_path / name)


def test_archives_of_other_things_are_named(tmp_path, small):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("resnet18.pth", b"")
    assert "is a zip archive of other files ('resnet18.pth'): unpack it" in refusal(small, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as archive:
        archive.writestr("x/archive_format", b"pt2")
    assert "torch.save(torch.export.load(path).state_dict, new_path)" in refusal(small, tmp_path / "x.pt2")
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    assert "is a file of PyTorch before version 0.1.10" in refusal(small, tmp_path / "old.pth")


def test_files_of_tensorflow_are_named(tmp_path, small):
    for name in ("ckpt-1.index", "ckpt-1.data-00000-of-00001", "frozen.pb"):
        (tmp_path / name).write_bytes(bytes(50))
        assert "is of a SavedModel or checkpoint of TensorFlow" in refusal(small, tmp_path / name)


def test_weights_in_several_files_become_one(tmp_path, state, small):
    names = list(state)
    for number, part in ((1, names[:60]), (2, names[60:])):
        save_file({name: state[name] for name in part}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {}}))
    for path in (tmp_path, tmp_path / "model-00001-of-00002.safetensors", tmp_path / "model.safetensors.index.json"):
        message = refusal(small, path)
        assert "in several files" in message
    code = message[message.index("import glob") :].replace("'whole.pth'", repr(str(tmp_path / "whole.pth")))
    exec(code, {})  # noqa: S102
    load_weights(small, VARIANTS["resnet18"], tmp_path / "whole.pth")


def test_a_folder_names_the_files_that_are_in_it(tmp_path, small):
    (tmp_path / "checkpoint").mkdir()
    for name in ("bf16_zero_optim_states.pt", "mp_rank_00_model_states.pt"):  # as DeepSpeed makes it
        (tmp_path / "checkpoint" / name).write_bytes(b"x")
    assert "Give a file that is in it: checkpoint/mp_rank_00_model_states.pt, " in refusal(small, tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    assert "is a SavedModel and holds no weights that can be read" in refusal(small, tmp_path)
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    assert "is a folder of torch.distributed.checkpoint" in refusal(small, tmp_path)


def test_keras_applications_as_a_layer_of_another_model_is_named(tmp_path, small):
    with h5py.File(tmp_path / "own.h5", "w") as h5:
        h5.attrs["keras_version"] = "2.12"
        h5["model_weights/resnet50/conv2_block1_1_conv/kernel:0"] = np.zeros((1, 1, 64, 64), "f4")
    assert "a ResNet of keras.applications, which has the stride" in refusal(small, tmp_path / "own.h5")


# --- other networks -----------------------------------------------------------------------------------------------


def changed_names(state, pattern, replacement):
    return {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}


def one(name, *shape):
    return lambda state: {**state, name: np.zeros(shape, "f4")}


def masked(state):
    added = {f"{name}_mask": tensor for name, tensor in state.items() if tensor.ndim == 4}
    return {f"{name}_orig" if tensor.ndim == 4 else name: tensor for name, tensor in state.items()} | added


LOOKALIKES = {
    "pruned": (masked, "its weights are pruned with masks"),
    "weight norm": (
        lambda state: changed_names(state, r"(conv\d)\.weight", r"\1.parametrizations.weight.original1"),
        "its weights are parametrised",
    ),
    "prepared for quantization": (one("conv1.weight_fake_quant.scale", 1), "it is quantized, or prepared for that"),
    "SE": (one("layer1.0.se.fc1.weight", 4, 64, 1, 1), "its blocks have attention"),
    "ECA": (one("layer1.0.se.conv.weight", 1, 1, 3), "its blocks have attention"),
    "Res2Net": (one("layer1.0.convs.0.weight", 8, 8, 3, 3), "its blocks are split into scales"),
    "ResNeSt": (
        lambda state: changed_names(state, r"(layer\d\.\d\.conv2)\.", r"\1.conv."),
        "its blocks have split attention",
    ),
    "deep stem": (
        lambda state: changed_names(state, r"^conv1\.weight", "conv1.0.weight"),
        "its stem is three convolutions of 3x3",
    ),
    "kuangliu": (
        lambda state: changed_names(state, "downsample", "shortcut"),
        "it has the names of a network for CIFAR",
    ),
    "GroupNorm": (
        lambda state: {name: tensor for name, tensor in state.items() if "running" not in name},
        "its normalisation has no running statistics",
    ),
    "folded": (
        lambda state: changed_names(
            {name: tensor for name, tensor in state.items() if "bn" not in name or name.endswith(".bias")},
            r"(layer.*)\.bn(\d)\.bias",
            r"\1.conv\2.bias",
        ),
        "its BatchNorm is folded into the convolutions",
    ),
    "10 layers": (
        lambda state: {name: tensor for name, tensor in state.items() if not re.match(r"layer\d\.1", name)},
        "its stages have 1, 1, 1, 1 blocks, and the model's have 2, 2, 2, 2",
    ),
    "CIFAR": (one("conv1.weight", 64, 3, 3, 3), "its first convolution is 3x3 instead of 7x7"),
    "4 channels": (one("conv1.weight", 64, 4, 7, 7), "it takes 4 input channels: build the network with input_shape"),
    "Wide": (one("layer1.0.conv2.weight", 128, 128, 3, 3), "its first stage is 128 channels wide instead of 64"),
    "ResNeXt": (one("layer1.0.conv2.weight", 128, 4, 3, 3), "its convolutions have 32 groups"),
}


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_another_network_is_named(kind, tmp_path, state, small):
    change, what = LOOKALIKES[kind]
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in change(state).items()}, tmp_path / "x.safetensors"
    )
    assert f"likely cause: {what}" in refusal(small, tmp_path / "x.safetensors")


def test_the_architecture_that_a_file_states_is_repeated(tmp_path, tensors, small):
    short = {name: tensor for name, tensor in tensors.items() if name != "layer4.1.bn2.bias"}
    torch.save({"arch": "resnet\x1b[1m18x", "state_dict": short}, tmp_path / "x.pth")
    assert "likely cause: another network; the file states that it is a resnet\\x1b[1m18x" in refusal(
        small, tmp_path / "x.pth"
    )


@pytest.mark.parametrize("name", ["resnetblur18", "resnetaa50", "seresnetaa50d"])
def test_a_network_with_the_same_tensors_is_refused_by_its_name(name, tmp_path, tensors, small):
    torch.save({"arch": name, "state_dict": tensors}, tmp_path / "x.pth")
    assert f"states that it is a {name}, which blurs its feature maps" in refusal(small, tmp_path / "x.pth")


def test_two_layers_that_could_be_the_head_are_named(tmp_path, tensors, small):
    content = {f"net.{name}": tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    for head in ("genre", "style"):
        content |= {f"{head}.weight": tensors["fc.weight"], f"{head}.bias": tensors["fc.bias"]}
    torch.save(content, tmp_path / "x.pth")
    assert "the file has 2 layers that could be the head: 'genre', 'style'" in refusal(small, tmp_path / "x.pth")
