"""Weight files into networks. The state dicts here are written out by hand from torchvision's ResNet-18."""

import copy
import json
import pickle
import re
import struct
import sys
import warnings
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from huggingface_hub import errors as hub_errors
from safetensors.numpy import save_file

from keras_resnet.errors import MissingDependencyError, WeightsError
from keras_resnet.models import BUILDERS, ResNet18
from keras_resnet.variants import VARIANTS, InputContract
from keras_resnet.weights import load_weights, resolve_weights, torchvision_names

RESNET18 = VARIANTS["resnet18"]
SHAPE = (32, 32, 3)


def resnet18_shapes(channels: int = 3, classes: int = 1000) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, channels, 7, 7), "bn1": (64,)}
    inputs = 64
    for layer, width in ((1, 64), (2, 128), (3, 256), (4, 512)):
        for block in (0, 1):
            shapes[f"layer{layer}.{block}.conv1.weight"] = (width, inputs, 3, 3)
            shapes[f"layer{layer}.{block}.bn1"] = (width,)
            shapes[f"layer{layer}.{block}.conv2.weight"] = (width, width, 3, 3)
            shapes[f"layer{layer}.{block}.bn2"] = (width,)
            if block == 0 and layer > 1:
                shapes[f"layer{layer}.0.downsample.0.weight"] = (width, inputs, 1, 1)
                shapes[f"layer{layer}.0.downsample.1"] = (width,)
            inputs = width
    return shapes | {"fc.weight": (classes, 512), "fc.bias": (classes,)}


def resnet18_state(seed: int = 0, channels: int = 3, classes: int = 1000) -> dict[str, np.ndarray]:
    """Seeded state dict, every tensor random; the residual branches speak."""
    generator = np.random.default_rng(seed)
    state: dict[str, np.ndarray] = {}
    for name, shape in resnet18_shapes(channels, classes).items():
        if "bn" in name or "downsample.1" in name:
            state[f"{name}.weight"] = generator.uniform(0.4, 1.2, shape)
            state[f"{name}.bias"] = generator.normal(0, 0.2, shape)
            state[f"{name}.running_mean"] = generator.normal(0, 0.2, shape)
            state[f"{name}.running_var"] = generator.uniform(0.5, 2, shape)
        else:
            state[name] = generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    state = {name: value.astype(np.float32) for name, value in state.items()}
    return state | {"bn1.num_batches_tracked": np.array(7)}


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return resnet18_state()


@pytest.fixture(scope="module")
def file(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "r18.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def loaded(file) -> keras.Model:
    return ResNet18(weights=file, input_shape=SHAPE, classifier_activation=None)


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """A network to load into where the file is at fault; it must stay as it is."""
    return ResNet18(input_shape=SHAPE)


def value(model: keras.Model, layer: str, index: int = 0) -> np.ndarray:
    return model.get_layer(layer).get_weights()[index]


def save(tmp_path: Path, state: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "file.safetensors"
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in state.items()}, path)
    return path


def refusal(model: keras.Model, path: Path | str) -> str:
    """Message with which the file is refused; the model is seen to stay untouched."""
    before = [weight.copy() for weight in model.get_weights()]
    with pytest.raises(WeightsError) as refused:
        load_weights(model, VARIANTS[model.name], path)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    return str(refused.value)


# --- the name map -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_the_map_reaches_every_variable_once(name):
    model = BUILDERS[name](input_shape=SHAPE)
    sizes = {(layer.name, v.name): int(np.prod(v.shape)) for layer in model.layers for v in layer.weights}
    targets = list(torchvision_names(VARIANTS[name]).values())
    assert len(set(targets)) == len(targets)
    assert set(targets) == set(sizes)
    trainable = sum(sizes[target] for target in targets if not target[1].startswith("moving_"))
    assert trainable == VARIANTS[name].parameters


def test_torchvision_names_of_resnet18_are_those_written_by_hand(state):
    assert set(torchvision_names(RESNET18)) == set(state) - {"bn1.num_batches_tracked"}


