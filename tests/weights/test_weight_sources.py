"""Sources of weights: tags, repositories, paths, and the input contract that comes with them."""

import copy
import json
import re
from functools import partial
from pathlib import Path

import keras
import pytest
from huggingface_hub import errors as hub_errors
from resnet18_files import (
    RESNET18,
    SHAPE,
    assert_same_weights,
    load,
)

from keras_resnet.cli.network import weights_from
from keras_resnet.errors import ArgumentError, WeightsError
from keras_resnet.facts import facts_of
from keras_resnet.models import ResNet18
from keras_resnet.training.recipe import Recipe
from keras_resnet.variants import VARIANTS, InputContract
from keras_resnet.weights import load_weights, resolve_weights
from keras_resnet.weights_from import WeightsFrom
from keras_resnet.whole_files import file_sha256

# --- sources ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stands in for the Hub: serves `hub.files[repo, name]`, raises what is an exception, and keeps the requests."""

    class Hub:
        def __init__(self) -> None:
            self.files: dict = {}
            self.requests: list = []
            self.revisions: list = []

    hub = Hub()

    def download(repo_id: str, filename: str, revision: str | None) -> str:
        hub.requests.append((repo_id, filename))
        hub.revisions.append(revision)
        answer = hub.files.get((repo_id, filename), hub_errors.EntryNotFoundError(f"404: no {filename}"))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return hub


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.weights])
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


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"architecture": "resnetblur50"}, "states that it is a resnetblur50"),
        ({"model_type": "resnet", "downsample_in_bottleneck": True}, "has downsample_in_bottleneck in its config.json"),
    ],
)
def test_a_repository_of_a_network_with_the_same_tensors_is_refused(hub, tmp_path, config, what):
    hub.files = {("me/r", "config.json"): tmp_path / "config.json"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=re.escape(f"hf://me/r {what}")):
        resolve_weights(RESNET18, "hf://me/r")


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
    assert facts_of(model).contract == contract
    load_weights(model, RESNET18, file)  # a file states none, and the former one no longer holds
    assert facts_of(model).contract is None


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


# --- revisions and hashes -----------------------------------------------------------------------------------------

FIRST, SECOND = "1" * 40, "2" * 40  # commits


@pytest.fixture
def commit(hub, tmp_path):
    """commit(revision, content): `timm/resnet18.tv_in1k` and `me/r` are at that commit -> SHA-256 of the weights."""

    def serve(revision: str, content: str) -> str:
        for repository in ("timm/resnet18.tv_in1k", "me/r"):
            folder = tmp_path / "hub" / repository.replace("/", "--") / "snapshots" / revision
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "model.safetensors").write_text(content)
            (folder / "config.json").write_text(json.dumps({"pretrained_cfg": TIMM_CONFIG}))
            for name in ("model.safetensors", "config.json"):
                hub.files[repository, name] = folder / name
        return file_sha256(folder / "model.safetensors")

    return serve


@pytest.fixture
def fetch(other, monkeypatch):
    """fetch(weights): all that comes before the tensors are read."""
    monkeypatch.setattr("keras_resnet.weights.read_weight_file", lambda path: None)
    monkeypatch.setattr("keras_resnet.weights.match_weights", lambda *_: [])
    return partial(load_weights, other, RESNET18)


def test_the_first_download_is_recorded_and_another_file_is_an_error(hub, commit, fetch, tmp_path):
    first = commit(FIRST, "a")
    fetch("hf://me/r")
    record = tmp_path / "keras_resnet_weights.json"
    content = json.loads(record.read_text())
    weights, config = "hf://me/r@main/model.safetensors", "hf://me/r@main/config.json"
    assert content["schema_version"] == 1
    assert list(content["files"]) == [config, weights]
    assert content["files"][weights] == {"revision": FIRST, "sha256": first}

    commit(SECOND, "a")  # another commit, with equal files
    fetch("hf://me/r")
    second = commit(SECOND, "b")
    with pytest.raises(WeightsError) as refused:
        fetch("hf://me/r")
    assert str(refused.value) == (
        f"hf://me/r: model.safetensors has changed since its first download. It was SHA-256 {first[:16]}... of "
        f"revision {FIRST}, and is SHA-256 {second[:16]}... of revision {SECOND}. To keep using the first file, give "
        f"--revision {FIRST}. To accept the other one, remove its entry '{weights}' from {record}"
    )
    assert json.loads(record.read_text()) == content

    commit(FIRST, "a")  # what the message advises
    fetch(WeightsFrom("hf://me/r", revision=FIRST))
    assert hub.revisions[-2:] == [FIRST, FIRST]
    del content["files"][weights]
    record.write_text(json.dumps(content))
    commit(SECOND, "b")
    fetch("hf://me/r")
    assert json.loads(record.read_text())["files"][weights] == {"revision": SECOND, "sha256": second}


