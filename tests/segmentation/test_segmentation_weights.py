"""Weights of segmentation networks: the name map, the heads that a file or a model lacks, where files come from."""

import hashlib
import re
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from networks import backbone_file
from oracle.seeded import segmentation_state_dict, state_dict
from safetensors.numpy import save_file

from keras_resnet.errors import WeightsError
from keras_resnet.facts import facts_of
from keras_resnet.models import ResNet18
from keras_resnet.segmentation import ARCHITECTURE_BUILDERS, FCN, TAG, DeepLabV3, DeepLabV3Plus, UNet, network_of
from keras_resnet.variants import VARIANTS, NetworkOnBackbone, TorchvisionFile
from keras_resnet.weights import resolve_weights, torchvision_names
from keras_resnet.whole_files import file_sha256


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """torchvision's tensors of an FCN on ResNet-18, for 5 classes."""
    return segmentation_state_dict("fcn", "resnet18", classes=5)


@pytest.fixture(scope="module")
def file(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "fcn_resnet18.safetensors"
    save_file(state, path)
    return path


def load(builder, **arguments) -> keras.Model:
    """Model on ResNet-18; a warning is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return builder("resnet18", arguments.pop("classes", 5), **arguments)


def refusal(builder, **arguments) -> str:
    with pytest.raises(WeightsError) as refused:
        load(builder, **arguments)
    return str(refused.value)


# --- the name map -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["fcn", "deeplabv3"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet101"])
def test_every_name_of_torchvisions_is_mapped_and_none_is_left(architecture, backbone):
    names = {name for name in segmentation_state_dict(architecture, backbone) if "num_batches_tracked" not in name}
    assert set(torchvision_names(network_of(architecture, backbone))) == names


@pytest.mark.parametrize("builder", [FCN, DeepLabV3])
def test_the_map_reaches_every_variable_once(builder):
    model = builder("resnet18", auxiliary_head=True)
    variables = {(layer.name, variable.name) for layer in model.layers for variable in layer.weights}
    targets = list(torchvision_names(network_of(builder.__name__.lower(), "resnet18")).values())
    assert len(set(targets)) == len(targets)
    assert set(targets) == variables


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("backbone.layer3.0.bn2.running_var", ("stage4_block1_2_bn", "moving_variance")),
        ("classifier.0.convs.0.0.weight", ("aspp_1_conv", "kernel")),
        ("classifier.0.convs.3.1.bias", ("aspp_4_bn", "beta")),
        ("classifier.0.convs.4.1.weight", ("aspp_5_conv", "kernel")),
        ("classifier.0.convs.4.2.weight", ("aspp_5_bn", "gamma")),
        ("classifier.0.project.1.running_mean", ("aspp_project_bn", "moving_mean")),
        ("classifier.1.weight", ("decoder_conv", "kernel")),
        ("classifier.2.weight", ("decoder_bn", "gamma")),
        ("classifier.4.bias", ("logits", "bias")),
        ("aux_classifier.4.weight", ("auxiliary_logits", "kernel")),
    ],
)
def test_names_of_deeplabv3(name, target):
    assert torchvision_names(network_of("deeplabv3", "resnet18"))[name] == target


# --- heads --------------------------------------------------------------------------------------------------------


def test_without_an_auxiliary_head_the_files_is_left_aside(file, state):
    model = load(FCN, weights=file)
    np.testing.assert_array_equal(
        model.get_layer("decoder_conv").get_weights()[0], state["classifier.0.weight"].transpose(2, 3, 1, 0)
    )
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_array_equal(kernel, state["classifier.4.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(bias, state["classifier.4.bias"])


def test_a_file_without_an_auxiliary_head_is_named_as_the_cause(state, tmp_path):
    save_file({k: v for k, v in state.items() if not k.startswith("aux")}, tmp_path / "x.safetensors")
    load(FCN, weights=tmp_path / "x.safetensors")
    message = refusal(FCN, weights=tmp_path / "x.safetensors", auxiliary_head=True)
    assert "the file has no auxiliary head: build the network with auxiliary_head=False" in message
    assert "missing (7)" in message


def test_another_number_of_classes_leaves_both_heads_fresh(file, state):
    with pytest.warns(UserWarning, match="the head stays fresh .* the model has 4 classes, .* has 5") as warned:
        model = FCN("resnet18", 4, weights=file, auxiliary_head=True)
    assert [Path(warning.filename) for warning in warned] == [Path(__file__)]
    for layer in ("logits", "auxiliary_logits"):
        kernel, bias = model.get_layer(layer).get_weights()
        assert 0.5 < kernel.std() * np.sqrt(3 * kernel.shape[2]) < 1.5  # drawn, and not left at zero
        assert not bias.any()
    np.testing.assert_array_equal(model.get_layer("auxiliary_bn").get_weights()[0], state["aux_classifier.1.weight"])


def test_problems_are_listed_and_nothing_is_loaded(state, tmp_path):
    broken = dict(state)
    del broken["classifier.0.weight"]
    broken["classifier.5.weight"] = np.zeros(3, np.float32)
    broken["aux_classifier.1.running_var"] = -broken["aux_classifier.1.running_var"]
    save_file(broken, tmp_path / "x.safetensors")
    message = refusal(FCN, weights=tmp_path / "x.safetensors", auxiliary_head=True)
    for line in (
        "missing (1):\n  classifier.0.weight -> decoder_conv/kernel",
        "unknown (1):\n  classifier.5.weight",
        "negative variance (1):\n  aux_classifier.1.running_var",
    ):
        assert line in message


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (lambda: state_dict("resnet18", 5), "the weights of a resnet18, but the model is a fcn_resnet18"),
        (
            lambda: segmentation_state_dict("deeplabv3", "resnet18", 5),
            "the weights of a deeplabv3_resnet18, but the model is a fcn_resnet18",
        ),
        (lambda: {"weight": np.zeros(3, np.float32)}, "(backbone.conv1.weight, backbone.layer1.0.conv1.weight, ...)"),
    ],
)
def test_weights_of_another_network_are_named(content, cause, tmp_path):
    save_file(content(), tmp_path / "x.safetensors")
    assert cause in refusal(FCN, weights=tmp_path / "x.safetensors")


def test_a_classifier_refuses_segmentation_weights_by_name(file):
    with pytest.raises(WeightsError, match="the weights of a fcn_resnet18, but the model is a resnet18"):
        ResNet18(weights=file)


# --- files of ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("fcn", ".keras"), ("deeplabv3", ".weights.h5"), ("deeplabv3plus", ".keras"), ("unet", ".weights.h5")],
)
def test_own_files(name, suffix, randomise, tmp_path):
    auxiliary = {"auxiliary_head": True} if name in ("fcn", "deeplabv3") else {}
    model = randomise(load(ARCHITECTURE_BUILDERS[name], **auxiliary), seed=1)
    path = tmp_path / f"own{suffix}"
    (model.save if suffix == ".keras" else model.save_weights)(path)
    loaded = load(ARCHITECTURE_BUILDERS[name], weights=path, **auxiliary)
    assert facts_of(loaded).weights_origin.source == path.name
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if auxiliary:
        without = load(ARCHITECTURE_BUILDERS[name], weights=path)
        np.testing.assert_array_equal(without.get_layer("logits").kernel, model.get_layer("logits").kernel)


@pytest.mark.parametrize("builder", [DeepLabV3Plus, UNet])
def test_torchvision_has_no_names_for_its_own_lack(builder, file):
    message = refusal(builder, weights=file)
    assert f"torchvision has no {builder.__name__.lower()}_resnet18" in message
    assert ".keras or .weights.h5" in message


# --- the backbone's -----------------------------------------------------------------------------------------------


def test_weights_of_a_backbone_come_from_any_file_of_its_classifier(randomise, tmp_path):
    torchvision = backbone_file(tmp_path, "resnet18")
    ResNet18(weights=torchvision, classes=10).save(tmp_path / "classifier.keras")
    expected = ResNet18(weights=torchvision, classes=10, include_top=False)
    for path in (torchvision, tmp_path / "classifier.keras"):
        model = load(UNet, backbone_weights=path)
        for layer in expected.layers:
            for ours, theirs in zip(model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        assert model.get_layer("decoder4_1_conv").get_weights()[0].std() > 0
        assert model.get_layer("logits").get_weights()[0].std() > 0
        assert facts_of(model).weights_origin.source == path.name


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"backbone_weights": "imagnet"}, "`backbone_weights`: `weights` must be None, 'imagenet'"),
        ({"weights": "imagenet"}, "These are weights for the backbone: give backbone_weights='imagenet'"),
        ({"weights": "a1_in1k"}, "backbone_weights='a1_in1k'"),
        ({"weights": TAG}, "must be None, 'hf://owner/repository', or the path of a file"),
        ({"weights": "nothing.keras"}, "names a file that does not exist"),
    ],
)
def test_sources_that_mean_nothing(arguments, hint):
    assert hint in refusal(DeepLabV3, **arguments)


# --- torchvision's files ------------------------------------------------------------------------------------------


def test_the_published_files_are_these():
    published = {
        (architecture, backbone): network_of(architecture, backbone).weights
        for architecture in ARCHITECTURE_BUILDERS
        for backbone in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    }
    facts = {key: (tags[TAG].url, dict(tags[TAG].metrics)) for key, tags in published.items() if tags}
    base = "https://download.pytorch.org/models/"
    assert facts == {  # torchvision's metadata
        (architecture, backbone): (base + name, {"mean_iou_percent": miou, "pixel_accuracy_percent": accuracy})
        for architecture, backbone, name, miou, accuracy in (
            ("fcn", "resnet50", "fcn_resnet50_coco-1167a1af.pth", 60.5, 91.4),
            ("fcn", "resnet101", "fcn_resnet101_coco-7ecb50ca.pth", 63.7, 91.9),
            ("deeplabv3", "resnet50", "deeplabv3_resnet50_coco-cd0a2569.pth", 66.4, 92.4),
            ("deeplabv3", "resnet101", "deeplabv3_resnet101_coco-586e9e4e.pth", 67.4, 92.4),
        )
    }


@pytest.fixture
def published(monkeypatch, tmp_path, state) -> NetworkOnBackbone:
    """A network whose weights lie in a folder that stands in for torchvision's, and PyTorch's cache elsewhere."""
    torch = pytest.importorskip("torch")
    folder = tmp_path / "models"
    folder.mkdir()
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, folder / "fcn.pth")
    sha256 = hashlib.sha256((folder / "fcn.pth").read_bytes()).hexdigest()
    (folder / "fcn.pth").rename(folder / f"fcn-{sha256[:8]}.pth")
    monkeypatch.setattr("keras_resnet.variants.TORCHVISION_FILES", folder.as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    file = TorchvisionFile(f"fcn-{sha256[:8]}.pth", {}, "BSD-3-Clause")
    return NetworkOnBackbone("fcn", VARIANTS["resnet18"], {TAG: file})


def test_a_tag_is_fetched_once_into_pytorchs_cache(published, monkeypatch, tmp_path, state):
    monkeypatch.setattr("keras_resnet.segmentation.network_of", lambda *_: published)
    model = load(FCN, weights=TAG)
    np.testing.assert_array_equal(model.get_layer("logits").bias, state["classifier.4.bias"])
    assert (facts_of(model).weights_origin.source, facts_of(model).weights_origin.licence) == (TAG, "BSD-3-Clause")
    assert facts_of(model).weights_origin.repository is None
    path, contract = resolve_weights(published, TAG)
    assert path == tmp_path / "cache" / "hub" / "checkpoints" / published.weights[TAG].name
    assert contract is None
    (tmp_path / "models" / path.name).unlink()
    assert resolve_weights(published, TAG) == (path, None)


def test_a_file_in_pytorchs_cache_is_always_hashed(published, monkeypatch, tmp_path):
    monkeypatch.setattr("keras_resnet.segmentation.network_of", lambda *_: published)
    path, _ = resolve_weights(published, TAG)
    path.write_bytes(path.read_bytes() + b"\0")
    assert refusal(FCN, weights=TAG).startswith(
        f"{path}: is not the published file of this name: its SHA-256 begins with {file_sha256(path)[:8]}, and must "
        f"begin with {path.stem.removeprefix('fcn-')}. Remove it and fetch it again"
    )


@pytest.mark.parametrize("fault", ["absent", "another file"])
def test_a_failed_download_names_the_file_and_the_way_by_path(published, tmp_path, fault):
    file = published.weights[TAG]
    if fault == "absent":
        (tmp_path / "models" / file.name).unlink()
    else:
        (tmp_path / "models" / file.name).write_bytes(b"something else")
    with pytest.raises(WeightsError, match=re.escape(f"can't fetch {file.url} (")) as refused:
        resolve_weights(published, TAG)
    assert f'weights="{file.name}"' in str(refused.value)
    assert not list((tmp_path / "cache").rglob("*.pth"))