@pytest.mark.parametrize(
    ("name", "layer", "variable"),
    [
        ("resnet50", "layer1.0.downsample.1.running_mean", ("stage2_block1_shortcut_bn", "moving_mean")),
        ("resnet50", "layer4.2.conv3.weight", ("stage5_block3_3_conv", "kernel")),
        ("resnet101", "layer3.22.bn2.running_var", ("stage4_block23_2_bn", "moving_variance")),
        ("resnet152", "layer2.7.bn1.bias", ("stage3_block8_1_bn", "beta")),
        ("resnet34", "layer3.5.conv2.weight", ("stage4_block6_2_conv", "kernel")),
    ],
)
def test_names_of_deeper_networks(name, layer, variable):
    assert torchvision_names(VARIANTS[name])[layer] == variable


def test_each_tensor_lands_where_it_belongs(loaded, state):
    def hwio(name):
        return np.einsum("oihw->hwio", state[name])

    for layer, name in (
        ("stem_conv", "conv1.weight"),
        ("stage2_block1_1_conv", "layer1.0.conv1.weight"),
        ("stage2_block2_2_conv", "layer1.1.conv2.weight"),
        ("stage3_block1_1_conv", "layer2.0.conv1.weight"),
        ("stage4_block1_shortcut_conv", "layer3.0.downsample.0.weight"),
        ("stage5_block2_2_conv", "layer4.1.conv2.weight"),
    ):
        np.testing.assert_array_equal(value(loaded, layer), hwio(name))
    for layer, name in (
        ("stem_bn", "bn1"),
        ("stage2_block1_2_bn", "layer1.0.bn2"),
        ("stage4_block1_shortcut_bn", "layer3.0.downsample.1"),
        ("stage5_block2_1_bn", "layer4.1.bn1"),
    ):
        bn = loaded.get_layer(layer)
        np.testing.assert_array_equal(bn.gamma, state[f"{name}.weight"])
        np.testing.assert_array_equal(bn.beta, state[f"{name}.bias"])
        np.testing.assert_array_equal(bn.moving_mean, state[f"{name}.running_mean"])
        np.testing.assert_array_equal(bn.moving_variance, state[f"{name}.running_var"])
    np.testing.assert_array_equal(value(loaded, "logits", 0), state["fc.weight"].T)
    np.testing.assert_array_equal(value(loaded, "logits", 1), state["fc.bias"])


