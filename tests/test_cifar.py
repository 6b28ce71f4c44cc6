"""The networks for CIFAR: shortcuts, sizes, weights and exports. Their arithmetic is also for `test_oracle.py`."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from oracle.seeded import pixels, state_dict
from safetensors.numpy import save_file

import keras_resnet
from keras_resnet.blocks import basic_block, padded_shortcut
from keras_resnet.errors import WeightsError
from keras_resnet.inference import predict
from keras_resnet.models import BUILDERS
from keras_resnet.preprocessing import load_image
from keras_resnet.tasks import contract_of
from keras_resnet.variants import CIFAR, VARIANTS, InputContract
from keras_resnet.weights import torchvision_names

NETWORKS = [name for name, variant in VARIANTS.items() if variant.design is CIFAR]
WHOLE = InputContract(32, 32)
ResNet20 = keras_resnet.ResNet20


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    assert result.shape == expected.shape
    assert np.isfinite(result).all()
    return float(np.abs(result - expected).max() / np.abs(expected).max())


def save(folder: Path, state: dict[str, np.ndarray]) -> Path:
    save_file(state, folder / "seeded.safetensors")
    return folder / "seeded.safetensors"


# --- shortcuts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(6, 8), (5, 7)])
def test_a_padded_shortcut_is_every_second_pixel_between_zeros(batch: int, height: int, width: int) -> None:
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, padded_shortcut(inputs, 8, 2, "block"))
    x = np.random.default_rng(0).normal(size=(batch, height, width, 4)).astype("float32")  # negative values too
    expected = np.zeros((batch, (height + 1) // 2, (width + 1) // 2, 8), "float32")
    expected[..., 2:6] = x[:, ::2, ::2]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), expected)
    assert not model.weights


def test_a_shortcut_is_the_identity_where_the_shape_stays() -> None:
    x = keras.Input((6, 8, 4))
    assert padded_shortcut(x, 4, 1, "block") is x
    block = keras.Model(x, basic_block(x, 4, name="block", shortcut=padded_shortcut))
    assert [tensor for tensor in block.get_layer("block_add").input if tensor is x]


@pytest.mark.usefixtures("shapes_alone")
def test_all_layers_are_keras_own() -> None:
    """So a .keras file of such a network loads where this package is not installed."""
    assert {type(layer).__module__.split(".")[0] for layer in ResNet20().layers} == {"keras"}


# --- surface ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shapes_alone")
def test_sizes_and_levels() -> None:
    model = keras_resnet.ResNet32()
    assert (model.name, model.input_shape, model.output_shape) == ("resnet32", (None, 32, 32, 3), (None, 10))
    maps = keras_resnet.feature_maps(model)
    shapes = {level: tuple(tensor.shape) for level, tensor in maps.output.items()}
    assert shapes == {"C2": (None, 32, 32, 16), "C3": (None, 16, 16, 32), "C4": (None, 8, 8, 64)}
    assert maps.output["C4"]._keras_history.operation.name == "stage4_block5_out"
    headless = ResNet20(include_top=False, input_shape=(4, 5, 1))
    assert headless.output_shape == (None, 1, 2, 64)
    assert ResNet20(include_top=False, pooling="avg").output_shape == (None, 64)


@pytest.mark.usefixtures("shapes_alone")
def test_a_level_that_a_network_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"`levels` must be out of \('C2', 'C3', 'C4'\) for 'resnet20'.*\['C5'\]"):
        keras_resnet.feature_maps(ResNet20(), levels=["C5"])


@pytest.mark.parametrize("output_stride", [8, 32, 2])
def test_only_its_own_output_stride_can_be_asked_for(output_stride: int) -> None:
    with pytest.raises(ValueError, match=rf"must be one of \(4,\) for resnet20.*output_stride={output_stride}"):
        ResNet20(output_stride=output_stride)


def test_a_side_has_at_least_as_many_pixels_as_the_last_stage_strides() -> None:
    with pytest.raises(ValueError, match=r"at least 4 pixels.*input_shape=\(32, 3, 3\)"):
        ResNet20(input_shape=(32, 3, 3))


@pytest.mark.parametrize(
    ("arguments", "contract"),
    [
        ({}, WHOLE),
        ({"include_top": False}, WHOLE),
        ({"input_shape": (64, 64, 3), "classes": 3, "name": "mine"}, InputContract(64, 64)),
        ({"input_shape": (32, 64, 3)}, None),
    ],
    ids=str,
)
def test_images_are_read_whole_also_after_reloading(
    arguments: dict[str, Any], contract: InputContract | None, tmp_path: Path
) -> None:
    model = ResNet20(**arguments)
    assert contract_of(model) == contract
    model.save(tmp_path / "model.keras")
    assert contract_of(keras.models.load_model(tmp_path / "model.keras")) == contract
    image = pixels(1, 32, 32)[0]
    if contract == WHOLE:
        from PIL import Image

        Image.fromarray(image).save(tmp_path / "image.png")
        np.testing.assert_array_equal(load_image(tmp_path / "image.png", contract), image)


# --- weights ------------------------------------------------------------------------------------------------------


def test_names_are_akamasters() -> None:
    for network in ("resnet20", "resnet56"):
        theirs = {name for name in state_dict(network, 10) if not name.endswith("num_batches_tracked")}
        assert set(torchvision_names(VARIANTS[network])) == theirs
    names = torchvision_names(VARIANTS["resnet110"])
    assert names["linear.weight"] == ("logits", "kernel")
    assert names["layer3.17.bn2.running_var"] == ("stage4_block18_2_bn", "moving_variance")
    assert not [name for name in names if "downsample" in name or name.startswith("fc")]


@pytest.mark.parametrize("weights", ["imagenet", "a1_in1k", "Imagenet"])
def test_a_tag_is_refused_with_what_there_is_instead(weights: str) -> None:
    with pytest.raises(WeightsError) as refused:
        ResNet20(weights=weights)
    message = str(refused.value)
    assert re.match(r"`weights` must be None, 'hf://owner/repository', or the path of a file .*Received", message)
    assert f"weights={weights!r}" in message
    assert "Download resnet20-12fca82f.th from https://github.com/akamaster/pytorch_resnet_cifar10" in message


def test_a_file_with_a_published_name_must_have_the_hash_in_it(tmp_path: Path) -> None:
    path = tmp_path / "resnet20-12fca82f.th"
    path.write_bytes(b"another file")
    with pytest.raises(WeightsError) as refused:
        ResNet20(weights=path)
    assert str(refused.value) == (
        f"{path}: is not the published file of this name: its SHA-256 begins with 100ef6a7, and must begin with "
        "12fca82f. Remove it and fetch it again; if it is a file of your own, rename it"
    )


def test_missing_unknown_and_misshaped_tensors_are_listed(tmp_path: Path) -> None:
    state = state_dict("resnet20", 10)
    del state["layer2.0.bn1.bias"]
    state["layer2.0.downsample.0.weight"] = np.zeros((32, 16, 1, 1), np.float32)
    state["linear.weight"] = state["linear.weight"][:, :63]
    with pytest.raises(WeightsError) as refused:
        ResNet20(weights=save(tmp_path, state))
    for line in (
        "missing (1):\n  layer2.0.bn1.bias -> stage3_block1_1_bn/beta",
        "unknown (1):\n  layer2.0.downsample.0.weight",
        "misshaped (1):\n  linear.weight -> logits/kernel: (10, 63), must be (10, 64)",
    ):
        assert line in str(refused.value)


def test_wrong_depth_is_named_as_the_cause(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="these are the weights of a resnet20, but the model is a resnet32"):
        keras_resnet.ResNet32(weights=save(tmp_path, state_dict("resnet20", 10)))


def test_another_number_of_classes_leaves_the_head_fresh(tmp_path: Path) -> None:
    state = state_dict("resnet20", 10)
    with pytest.warns(UserWarning, match="the model has 3 classes, .* has 10"):
        model = ResNet20(weights=save(tmp_path, state), classes=3)
    np.testing.assert_array_equal(model.get_layer("stem_bn").get_weights()[0], state["bn1.weight"])


def test_the_command_line_predicts_with_a_file_of_weights(tmp_path: Path, image_folder: Path) -> None:
    from command_line import in_process

    weights = save(tmp_path, state_dict("resnet20", 10))
    image = sorted(image_folder.glob("*.png"))[0]
    status, lines, errors = in_process("predict", image, "--model", "resnet20", "--weights", weights, "--top", "10")
    assert (status, errors) == (0, [])
    percents = [float(line.split()[0]) for line in lines[1:]]
    probabilities = np.asarray(ResNet20(weights=weights)(load_image(image, WHOLE)[None], training=False))[0]
    np.testing.assert_allclose(percents, 100 * np.sort(probabilities)[::-1], atol=0.006)

    status, _, errors = in_process("predict", image, "--model", "resnet20")
    assert status == 1
    assert "Download resnet20-12fca82f.th" in " ".join(errors)


# --- the published weights ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["resnet20", "resnet32", "resnet44", "resnet56"])
def published(request: pytest.FixtureRequest, shared_data: Path) -> tuple[str, keras.Model]:
    """Name, and the network with its real weights, pixels -> logits."""
    pytest.importorskip("torch", reason="a .th file is read by torch (the extra `torch`)")
    file = VARIANTS[request.param].file
    assert file is not None
    return request.param, BUILDERS[request.param](
        weights=shared_data / "weights" / file.name, classifier_activation=None
    )


def test_logits_of_the_published_weights_are_those_of_pytorch(
    published: tuple[str, keras.Model], shared_data: Path
) -> None:
    name, model = published
    with np.load(shared_data / "cifar10" / "train4000_lossless.npz") as archive:
        train = archive["x"][:256]
    with np.load(shared_data / "cifar10" / "test_first20_lossless.npz") as archive:
        test, classes = archive["x"], archive["y"]
    logits = predict(model, test, batch_size=20)
    with np.load(shared_data / "reference" / "cifar10_logits.npz") as references:
        assert relative_error(logits, references[f"{name}_test20"]) <= 1e-5  # measured at most 5e-7
        assert relative_error(predict(model, train, batch_size=64), references[f"{name}_train_first256"]) <= 1e-5
    accuracy = json.loads((shared_data / "reference" / "cifar10.json").read_text())["accuracy"]
    stem = next(key for key in accuracy if key.startswith(f"{name}-"))
    assert (logits.argmax(1) == classes).mean() == pytest.approx(accuracy[stem]["test_first20_lossless"])


# --- export -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(randomise: Callable[..., keras.Model], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, np.ndarray]:
    """Report of an export of a seeded ResNet-20, which is verified, and the model's answers to `pixels(3, 32, 32)`."""
    pytest.importorskip("ai_edge_litert", reason="needs the extra `tflite`")
    pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    from keras_resnet.export import export

    model = randomise(ResNet20())
    formats = ["tflite", "tflite-int8", "onnx"]
    report = export(model, tmp_path_factory.mktemp("exported"), formats, calibration=pixels(100, 32, 32))
    return report, np.asarray(model(pixels(3, 32, 32), training=False))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tolerance"), [("tflite", 1e-5), ("onnx", 1e-5), ("tflite-int8", 0.05)])
def test_exports_equal_the_network(exported: tuple[Any, np.ndarray], name: str, tolerance: float) -> None:
    from keras_resnet.export.artifact import open_artifact

    report, expected = exported
    artifact = open_artifact(report.paths[name])
    assert artifact.contract == WHOLE
    assert np.abs(artifact.predict(pixels(3, 32, 32))["probabilities"] - expected).max() <= tolerance


def test_shortcuts_stay_integers(exported: tuple[Any, np.ndarray]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(exported[0].paths["tflite-int8"]))
    tensors = {tensor["name"]: tensor for tensor in interpreter.get_tensor_details()}
    for kind in ("shortcut_pool_1/MaxPool2d", "shortcut_pad_1/Pad"):
        found = [tensor for name, tensor in tensors.items() if name.endswith(kind)]
        assert [tensor["dtype"] for tensor in found] == [np.int8] * 2
