"""Tensors into networks: the name map, the checks, head and stem."""

import re

import keras
import numpy as np
import pytest
from resnet18_files import RESNET18, SHAPE, assert_same_weights, load, refusal, resnet18_state, save, value

from keras_resnet.blocks import conv_bn
from keras_resnet.models import BUILDERS, ResNet18
from keras_resnet.variants import VARIANTS
from keras_resnet.weights import load_weights, torchvision_names

# --- the name map -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.usefixtures("shapes_alone")
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
    logits = np.asarray(model(pixels, training=False))
    assert np.abs(logits - reference).max() / np.abs(reference).max() <= 5e-6
    alone = np.asarray(model(pixels[:1], training=False))
    assert np.abs(alone - reference[:1]).max() / np.abs(reference).max() <= 5e-6


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
    assert "these are the weights of a resnet18, but the model is a resnet34" in message
    assert re.search(r"missing \(\d\d+\):(\n  \S.*){10}\n  \.\.\. and \d+ more", message)


def test_other_widths_and_other_names_are_named_as_the_cause(tmp_path, state, small):
    wide = {**state, "layer1.0.conv1.weight": np.zeros((128, 64, 3, 3), np.float32)}
    assert "Wide ResNet" in refusal(small, save(tmp_path, wide))
    renamed = {f"net.{index}.weight": tensor for index, tensor in enumerate(state.values())}
    assert "no tensor has a name of torchvision's ResNet" in refusal(small, save(tmp_path, renamed))


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


# --- what the file's values replace -------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of the random kernels that are drawn from here on."""
    shapes = []
    draw = keras.initializers.VarianceScaling.__call__

    def note(initializer, shape, dtype=None):
        shapes.append(tuple(shape))
        return draw(initializer, shape, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", note)
    return shapes


@pytest.mark.parametrize("arguments", [{}, {"include_top": False, "pooling": "max"}])
def test_no_random_kernels_are_drawn_where_a_file_has_them(file, drawn, arguments):
    model = load(file, **arguments)
    assert drawn == []
    random = ResNet18(input_shape=SHAPE, **arguments)
    assert len(drawn) == (20 if arguments else 21)
    load_weights(random, RESNET18, file)
    assert_same_weights(model, random)
    pixels = np.random.default_rng(2).integers(0, 256, (2, *SHAPE), dtype=np.uint8)
    np.testing.assert_array_equal(model(pixels, training=False), random(pixels, training=False))


def test_of_another_number_of_classes_the_head_alone_is_drawn(file, drawn):
    with pytest.warns(UserWarning, match="the head stays fresh"):
        ResNet18(weights=file, input_shape=SHAPE, classes=37)
    assert drawn == [(512, 37)]


def test_the_configuration_names_the_same_initializers(file):
    keras.utils.set_random_seed(3)
    fresh = ResNet18(input_shape=SHAPE)
    keras.utils.set_random_seed(3)
    model = ResNet18(weights=file, input_shape=SHAPE)
    assert model.get_config() == fresh.get_config()
    assert [variable.path for variable in model.variables] == [variable.path for variable in fresh.variables]
    again = keras.models.clone_model(model)
    assert np.std(value(again, "stem_conv")) > 0


def test_what_is_built_afterwards_is_random(file, drawn):
    load(file)
    conv_bn(keras.Input((8, 8, 3)), 4, 3, name="own")
    assert drawn == [(3, 3, 3, 4)]


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
