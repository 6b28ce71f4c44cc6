"""Arguments, dtypes, inputs and views of the ready networks. That their numbers are right is for `test_oracle.py`."""

import functools
import inspect
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from oracle.seeded import pixels

import keras_resnet
from keras_resnet.models import BUILDERS
from keras_resnet.variants import CIFAR, VARIANTS

ResNet18 = keras_resnet.ResNet18
Randomise = Callable[..., keras.Model]
Seeded = Callable[..., keras.Model]


def values(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def forward(model: keras.Model, images: Any) -> Any:
    """Inference without `predict`'s compilation, which takes longer than all else here."""
    return keras.tree.map_structure(values, model(images, training=False))


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    assert result.shape == expected.shape
    assert np.isfinite(result).all()
    return float(np.abs(result - expected).max() / np.abs(expected).max())


def shapes_of(maps: keras.Model) -> dict[str, tuple[int | None, ...]]:
    return {level: tuple(tensor.shape) for level, tensor in maps.output.items()}


@pytest.fixture(scope="module")
def seeded(randomise: Randomise) -> Seeded:
    """Arguments -> a ResNet-18 of 64 x 96 pixels and five classes, randomised, built once; no test may change it."""
    return functools.cache(
        lambda **arguments: randomise(ResNet18(**{"input_shape": (64, 96, 3), "classes": 5} | arguments))
    )


@pytest.fixture
def restore_policy() -> Iterator[None]:
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


# --- the surface --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", BUILDERS)
def test_signature_is_that_of_keras_applications(network: str) -> None:
    ours = inspect.signature(BUILDERS[network]).parameters
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    assert list(ours) == [*theirs, "include_preprocessing", "output_stride"]
    assert ours["include_preprocessing"].kind is ours["output_stride"].kind is inspect.Parameter.KEYWORD_ONLY
    differing = {name for name in theirs if ours[name].default != theirs[name].default}
    cifar = VARIANTS[network].design is CIFAR
    assert differing == {"weights", "name"} | ({"classes"} if cifar else set())
    assert ours["weights"].default is None
    assert (ours["classes"].default, ours["output_stride"].default) == ((10, 4) if cifar else (1000, 32))


@pytest.mark.parametrize("network", BUILDERS)
def test_name_and_documentation_are_the_network_s_own(network: str) -> None:
    builder = BUILDERS[network]
    assert builder.__name__.lower() == network
    assert getattr(keras_resnet, builder.__name__) is builder
    assert (builder.__doc__ or "").startswith(builder.__name__)


def test_building_touches_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"the network was reached for: {arguments}")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model = keras_resnet.ResNet50()
    assert model.count_params() == 25_557_032 + 2 * 26_560  # and the BatchNorm statistics
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 1000)


@pytest.mark.usefixtures("shapes_alone")
def test_the_graph_is_flat_and_named() -> None:
    model = ResNet18(name="mine")
    assert model.name == "mine"
    assert ResNet18().name == "resnet18"
    assert not [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    assert [layer.name for layer in model.layers][:4] == ["image", "preprocessing", "stem_pad", "stem_conv"]
    assert [layer.name for layer in model.layers][-3:] == ["pool", "logits", "probabilities"]


def test_only_the_last_scale_of_a_branch_starts_at_zero() -> None:
    for network, last in (("resnet18", "_2_bn"), ("resnet50", "_3_bn")):
        for layer in BUILDERS[network]().layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                expected = 0 if layer.name.endswith(last) else 1
                np.testing.assert_array_equal(values(layer.gamma), expected, err_msg=layer.name)
                assert layer.epsilon == 1e-5
                assert layer.momentum == 0.9


def test_initial_weights_have_the_published_spread() -> None:
    model = ResNet18()
    kernel = values(model.get_layer("stage4_block2_1_conv").kernel)  # 590 k values
    assert kernel.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 256)), rel=0.01)  # He's normal over fan-out
    head = values(model.get_layer("logits").kernel)
    assert np.abs(head).max() == pytest.approx(1 / np.sqrt(512), rel=0.01)  # uniform over fan-in
    assert head.std() == pytest.approx(1 / np.sqrt(3 * 512), rel=0.01)