def torch_resnet18(state: dict[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Pixels 0..255 `[N, H, W, 3]` -> logits, by PyTorch's functions and torchvision's names alone."""
    import torch
    import torch.nn.functional as f

    p = {name: torch.from_numpy(tensor) for name, tensor in state.items()}

    def bn(x, name):
        return f.batch_norm(
            x, p[f"{name}.running_mean"], p[f"{name}.running_var"], p[f"{name}.weight"], p[f"{name}.bias"], eps=1e-5
        )

    x = torch.from_numpy(pixels.astype(np.float32) / 255)
    x = ((x - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])).permute(0, 3, 1, 2)
    x = f.relu(bn(f.conv2d(x, p["conv1.weight"], stride=2, padding=3), "bn1"))
    x = f.max_pool2d(x, 3, stride=2, padding=1)
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            at, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = f.relu(bn(f.conv2d(x, p[f"{at}.conv1.weight"], stride=stride, padding=1), f"{at}.bn1"))
            y = bn(f.conv2d(y, p[f"{at}.conv2.weight"], padding=1), f"{at}.bn2")
            if f"{at}.downsample.0.weight" in p:
                x = bn(f.conv2d(x, p[f"{at}.downsample.0.weight"], stride=stride), f"{at}.downsample.1")
            x = f.relu(y + x)
    return f.linear(x.mean(dim=(2, 3)), p["fc.weight"], p["fc.bias"]).numpy()


def test_logits_equal_an_independent_pytorch_forward(file, state):
    pytest.importorskip("torch")
    model = ResNet18(weights=file, input_shape=(None, None, 3), classifier_activation=None)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 64, 80, 3), dtype=np.uint8)
    reference = torch_resnet18(state, pixels)
    logits = model.predict(pixels, verbose=0)
    assert np.abs(logits - reference).max() / np.abs(reference).max() <= 5e-6
    alone = model.predict(pixels[:1], verbose=0)
    assert np.abs(alone - reference[:1]).max() / np.abs(reference).max() <= 5e-6


# --- file formats -------------------------------------------------------------------------------------------------


def assert_same_weights(model: keras.Model, expected: keras.Model, rtol: float = 0) -> None:
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol)


def load(path: Path | str, **arguments) -> keras.Model:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ResNet18(weights=path, input_shape=SHAPE, **arguments)


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
def test_pytorch_files(tmp_path, state, small, suffix, nesting, loaded):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(tensor) for name, tensor in state.items()}
    if nesting:
        tensors = {nesting: {f"module.{name}": tensor for name, tensor in tensors.items()}, "epoch": 3}
    path = tmp_path / f"r18{suffix}"
    torch.save(tensors, path)
    model = keras.models.clone_model(small)
    load_weights(model, RESNET18, path)
    assert_same_weights(model, loaded)


def test_pytorch_parameters_and_bfloat16(tmp_path, state, small, loaded):
    torch = pytest.importorskip("torch")
    path = tmp_path / "r18.pth"
    torch.save({name: torch.from_numpy(tensor).bfloat16().requires_grad_() for name, tensor in state.items()}, path)
    model = keras.models.clone_model(small)
    load_weights(model, RESNET18, path)
    assert_same_weights(model, loaded, rtol=2**-8)


@pytest.fixture(scope="module")
def trained(loaded) -> keras.Model:
    """Compiled, with an optimizer's state to be left aside, and layers frozen, which must not change the order."""
    model = keras.models.clone_model(loaded)
    model.set_weights(loaded.get_weights())
    model.get_layer("stem_bn").trainable = False
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.default_rng(2).uniform(0, 255, (4, *SHAPE)), np.arange(4), verbose=0)
    return model


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_keras_files(tmp_path, trained, suffix):
    path = tmp_path / f"trained{suffix}"
    trained.save(path) if suffix == ".keras" else trained.save_weights(path)
    assert_same_weights(load(path), trained)


def test_keras_file_in_bfloat16(tmp_path, trained, small):
    keras.config.set_dtype_policy("bfloat16")
    try:
        half = ResNet18(input_shape=SHAPE)
        half.set_weights(trained.get_weights())
    finally:
        keras.config.set_dtype_policy("float32")
    half.save_weights(tmp_path / "half.weights.h5")
    model = keras.models.clone_model(small)
    load_weights(model, RESNET18, tmp_path / "half.weights.h5")
    assert_same_weights(model, trained, rtol=2**-8)


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
    assert "followed" in refusal(small, path)


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
    if suffix == ".safetensors":
        path.write_bytes(file.read_bytes())
    elif suffix == ".pth":
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(tensor) for name, tensor in state.items()}, path)
    elif suffix == ".keras":
        trained.save(path)
    else:
        trained.save_weights(path)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": whole[: len(whole) * 2 // 3], "text": b"<html>404</html>"}[damage])
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


def test_pytorch_files_that_hold_something_else(tmp_path, small):
    torch = pytest.importorskip("torch")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    torch.save({"net": {"conv1.weight": torch.zeros(3)}, "epoch": 4}, tmp_path / "nested.pth")
    assert "it holds Tensor" in refusal(small, tmp_path / "tensor.pth")
    assert "no tensors: net, epoch" in refusal(small, tmp_path / "nested.pth")


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
    assert "does not say which layer" in refusal(small, path)


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


# --- checks -------------------------------------------------------------------------------------------------------