def test_a_changed_config_is_an_error_too(commit, fetch, tmp_path):
    commit(FIRST, "a")
    fetch("hf://me/r")
    config = tmp_path / "hub" / "me--r" / "snapshots" / FIRST / "config.json"
    config.write_text(json.dumps({"pretrained_cfg": TIMM_CONFIG | {"crop_pct": 0.875}}))
    with pytest.raises(WeightsError, match=r"hf://me/r: config\.json has changed since its first download"):
        fetch("hf://me/r")


@pytest.mark.parametrize("weights", ["imagenet", "tv_in1k", "hf://timm/resnet18.tv_in1k"])
def test_a_tag_is_recorded_as_its_repository(weights, hub, commit, fetch, tmp_path):
    commit(FIRST, "a")
    fetch("imagenet")
    commit(SECOND, "b")
    with pytest.raises(WeightsError, match=r"hf://timm/resnet18\.tv_in1k: model\.safetensors has changed"):
        fetch(weights)
    fetch(WeightsFrom(weights, revision="v2"))  # each revision that a user names has its own entry
    assert hub.revisions[-1] == "v2"
    assert list(json.loads((tmp_path / "keras_resnet_weights.json").read_text())["files"]) == [
        "hf://timm/resnet18.tv_in1k@main/model.safetensors",
        "hf://timm/resnet18.tv_in1k@v2/model.safetensors",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ('{"schema_version": 2}', "schema version 2, but only 1 is known"),
        ('{"schema_version": 1}', "'files'"),
        ('{"schema_version": 1, "files": {"x": {}}}', "'revision'"),
        ('{"schema_version": 1, "files": []}', "'list' object has no attribute 'items'"),
        (" " * 1_000_001, "it has more than 1,000,000 bytes"),
    ],
)
def test_a_damaged_record_is_an_error(text, why, commit, fetch, tmp_path):
    commit(FIRST, "a")
    record = tmp_path / "keras_resnet_weights.json"
    record.write_text(text)
    with pytest.raises(WeightsError) as refused:
        fetch("imagenet")
    assert str(refused.value) == (
        f"{record}: this record of files from the Hub can't be read ({why}). Move it away: the next download "
        "starts a new one"
    )
    assert record.read_text() == text


def test_a_record_that_cannot_be_written_is_a_warning(commit, fetch, monkeypatch, caplog):
    def fail(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("keras_resnet.pinned_files.write_whole", fail)
    commit(FIRST, "a")
    fetch("imagenet")
    [line] = caplog.messages
    assert "can't be written, so that later changes of hf://timm/resnet18.tv_in1k@main/model.safetensors go" in line


@pytest.mark.parametrize("weights", ["r18.safetensors", Path("r18.safetensors")])
def test_a_revision_is_for_the_hub(weights, fetch):
    with pytest.raises(WeightsError, match=r"`revision` \(--revision\) is for weights on the Hugging Face Hub, which"):
        fetch(WeightsFrom(weights, revision=FIRST))


def test_the_options_take_a_revision_with_its_weights():
    assert weights_from("hf://me/r", None, FIRST) == WeightsFrom("hf://me/r", revision=FIRST)
    assert str(weights_from("hf://me/r", "ema", "v2")) == "hf://me/r (ema) (revision v2)"
    with pytest.raises(ArgumentError, match=r"--revision is for --weights, which was not given\. Received: v2"):
        weights_from(None, None, "v2")
    recipe = Recipe(network="resnet18", weights="hf://me/r", revision="v2")
    assert recipe.source_of("weights") == WeightsFrom("hf://me/r", fresh_head=True, revision="v2")