# --- head ---------------------------------------------------------------------------------------------------------


def test_head_turns_the_feature_map_into_activated_logits(seeded: Seeded) -> None:
    images = pixels(2, 64, 96)
    softmax, logits, sigmoid = seeded(), seeded(classifier_activation=None), seeded(classifier_activation="sigmoid")
    z = forward(logits, images).astype(np.float64)
    assert z.shape == (2, 5)
    assert z.std() > 0.1
    exponential = np.exp(z - z.max(1, keepdims=True))
    expected = exponential / exponential.sum(1, keepdims=True)
    assert relative_error(forward(softmax, images), expected) < 1e-6
    assert relative_error(forward(sigmoid, images), 1 / (1 + np.exp(-z))) < 1e-6


def test_without_head_ends_in_c5_or_c5_pooled(randomise: Randomise) -> None:
    images = pixels(2, 64, 96)
    headless = randomise(ResNet18(include_top=False))
    assert headless.input_shape == (None, None, None, 3)
    c5 = forward(headless, images)
    assert c5.shape == (2, 2, 3, 512)
    average = randomise(ResNet18(include_top=False, pooling="avg"))
    maximum = randomise(ResNet18(include_top=False, pooling="max"))
    assert relative_error(forward(average, images), c5.mean((1, 2))) < 1e-6
    assert relative_error(forward(maximum, images), c5.max((1, 2))) < 1e-6


# --- input --------------------------------------------------------------------------------------------------------


def test_uint8_and_float_pixels_give_the_same(seeded: Seeded) -> None:
    model = seeded(classifier_activation=None)
    images = pixels(2, 64, 96)
    expected = model.predict(images, verbose=0)
    np.testing.assert_array_equal(model.predict(images.astype(np.float32), verbose=0), expected)
    np.testing.assert_array_equal(model.predict(images.astype(np.float64), verbose=0), expected)
    assert relative_error(forward(model, images), expected) < 1e-6


def test_without_preprocessing_expects_normalised_values(seeded: Seeded) -> None:
    images = pixels(2, 64, 96)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inside = seeded(classifier_activation=None)
    outside = seeded(classifier_activation=None, include_preprocessing=False)
    assert "preprocessing" not in [layer.name for layer in outside.layers]
    normalised = ((images / 255 - mean) / std).astype(np.float32)
    assert relative_error(forward(outside, normalised), forward(inside, images)) < 2e-6


def test_height_and_width_may_be_left_open(seeded: Seeded) -> None:
    model = seeded(input_shape=(None, None, 3), classifier_activation=None)
    fixed = seeded(classifier_activation=None)
    images = pixels(2, 64, 96)
    np.testing.assert_array_equal(forward(model, images), forward(fixed, images))
    assert forward(model, pixels(1, 33, 47)).shape == (1, 5)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels(randomise: Randomise, channels: int) -> None:
    model = randomise(ResNet18(input_shape=(64, 96, channels), classes=5, classifier_activation=None))
    assert model.get_layer("stem_conv").kernel.shape == (7, 7, channels, 64)
    images = pixels(2, 64, 96, channels)
    result = forward(model, images)
    for channel in range(channels):  # every channel counts
        changed = images.copy()
        changed[..., channel] //= 2
        assert relative_error(forward(model, changed), result) > 1e-3


def test_input_tensor_builds_upon_another_model_s_output(randomise: Randomise, seeded: Seeded) -> None:
    inputs = keras.Input((64, 96, 3), name="upside_down")
    front = keras.Model(inputs, keras.layers.Lambda(lambda x: 255.0 - x, name="invert")(inputs))
    model = randomise(ResNet18(input_tensor=front.output, classes=5, classifier_activation=None))
    plain = seeded(classifier_activation=None)
    images = pixels(2, 64, 96)
    assert model.input is inputs
    assert relative_error(forward(model, images), forward(plain, 255 - images)) < 1e-6