def test_all_problems_are_listed_at_once(tmp_path, state, small):
    broken = {name: tensor.copy() for name, tensor in state.items()}
    del broken["layer4.1.bn2.bias"]
    broken["extra.weight"] = np.zeros(3, np.float32)
    broken["layer2.0.conv1.weight"] = broken["layer2.0.conv1.weight"][:, :, :2]
    broken["layer1.0.conv1.weight"][5, 4, 1, 2] = np.inf
    broken["fc.bias"][999] = np.nan
    broken["bn1.running_var"][3] = -0.25
    broken["bn1.bias"] = broken["bn1.bias"].astype(np.int32)
    message = refusal(small, save(tmp_path, broken))
    for line in (
        "missing (1):\n  layer4.1.bn2.bias -> stage5_block2_2_bn/beta",
        "unknown (1):\n  extra.weight",
        "misshaped (1):\n  layer2.0.conv1.weight -> stage3_block1_1_conv/kernel: "
        "(128, 64, 2, 3), must be (128, 64, 3, 3)",
        "non-finite (2):\n  layer1.0.conv1.weight -> stage2_block1_1_conv/kernel: 1 of 36,864 values\n  fc.bias",
        "negative variance (1):\n  bn1.running_var -> stem_bn/moving_variance: down to -0.25",
        "not floating point (1):\n  bn1.bias -> stem_bn/beta: int32",
        "nothing was loaded",
    ):
        assert line in message


def test_the_last_tensor_at_fault_leaves_the_model_untouched(tmp_path, state, small):
    assert "fc.bias" in refusal(small, save(tmp_path, {**state, "fc.bias": np.full(1000, np.nan, np.float32)}))


def test_float64_beyond_float32_is_not_finite(tmp_path, state, small):
    huge = state["bn1.bias"].astype(np.float64)
    huge[0] = 1e300
    assert "non-finite (1):\n  bn1.bias" in refusal(small, save(tmp_path, {**state, "bn1.bias": huge}))


@pytest.mark.parametrize("suffix", [".safetensors", ".keras"])
def test_wrong_depth_is_named_as_the_cause(tmp_path, file, trained, suffix):
    path = file
    if suffix == ".keras":
        path = tmp_path / "r18.keras"
        trained.save(path)
    message = refusal(BUILDERS["resnet34"](input_shape=SHAPE), path)
    assert "these are the weights of a resnet18, and the model is a resnet34" in message
    assert re.search(r"missing \(\d\d+\):(\n  \S.*){10}\n  \.\.\. and \d+ more", message)


def test_other_widths_and_other_names_are_named_as_the_cause(tmp_path, state, small):
    wide = {**state, "layer1.0.conv1.weight": np.zeros((128, 64, 3, 3), np.float32)}
    assert "Wide ResNet" in refusal(small, save(tmp_path, wide))
    prefixed = {f"backbone.{name}": tensor for name, tensor in state.items()}
    assert "names with a prefix" in refusal(small, save(tmp_path, prefixed))


# --- head ---------------------------------------------------------------------------------------------------------


def test_without_a_head_the_files_head_is_left_aside(file, trained, tmp_path, loaded):
    model = load(file, include_top=False)
    assert_same_weights(model, keras.Model(loaded.input, loaded.get_layer("stage5_block2_out").output))
    trained.save(tmp_path / "trained.keras")
    model = load(tmp_path / "trained.keras", include_top=False, pooling="avg")
    np.testing.assert_array_equal(value(model, "stage5_block2_2_bn", 2), value(trained, "stage5_block2_2_bn", 2))


@pytest.mark.parametrize("suffix", [".safetensors", ".weights.h5"])
def test_another_number_of_classes_leaves_the_head_fresh_and_says_so(file, loaded, tmp_path, suffix):
    path = file
    if suffix == ".weights.h5":
        path = tmp_path / "r18.weights.h5"
        loaded.save_weights(path)
    keras.utils.set_random_seed(0)
    untouched = ResNet18(input_shape=SHAPE, classes=37)
    keras.utils.set_random_seed(0)
    with pytest.warns(UserWarning, match=r"the model has 37 classes, .*r18\S* has 1000") as caught:
        model = ResNet18(weights=path, input_shape=SHAPE, classes=37)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(value(model, "logits"), value(untouched, "logits"))
    np.testing.assert_array_equal(value(model, "stage5_block2_2_conv"), value(loaded, "stage5_block2_2_conv"))