def test_input_tensor_may_be_a_plain_input_and_may_be_shared(randomise: Randomise) -> None:
    inputs = keras.Input((64, 96, 3))
    first = randomise(ResNet18(input_tensor=inputs, input_shape=(64, 96, 3), classes=5))
    second = randomise(ResNet18(input_tensor=inputs, classes=5, name="second"), seed=1)
    images = pixels(2, 64, 96)
    alone = [forward(model, images) for model in (first, second)]
    together = forward(keras.Model(inputs, [first(inputs), second(inputs)]), images)
    for result, expected in zip(together, alone, strict=True):
        assert relative_error(result, expected) < 1e-6
    assert relative_error(alone[0], alone[1]) > 0.1


def test_input_tensor_may_come_from_several_inputs() -> None:
    left, right = keras.Input((64, 64, 3), name="left"), keras.Input((64, 64, 3), name="right")
    model = ResNet18(input_tensor=keras.layers.Average()([left, right]), classes=5)
    assert forward(model, [pixels(2, 64, 64), pixels(2, 64, 64)]).shape == (2, 5)


# --- dtype policies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["softmax", None])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.usefixtures("restore_policy")
def test_outputs_are_float32_under_every_policy(
    randomise: Randomise, seeded: Seeded, policy: str, activation: str | None
) -> None:
    images = pixels(2, 64, 96)
    expected = seeded(classifier_activation=activation)
    keras.config.set_dtype_policy(policy)
    model = randomise(ResNet18(input_shape=(64, 96, 3), classes=5, classifier_activation=activation))
    assert model.get_layer("stage5_block2_2_conv").compute_dtype == policy.removeprefix("mixed_")
    assert model.output.dtype == "float32"
    result = forward(model, images)
    assert result.dtype == np.float32
    # 8 significant bits of bfloat16, 11 of float16; measured 0.0044 and 0.001 on logits.
    tolerance = {"float32": 1e-6, "mixed_float16": 0.004}.get(policy, 0.015)
    assert relative_error(result, forward(expected, images)) < tolerance


def test_sizes_may_be_numpy_integers(tmp_path: Path) -> None:
    """The usual source of `classes` is `labels.max() + 1`. Keras must see Python's integers, or it can't save them."""
    labels = np.array([0, 4, 2], np.int32)
    model = ResNet18(classes=labels.max() + 1, input_shape=[np.int64(64), np.uint8(96), np.int16(3)])
    assert (model.input_shape, model.output_shape) == ((None, 64, 96, 3), (None, 5))
    assert all(type(length) is int for length in (*model.input_shape[1:], model.output_shape[1]))
    assert type(model.get_layer("logits").units) is int
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").input_shape == (None, 64, 96, 3)

    image = keras.Input((64, 96, 3))
    assert ResNet18(input_tensor=image, input_shape=tuple(np.array([64, 96, 3]))).inputs[0] is image