def test_a_file_without_a_head_for_a_model_with_one(tmp_path, state, small, loaded):
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    path = save(tmp_path, body)
    assert "include_top=False" in refusal(small, path)
    assert_same_weights(load(path, include_top=False), keras.Model(loaded.input, loaded.layers[-3].output))


def test_half_a_head_and_a_crooked_head_are_refused(tmp_path, state, small):
    half = {name: tensor for name, tensor in state.items() if name != "fc.bias"}
    assert "missing (1):\n  fc.bias" in refusal(small, save(tmp_path, half))
    crooked = {**state, "fc.weight": state["fc.weight"][:37]}
    assert "fc.weight -> logits/kernel: (37, 512), must be (1000, 512)" in refusal(small, save(tmp_path, crooked))


# --- stem ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "sources"), [(2, [0, 1]), (4, [0, 1, 2, 0]), (5, [0, 1, 2, 0, 1]), (6, [0, 1, 2, 0, 1, 2])]
)
def test_the_stem_is_repeated_over_channels(file, state, channels, sources):
    model = ResNet18(weights=file, input_shape=(32, 32, channels))
    kernel = value(model, "stem_conv")
    assert kernel.shape == (7, 7, channels, 64)
    for channel, source in enumerate(sources):
        expected = np.einsum("ohw->hwo", state["conv1.weight"][:, source]) * (3 / channels)
        np.testing.assert_allclose(kernel[:, :, channel], expected, rtol=1e-6)


def test_the_stem_is_summed_for_one_channel(file, state):
    kernel = value(ResNet18(weights=file, input_shape=(32, 32, 1)), "stem_conv")
    expected = np.einsum("oihw->hwo", state["conv1.weight"])[:, :, None]
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-6)


def test_a_stem_of_other_than_three_channels_fits_only_its_like(tmp_path, small):
    state = resnet18_state(channels=4)
    path = save(tmp_path, state)
    message = refusal(small, path)
    assert "conv1.weight -> stem_conv/kernel: (64, 4, 7, 7), must be (64, 3, 7, 7)" in message
    kernel = value(ResNet18(weights=path, input_shape=(32, 32, 4)), "stem_conv")
    np.testing.assert_array_equal(kernel, np.einsum("oihw->hwio", state["conv1.weight"]))


# --- sources ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stands in for the Hub: serves `hub.files[repo, name]`, raises what is an exception, and keeps the requests."""

    class Hub:
        def __init__(self) -> None:
            self.files: dict = {}
            self.requests: list = []

    hub = Hub()

    def download(repo_id: str, filename: str) -> str:
        hub.requests.append((repo_id, filename))
        answer = hub.files.get((repo_id, filename), hub_errors.EntryNotFoundError(f"404: no {filename}"))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return hub


@pytest.mark.parametrize("name", VARIANTS)
def test_every_tag_names_its_repository(hub, name):
    for tag in VARIANTS[name].weights:
        hub.files[f"timm/{name}.{tag}", "model.safetensors"] = f"/cache/{tag}"
        assert resolve_weights(VARIANTS[name], tag) == (Path(f"/cache/{tag}"), VARIANTS[name].weights[tag].contract)
    hub.requests.clear()
    resolve_weights(VARIANTS[name], "imagenet")
    assert hub.requests == [(f"timm/{name}.tv_in1k", "model.safetensors")]


def test_imagenet_loads_through_the_constructor(hub, file, loaded):
    hub.files["timm/resnet18.tv_in1k", "model.safetensors"] = file
    assert_same_weights(load("imagenet"), loaded)


def test_a_tag_wins_over_a_file_of_its_name_and_a_path_object_never_means_a_tag(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("imagenet").write_bytes(b"x")
    hub.files["timm/resnet18.tv_in1k", "model.safetensors"] = "/cache/x"
    assert resolve_weights(RESNET18, "imagenet") == (Path("/cache/x"), InputContract(224, 256, "bilinear"))
    assert resolve_weights(RESNET18, Path("imagenet")) == (Path("imagenet"), None)
    assert len(hub.requests) == 1


def test_a_repository_without_config_is_taken_as_it_is(hub, file, loaded):
    hub.files["me/my-resnet", "model.safetensors"] = file
    assert_same_weights(load("hf://me/my-resnet"), loaded)
    assert hub.requests == [("me/my-resnet", "config.json"), ("me/my-resnet", "model.safetensors")]


@pytest.mark.parametrize(
    ("statistics", "wrong"),
    [
        ({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, None),
        ({"mean": [0.5, 0.5, 0.5], "std": [0.229, 0.224, 0.225]}, "mean [0.5, 0.5, 0.5]"),
        ({"mean": [0.485, 0.456, 0.406], "std": [0.5, 0.5, 0.5]}, "std [0.5, 0.5, 0.5]"),
        ({"mean": [0.406, 0.456, 0.485]}, "mean [0.406, 0.456, 0.485]"),
        ({"mean": 0.45}, "mean 0.45"),
        ({}, None),
    ],
)
def test_other_pixel_statistics_are_refused_where_the_network_normalises(hub, tmp_path, file, statistics, wrong):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": statistics}))
    hub.files = {("me/r", "config.json"): config, ("me/r", "model.safetensors"): file}
    if wrong is None:
        load("hf://me/r")
        return
    with pytest.raises(WeightsError, match=re.escape(wrong)) as refused:
        load("hf://me/r")
    assert "include_preprocessing=False" in str(refused.value)
    load("hf://me/r", include_preprocessing=False)


@pytest.mark.parametrize("text", ["{ not json", '{"pretrained_cfg": {"mean": ["a", "b", "c"]}}'])
def test_an_unreadable_config_is_an_error(hub, tmp_path, text):
    config = tmp_path / "config.json"
    config.write_text(text)
    hub.files = {("me/r", "config.json"): config}
    with pytest.raises(WeightsError, match=r"hf://me/r has a config\.json that can't be read"):
        resolve_weights(RESNET18, "hf://me/r")


@pytest.mark.parametrize(
    "error",
    [
        hub_errors.LocalEntryNotFoundError("cannot reach the Hub and it is not in the cache"),
        hub_errors.OfflineModeIsEnabled("offline mode is enabled"),
        OSError("403 Client Error: gated repo"),
        TimeoutError(),
    ],
)
@pytest.mark.parametrize("weights", ["a1_in1k", "hf://me/private"])
def test_a_failed_download_names_the_file_and_the_way_by_path(hub, error, weights):
    repository = "me/private" if weights.startswith("hf") else "timm/resnet18.a1_in1k"
    hub.files = {(repository, "model.safetensors"): error, (repository, "config.json"): error}
    with pytest.raises(WeightsError) as refused:
        resolve_weights(RESNET18, weights)
    message = str(refused.value)
    assert f"https://huggingface.co/{repository}/resolve/main/model.safetensors" in message
    assert 'weights="model.safetensors"' in message
    assert (str(error) or type(error).__name__) in message


def test_really_offline(monkeypatch, tmp_path):
    """Without the stand-in: the client is in offline mode, with an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"huggingface\.co/timm/resnet18\.tv_in1k/resolve/main/model\.safetensors"):
        ResNet18(weights="imagenet", input_shape=SHAPE)
    with pytest.raises(WeightsError, match=r"huggingface\.co/me/r/resolve/main/model\.safetensors"):
        ResNet18(weights="hf://me/r", input_shape=SHAPE)


TIMM_CONFIG = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center"}


@pytest.mark.parametrize(
    ("weights", "config", "contract"),
    [
        ("imagenet", None, InputContract(224, 256, "bilinear")),
        ("a1_in1k", None, InputContract(224, 235, "bicubic")),
        ("hf://timm/resnet18.a1_in1k", None, InputContract(224, 235, "bicubic")),
        ("hf://timm/resnet18.a1_in1k/", None, InputContract(224, 235, "bicubic")),
        ("hf://me/r", None, None),
        ("hf://me/r", {}, None),
        ("hf://me/r", TIMM_CONFIG, InputContract(224, 235, "bicubic")),
        ("hf://me/r", TIMM_CONFIG | {"crop_pct": 0.875, "interpolation": "bilinear"}, InputContract(224, 256)),
        ("hf://me/r", TIMM_CONFIG | {"input_size": [3, 288, 288]}, None),
        ("hf://me/r", TIMM_CONFIG | {"interpolation": "random"}, None),
        ("hf://me/r", TIMM_CONFIG | {"crop_pct": 0}, None),
        ("hf://me/r", TIMM_CONFIG | {"crop_pct": "95"}, None),
        ("hf://me/r", TIMM_CONFIG | {"crop_mode": "squash"}, None),
    ],
)
def test_the_input_contract_travels_with_the_weights(hub, file, tmp_path, weights, config, contract):
    repository = weights.removeprefix("hf://").rstrip("/") if "/" in weights else f"timm/resnet18.{weights}"
    hub.files[repository.replace("imagenet", "tv_in1k"), "model.safetensors"] = file
    if config is not None:
        hub.files["me/r", "config.json"] = tmp_path / "config.json"
        (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": config}))
    model = load(weights)
    assert model.input_contract == contract
    load_weights(model, RESNET18, file)  # a file states none, and the former one no longer holds
    assert model.input_contract is None


def test_a_model_with_a_contract_is_copied_and_saved_like_any_other(hub, file, loaded, tmp_path):
    hub.files["timm/resnet18.a1_in1k", "model.safetensors"] = file
    model = load("a1_in1k")
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for other in (
        keras.models.load_model(tmp_path / "model.keras"),
        load(tmp_path / "model.weights.h5"),
        copy.deepcopy(model),
    ):
        assert_same_weights(other, loaded)
    assert keras.models.clone_model(model).get_config() == model.get_config()


@pytest.mark.parametrize(
    ("weights", "tag"),
    [
        ("imagenet", "tv_in1k"),
        ("tv_in1k", "tv_in1k"),
        ("hf://timm/resnet18.a3_in1k", "a3_in1k"),
        ("hf://timm/resnet50.a3_in1k", None),
        ("hf://me/resnet18.a3_in1k", None),
        ("hf://timm/resnet18.fb_ssl", None),
        ("hf://timm/resnet18.imagenet", None),
        ("a1_in1k/", None),
        ("tv2_in1k", None),
        (Path("imagenet"), None),
        (None, None),
    ],
)
def test_what_means_a_tag(weights, tag):
    assert RESNET18.tag_of(weights) == tag


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("imagnet", "did you mean 'imagenet'?"),
        ("ImageNet", "did you mean 'imagenet'?"),
        ("a1_in1", "did you mean 'a1_in1k'?"),
        ("tv2_in1k", "published for resnet50, resnet101, resnet152 only"),
        ("zzzz", "tv_in1k, a1_in1k, a2_in1k, a3_in1k"),
        ("hf://owner", "must read 'hf://owner/repository'"),
        ("hf://owner/../x", "must read 'hf://owner/repository'"),
        (True, "Received: weights=True"),
        ("some/where", "does not exist"),
    ],
)
def test_sources_that_mean_nothing(hub, word, hint):
    with pytest.raises(WeightsError, match=re.escape(hint)):
        resolve_weights(RESNET18, word)
    assert hub.requests == []