# --- wrong arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pooling": "mean", "include_top": False}, ["`pooling` must be None, 'avg' or 'max'", "pooling='mean'"]),
        ({"pooling": "avg"}, ["`pooling` belongs to `include_top=False`", "include_top=True, pooling='avg'"]),
        ({"classes": 0}, ["`classes` must be a positive integer", "classes=0"]),
        ({"classes": 2.5}, ["`classes` must be a positive integer", "classes=2.5"]),
        ({"classes": True}, ["`classes` must be a positive integer", "classes=True"]),
        ({"classes": np.True_}, ["`classes` must be a positive integer", "classes=np.True_"]),
        ({"classes": np.int64(0)}, ["`classes` must be a positive integer", "classes=np.int64(0)"]),
        ({"classes": np.float32(5)}, ["`classes` must be a positive integer", "classes=np.float32(5.0)"]),
        ({"classes": "5"}, ["`classes` must be a positive integer", "classes='5'"]),
        ({"classifier_activation": "sofmax"}, ["`classifier_activation` must name", "classifier_activation='sofmax'"]),
        ({"classifier_activation": 3}, ["`classifier_activation` must name", "classifier_activation=3"]),
        ({"output_stride": 4}, ["`output_stride` must be one of (8, 16, 32)", "output_stride=4"]),
        ({"output_stride": None}, ["`output_stride` must be one of (8, 16, 32)", "output_stride=None"]),
        ({"input_shape": (224, 224)}, ["`input_shape` must be (height, width, channels)", "input_shape=(224, 224)"]),
        ({"input_shape": 224}, ["`input_shape` must be (height, width, channels)", "input_shape=224"]),
        ({"input_shape": (31, 64, 3)}, ["`input_shape` must have", "at least 32 pixels", "input_shape=(31, 64, 3)"]),
        ({"input_shape": (64.0, 64, 3)}, ["`input_shape` must have", "at least 32", "input_shape=(64.0, 64, 3)"]),
        ({"input_shape": (np.int64(31), 64, 3)}, ["`input_shape` must have", "at least 32", "(np.int64(31), 64, 3)"]),
        ({"input_shape": (64, 64, True)}, ["`input_shape` must end in the number of channels", "(64, 64, True)"]),
        ({"input_shape": (64, 64, None)}, ["`input_shape` must end in the number of channels", "(64, 64, None)"]),
        ({"input_shape": (64, 64, 0)}, ["`input_shape` must end in the number of channels", "(64, 64, 0)"]),
        ({"input_shape": (3, 224, 224)}, ["`input_shape` must have", "at least 32", "input_shape=(3, 224, 224)"]),
        ({"input_tensor": [1, 2]}, ["`input_tensor` must be a symbolic Keras tensor", "input_tensor=[1, 2]"]),
        ({"weights": "imagenett"}, ["`weights` must be None", "weights='imagenett'"]),
        ({"weights": 5}, ["`weights` must be None", "weights=5"]),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_its_rule_and_value(arguments: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ValueError, match="Received: ") as error:
        ResNet18(**arguments)
    for part in said:
        assert part in str(error.value)


def test_a_wrong_input_tensor_is_named_with_its_rule_and_value() -> None:
    image = np.zeros((1, 64, 64, 3), np.float32)
    with pytest.raises(ValueError, match=r"`input_tensor` must be a symbolic Keras tensor.* Received: "):
        ResNet18(input_tensor=image)
    with pytest.raises(ValueError, match=r"`input_tensor` must be \(height, width, channels\). Received: .*\(10,\)"):
        ResNet18(input_tensor=keras.Input((10,)))
    with pytest.raises(ValueError, match=r"`input_tensor` must have .* at least 32 .*\(16, 64, 3\)"):
        ResNet18(input_tensor=keras.Input((16, 64, 3)))
    with pytest.raises(ValueError, match=r"`input_shape` must equal .*input_shape=\(64, 64, 3\).*\(None, 64, 96, 3\)"):
        ResNet18(input_tensor=keras.Input((64, 96, 3)), input_shape=(64, 64, 3))
    with pytest.raises(
        ValueError, match=r"`input_shape` must be \(height, width, channels\). Received: input_shape=64"
    ):
        ResNet18(input_tensor=keras.Input((64, 96, 3)), input_shape=64)  # type: ignore[arg-type]


def test_channels_first_gets_a_clear_error() -> None:
    try:
        keras.config.set_image_data_format("channels_first")
        with pytest.raises(ValueError, match=r"'channels_last'.* Received: image_data_format='channels_first'"):
            ResNet18()
    finally:
        keras.config.set_image_data_format("channels_last")


# --- feature maps and output stride -------------------------------------------------------------------------------


@pytest.mark.parametrize("include_top", [True, False])
def test_feature_maps_are_the_outputs_of_the_stages(seeded: Seeded, include_top: bool) -> None:
    model = seeded(include_top=include_top)
    maps = keras_resnet.feature_maps(model)
    images = pixels(2, 64, 96)
    outputs = forward(maps, images)
    shapes = {"C2": (2, 16, 24, 64), "C3": (2, 8, 12, 128), "C4": (2, 4, 6, 256), "C5": (2, 2, 3, 512)}
    assert {level: output.shape for level, output in outputs.items()} == shapes
    last_blocks = {level: model.get_layer(f"stage{level[1]}_block2_out").output for level in shapes}
    direct = forward(keras.Model(model.input, last_blocks), images)
    for level, output in outputs.items():
        assert relative_error(output, direct[level]) < 1e-6
        assert output.std() > 0.01


@pytest.mark.usefixtures("shapes_alone")
def test_feature_maps_of_some_levels() -> None:
    model = ResNet18(input_shape=(64, 96, 3))
    maps = keras_resnet.feature_maps(model, levels=["C5", "C3"])
    assert shapes_of(maps) == {"C5": (None, 2, 3, 512), "C3": (None, 8, 12, 128)}
    assert list(keras_resnet.feature_maps(model, levels=("C4",)).output) == ["C4"]


@pytest.mark.usefixtures("shapes_alone")
def test_feature_maps_take_the_last_of_many_blocks() -> None:
    maps = keras_resnet.feature_maps(keras_resnet.ResNet101(input_shape=(64, 96, 3)))
    sources = {level: tensor._keras_history.operation.name for level, tensor in maps.output.items()}
    assert sources == {
        "C2": "stage2_block3_out",
        "C3": "stage3_block4_out",
        "C4": "stage4_block23_out",
        "C5": "stage5_block3_out",
    }


def test_feature_maps_of_a_reloaded_model(seeded: Seeded, tmp_path: Path) -> None:
    model = seeded()
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    images = pixels(2, 64, 96)
    expected = forward(keras_resnet.feature_maps(model), images)
    for level, output in forward(keras_resnet.feature_maps(reloaded), images).items():
        assert relative_error(output, expected[level]) < 1e-6


@pytest.mark.parametrize("levels", ["C2", [], ["C2", "C6"], ["c2"], [2], 5])
@pytest.mark.usefixtures("shapes_alone")
def test_wrong_levels_are_named(levels: Any) -> None:
    with pytest.raises(ValueError, match=r"`levels` must be a non-empty sequence out of \('C2', .* Received: levels="):
        keras_resnet.feature_maps(ResNet18(), levels=levels)


def test_feature_maps_of_another_model_are_refused() -> None:
    inputs = keras.Input((8,))
    other = keras.Model(inputs, keras.layers.Dense(3, name="dense")(inputs), name="perceptron")
    with pytest.raises(ValueError, match=r"`model` must be a ResNet of this package.*Received: model='perceptron'"):
        keras_resnet.feature_maps(other)


@pytest.mark.parametrize(
    ("output_stride", "c4", "c5", "dilations"),
    [(32, (4, 6), (2, 3), (1, 1, 1, 1)), (16, (4, 6), (4, 6), (1, 1, 1, 2)), (8, (8, 12), (8, 12), (1, 2, 2, 4))],
)
@pytest.mark.usefixtures("shapes_alone")
def test_output_stride_keeps_resolution(
    output_stride: int, c4: tuple[int, int], c5: tuple[int, int], dilations: tuple[int, ...]
) -> None:
    model = keras_resnet.ResNet50(input_shape=(64, 96, 3), output_stride=output_stride)
    assert shapes_of(keras_resnet.feature_maps(model)) == {
        "C2": (None, 16, 24, 256),
        "C3": (None, 8, 12, 512),
        "C4": (None, *c4, 1024),
        "C5": (None, *c5, 2048),
    }
    convolutions = [f"stage{stage}_block{block}_2_conv" for stage in (4, 5) for block in (1, 2)]
    assert tuple(model.get_layer(name).dilation_rate[0] for name in convolutions) == dilations
    assert model.count_params() == keras_resnet.ResNet50().count_params()
