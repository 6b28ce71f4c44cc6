"""Checkpoints as people have them: whatever the wrapper, prefix, suffix and dialect, the one ResNet is taken."""

import argparse
import collections
import datetime
import functools
import logging
import pathlib
import re
import sys
import zipfile
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from resnet18_files import RESNET18, SHAPE, assert_same_weights, load, refusal, value
from safetensors.numpy import save_file

from keras_resnet.checkpoints import Head, take_network
from keras_resnet.cli.network import weights_from
from keras_resnet.dialects import DIALECTS, resnets_in, torchvision_name
from keras_resnet.errors import ArgumentError, WeightsError
from keras_resnet.loading import open_network
from keras_resnet.models import BUILDERS, ResNet18
from keras_resnet.segmentation import FCN, UNet
from keras_resnet.tasks.classify.training import ClassifierTraining
from keras_resnet.training.recipe import Recipe
from keras_resnet.variants import VARIANTS
from keras_resnet.weight_files import read_weight_file
from keras_resnet.weights import load_weights, torchvision_names
from keras_resnet.weights_from import WeightsFrom

torch = pytest.importorskip("torch")


@pytest.fixture(scope="session")
def tensors(state):
    """The seeded ResNet-18 as PyTorch's tensors."""
    return {name: torch.from_numpy(np.array(tensor)) for name, tensor in state.items()}


@pytest.fixture(scope="session")
def few(tensors):
    """The same names over small tensors, with a head of 3 classes out of 4 features."""
    small = {name: torch.full((2,), float(i)) for i, name in enumerate(tensors)}
    return small | {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.arange(3.0)}


def take(path, few, head=None, prefix=""):
    """-> what is taken of a file with these tensors, seen to be just theirs; and the line."""
    wanted = [name for name in torchvision_names(RESNET18) if not name.startswith("fc.")]
    taken = take_network(read_weight_file(path), wanted, head, False, prefix)
    assert set(taken.tensors) == {*wanted, *(("fc.weight", "fc.bias") if head else ())}
    for name, tensor in taken.tensors.items():
        np.testing.assert_array_equal(tensor, few[name].numpy())
    return taken.line


@pytest.fixture
def said(caplog):
    """-> the lines that were logged."""
    caplog.set_level(logging.INFO, "keras_resnet")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "keras_resnet"]


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def without_head(tensors):
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}


def other(tensors):
    """Tensors of the same names and other values."""
    return {name: tensor + 1 for name, tensor in tensors.items()}


def with_head(name, tensors):
    return without_head(tensors) | {f"{name}.weight": tensors["fc.weight"], f"{name}.bias": tensors["fc.bias"]}


def renamed(tensors, *rules):
    def name_of(name):
        for pattern, replacement in rules:
            name, count = re.subn(pattern, replacement, name)
            if count:
                return name
        raise AssertionError(name)

    return {name_of(name): tensor for name, tensor in tensors.items()}


def transformers_names(tensors):
    """As `ResNetForImageClassification` has them; its oracle is below."""

    def block(found):
        layer, index, kind, unit = found.groups()
        return f"resnet.encoder.stages.{int(layer) - 1}.layers.{index}.layer.{int(unit) - 1}.{kind}."

    new = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^conv1\.", "resnet.embedder.embedder.convolution.", name)
        name = re.sub(r"^bn1\.", "resnet.embedder.embedder.normalization.", name)
        name = re.sub(r"^fc\.", "classifier.1.", name)
        name = re.sub(r"downsample\.0", "shortcut.convolution", name)
        name = re.sub(r"downsample\.1", "shortcut.normalization", name)
        name = re.sub(r"^layer(\d)\.(\d)\.(conv|bn)(\d)\.", block, name)
        name = re.sub(
            r"^layer(\d)\.(\d)\.shortcut",
            lambda m: f"resnet.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.shortcut",
            name,
        )
        new[name.replace(".conv.", ".convolution.").replace(".bn.", ".normalization.")] = tensor
    return new


def detectron2_names(tensors):
    """As its tools/convert-torchvision-to-d2.py makes them, with the module names of a detector."""
    new = {}
    for name, tensor in without_head(tensors).items():
        name = name if name.startswith("layer") else f"stem.{name}"
        name = re.sub(r"layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
        name = re.sub(r"bn(\d)", r"conv\1.norm", name)
        name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        new[f"backbone.bottom_up.{name}"] = tensor
    return new


def numbered_names(tensors):
    """Of torch.nn.Sequential(*resnet.children())."""
    return renamed(
        without_head(tensors),
        (r"^conv1\.", "0."),
        (r"^bn1\.", "1."),
        *((rf"^layer{layer}\.", f"{layer + 3}.") for layer in (1, 2, 3, 4)),
    )


WHOLE = {  # content, the prefix under which the network lies
    "Lightning": (
        lambda t: {"state_dict": under("model.", t), "epoch": 3, "hyper_parameters": {"lr": 0.1}},
        "state_dict.model.",
    ),
    "DataParallel": (lambda t: {"arch": "resnet18", "state_dict": under("module.", t)}, "state_dict.module."),
    "torch.compile": (lambda t: under("_orig_mod.", t), "_orig_mod."),
    "torch.compile in DDP": (lambda t: {"net": under("module._orig_mod.", t)}, "net.module._orig_mod."),
    "a compiled layer": (
        lambda t: {"net": {name.replace("layer3.", "layer3._orig_mod."): tensor for name, tensor in t.items()}},
        "net.",
    ),
    "deep": (lambda t: {"a": {"b": [{"c.d": under("e.f.", t)}]}}, "a.b.0.c.d.e.f."),
    "EMA beside it": (lambda t: {"state_dict_ema": other(t), "state_dict": t}, "state_dict."),
    "EMA in the same dict": (lambda t: under("ema_model.module.", other(t)) | under("model.", t), "model."),
    "only an EMA": (lambda t: {"model_ema": under("module.", t)}, "model_ema.module."),
    "AveragedModel": (lambda t: under("module.", t) | {"n_averaged": torch.tensor(3)}, "module."),
    "student and teacher": (
        lambda t: {"teacher": under("backbone.", other(t)), "student": under("module.backbone.", t)},
        "student.module.backbone.",
    ),
    "registered twice": (lambda t: under("net.", t) | under("model.", t), "net."),
    "a partial copy": (lambda t: {"swap": {"layer1.0.conv1.weight": torch.zeros(1)}, "net": t}, "net."),
    "another head": (lambda t: with_head("head.fc", t), ""),
    "a head beside the backbone": (
        lambda t: under("backbone.", without_head(t)) | {"cls.weight": t["fc.weight"], "cls.bias": t["fc.bias"]},
        "backbone.",
    ),
    "a loss beside the model": (lambda t: under("model.", t) | {"criterion.weight": torch.ones(3)}, "model."),
    "an optimizer beside flat tensors": (
        lambda t: {**t, "optimizer": {"state": {0: {"exp_avg": torch.zeros(512, 512)}}}},
        "",
    ),
    "transformers": (transformers_names, "resnet."),
    "a flat EMA in the same dict": (
        lambda t: {"net": t | {f"ema_{name.replace('.', '_')}": tensor + 1 for name, tensor in t.items()}},
        "net.",
    ),
    "solo-learn": (
        lambda t: {
            "state_dict": under("backbone.", without_head(t))
            | {"classifier.weight": t["fc.weight"], "classifier.bias": t["fc.bias"]}
            | {"momentum_classifier.weight": t["fc.weight"] + 1, "momentum_classifier.bias": t["fc.bias"] + 1}
            | {"projector.0.weight": torch.zeros(4, 4), "projector.0.bias": torch.zeros(4)}
        },
        "state_dict.backbone.",
    ),
    "a BatchNorm for augmented images": (
        lambda t: {"net": t | {"bn1.aux_bn.0.weight": torch.ones(2), "bn1.aux_bn.0.running_var": torch.ones(2)}},
        "net.",
    ),
    "the stem as a module": (
        lambda t: {re.sub(r"^(conv|bn)1", lambda m: f"layer0.{int(m[1] == 'bn')}", name): x for name, x in t.items()},
        "",
    ),
    "a tuple": (lambda t: (t, {"lr": 0.1}), "0."),
    "MMPretrain": (
        lambda t: {
            "meta": {"epoch": 1},
            "state_dict": under("backbone.", without_head(t))
            | {"head.fc.weight": t["fc.weight"], "head.fc.bias": t["fc.bias"]},
        },
        "state_dict.backbone.",
    ),
}
HEADLESS = {
    "MoCo": (
        lambda t: {
            "state_dict": under("module.encoder_k.", other(without_head(t)))
            | under("module.encoder_q.", without_head(t))
            | {
                "module.encoder_q.fc.0.weight": torch.zeros(512, 512),
                "module.encoder_q.fc.0.bias": torch.zeros(512),
                "module.encoder_q.fc.2.weight": torch.zeros(128, 512),
                "module.encoder_q.fc.2.bias": torch.zeros(128),
                "module.queue": torch.zeros(128, 16),
            }
        },
        "state_dict.module.encoder_q.",
    ),
    "BYOL": (
        lambda t: (
            under("online_network.encoder.", without_head(t))
            | under("target_network.encoder.", other(without_head(t)))
            | {"predictor.0.weight": torch.zeros(64, 512), "predictor.0.bias": torch.zeros(64)}
        ),
        "online_network.encoder.",
    ),
    "detectron2": (lambda t: {"model": detectron2_names(t), "iteration": 7}, "model.backbone.bottom_up."),
    "a detector of MMDetection": (
        lambda t: {
            "state_dict": under("backbone.", without_head(t))
            | {"neck.lateral_convs.0.conv.weight": torch.zeros(256, 512, 1, 1)}
        },
        "state_dict.backbone.",
    ),
    "Faster R-CNN": (
        lambda t: {
            "model": under("backbone.body.", without_head(t))
            | {"backbone.fpn.inner_blocks.0.0.weight": torch.zeros(256, 64, 1, 1)}
        },
        "model.backbone.body.",
    ),
    "numbered": (lambda t: under("encoder.", numbered_names(t)), "encoder."),
}


# --- what is taken ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", WHOLE)
def test_a_network_is_found_under_any_wrapper_and_prefix(case, tmp_path, few):
    content, prefix = WHOLE[case]
    torch.save(content(few), tmp_path / "checkpoint")
    line = take(tmp_path / "checkpoint", few, Head("fc", 4, 3))
    place = f"under '{prefix}'" if prefix else "without a prefix"
    assert line.startswith(f"checkpoint: took 102 tensors {place} (names of ")


@pytest.mark.parametrize("case", HEADLESS)
def test_a_backbone_is_found_beside_what_is_not_the_networks(case, tmp_path, few):
    content, prefix = HEADLESS[case]
    torch.save(content(few), tmp_path / "checkpoint")
    line = take(tmp_path / "checkpoint", few)
    assert line.startswith(f"checkpoint: took 100 tensors under '{prefix}' (names of ")


@pytest.mark.parametrize("case", ["Lightning", "EMA beside it", "transformers"])
def test_the_logits_are_the_plain_files(case, tmp_path, tensors, blank, loaded, said):
    content, _ = WHOLE[case]
    torch.save(content(tensors), tmp_path / "checkpoint")
    load_weights(blank, RESNET18, tmp_path / "checkpoint")
    assert_same_weights(blank, loaded)
    assert len(said()) == 1


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
@pytest.mark.parametrize(
    "name", ["best.pth.tar", "last.ckpt", "pytorch_model.bin", "checkpoint-9", "r18.keras", "r.h5", "r.safetensors"]
)
def test_the_content_decides_and_not_the_suffix(kind, name, tmp_path, few):
    if kind == "safetensors":
        save_file({key: tensor.numpy() for key, tensor in few.items()}, tmp_path / name)
    else:
        torch.save(few, tmp_path / name, _use_new_zipfile_serialization=kind == "zip")
    assert take(tmp_path / name, few, Head("fc", 4, 3)) == ""  # a plain file: there was no choice


@pytest.mark.parametrize("own", [".weights.h5", ".keras"])
def test_own_files_under_another_suffix(own, tmp_path, trained, blank):
    trained.save(tmp_path / f"own{own}") if own == ".keras" else trained.save_weights(tmp_path / f"own{own}")
    (tmp_path / f"own{own}").rename(tmp_path / "own.bin")
    load_weights(blank, RESNET18, tmp_path / "own.bin")
    assert_same_weights(blank, trained)


def test_harmless_objects_are_left_unread(tmp_path, few):
    args = argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("a/b"), dtype=np.dtype("float32"))
    content = {
        "model": collections.OrderedDict(few),
        "args": args,
        "metric": np.float64(76.1),
        "when": np.datetime64("2020-01-01"),
        "path": pathlib.Path("runs/1"),
        "random": np.arange(5),
        "type": np.float32,
        "counts": collections.Counter("ab"),
    }
    torch.save(content, tmp_path / "train.pth")
    assert take(tmp_path / "train.pth", few, Head("fc", 4, 3)) == (
        "train.pth: took 102 tensors under 'model.' (names of torchvision); left aside: 7 entries without tensors "
        "('args', ...)"
    )


def package_class(monkeypatch, module, name, base=object):
    """-> a class as another package has it."""
    for end in [place for place, letter in enumerate(f"{module}.") if letter == "."]:
        monkeypatch.setitem(sys.modules, module[:end], ModuleType(module[:end]))
    kind = type(name, (base,), {"__module__": module, "__qualname__": name})
    setattr(sys.modules[module], name, kind)
    return kind


def filled(kind, **attributes):
    made = kind()
    made.__dict__.update(attributes)
    return made


RECORDS = {  # module, name and base of a class, and its use in a file
    "MMEngine": (
        *("mmengine.logging.history_buffer", "HistoryBuffer", object),
        lambda kind: {"log_scalars": collections.OrderedDict(loss=filled(kind, _log_history=np.arange(3.0)))},
    ),
    "Lightning": ("lightning.fabric.utilities.data", "AttributeDict", dict, lambda kind: kind(lr=0.1, inner=kind())),
    "an old Lightning": (
        *("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", object),
        lambda kind: {kind: {"best_model_path": "a"}},
    ),
    "OmegaConf": ("omegaconf.dictconfig", "DictConfig", object, lambda kind: filled(kind, _content={"object": dict})),
    "yacs": ("yacs.config", "CfgNode", dict, lambda kind: kind(a=kind(b=1))),
}


@pytest.mark.parametrize("package", RECORDS)
def test_records_of_training_packages_are_left_unread(package, tmp_path, few, monkeypatch):
    module, name, base, use = RECORDS[package]
    kind = package_class(monkeypatch, module, name, base)
    torch.save({"state_dict": few, "records": use(kind)}, tmp_path / "last.ckpt")
    assert take(tmp_path / "last.ckpt", few, Head("fc", 4, 3)) == (
        "last.ckpt: took 102 tensors under 'state_dict.' (names of torchvision); left aside: 1 entry without tensors "
        "('records')"
    )


def test_settings_of_pytorch_itself_are_left_unread(tmp_path, few):
    settings = {
        "criterion": torch.nn.CrossEntropyLoss(label_smoothing=0.1),
        "optimizer": functools.partial(torch.optim.SGD, lr=0.1),
        "losses": collections.defaultdict(list, {"train": [1.0]}),
        "seen": {1, 2},
        "when": datetime.timedelta(hours=3),
    }
    torch.save({"state_dict": few, "hyper_parameters": settings}, tmp_path / "last.ckpt")
    assert "1 entry without tensors ('hyper_parameters')" in take(tmp_path / "last.ckpt", few, Head("fc", 4, 3))


@pytest.mark.filterwarnings("error")
def test_protocol_3_of_pickle_is_read_without_a_warning(tmp_path, few):
    torch.save(few, tmp_path / "x.pth", pickle_protocol=3)
    assert take(tmp_path / "x.pth", few, Head("fc", 4, 3)) == ""


def test_bytes_of_python_2_are_read(tmp_path, few):
    torch.save({"state_dict": few, "rank1": "00000000"}, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth.tar", "w") as old:
        for name in new.namelist():
            bytes_of_a_number = b"U\x0b" + b"\xff" * 11  # as long as the text that it takes the place of
            old.writestr(name, new.read(name).replace(b"X\x08\0\0\x0000000000", bytes_of_a_number))
    assert b"\xff" * 11 in (tmp_path / "old.pth.tar").read_bytes()
    assert "1 entry without tensors ('rank1')" in take(tmp_path / "old.pth.tar", few, Head("fc", 4, 3))


def test_the_line_warns_of_a_file_of_caffe(tmp_path, few):
    torch.save(few, tmp_path / "resnet18_caffe.pth")
    assert "networks of Caffe, which take BGR" in take(tmp_path / "resnet18_caffe.pth", few, Head("fc", 4, 3))


def test_a_head_of_other_classes_is_left_aside_by_the_line(tmp_path, few):
    torch.save(with_head("cls", few), tmp_path / "x.pth")
    wanted = [name for name in torchvision_names(RESNET18) if not name.startswith("fc.")]
    taken = take_network(read_weight_file(tmp_path / "x.pth"), wanted, Head("fc", 4, 10), False, "")
    assert taken.line == (
        "x.pth: took 100 tensors without a prefix (names of torchvision); left aside: the head 'cls' of 3 classes"
    )


def test_what_could_change_the_heads_input_leaves_it_fresh_where_training_starts(tmp_path, few):
    content = under("backbone.", without_head(few)) | {"neck.weight": torch.ones(4)}
    content |= {"cls.weight": few["fc.weight"], "cls.bias": few["fc.bias"]}
    torch.save(content, tmp_path / "x.pth")
    wanted = [name for name in torchvision_names(RESNET18) if not name.startswith("fc.")]
    checkpoint = read_weight_file(tmp_path / "x.pth")
    assert "neck.weight" in take_network(checkpoint, wanted, Head("fc", 4, 3), False, "").tensors
    fresh = take_network(checkpoint, wanted, Head("fc", 4, 3, may_be_fresh=True), False, "")
    assert set(fresh.tensors) == set(wanted)


@pytest.mark.parametrize(
    ("prefix", "taken"),
    [
        ("state_dict_ema", "average"),
        ("state_dict_ema.module.", "average"),
        ("module", "average"),
        ("state_dict", "plain"),
        ("", "plain"),
    ],
)
def test_the_prefix_names_one_of_several(prefix, taken, tmp_path, few):
    average = {name: tensor + 1 for name, tensor in few.items()}
    torch.save({"state_dict_ema": under("module.", average), "state_dict": few}, tmp_path / "timm.pth")
    line = take(tmp_path / "timm.pth", average if taken == "average" else few, Head("fc", 4, 3), prefix)
    aside = "network under 'state_dict.'" if taken == "average" else "average under 'state_dict_ema.module.'"
    assert line.endswith(f"left aside: the {aside} (--weights-prefix takes another)")


def test_of_two_depths_the_one_that_fits_is_taken(tmp_path, few):
    deeper = {name: torch.zeros(1) for name in torchvision_names(VARIANTS["resnet34"])}
    torch.save({"big": deeper, "small": few}, tmp_path / "x.pth")
    take(tmp_path / "x.pth", few, Head("fc", 4, 3))


# --- heads --------------------------------------------------------------------------------------------------------


def test_a_missing_head_stays_fresh_where_that_is_asked_for(tmp_path, tensors, loaded):
    torch.save(under("encoder.", without_head(tensors)), tmp_path / "ssl.pth")
    with pytest.raises(WeightsError, match="the file has no head: build the network with include_top=False"):
        ResNet18(weights=tmp_path / "ssl.pth", input_shape=SHAPE)
    with pytest.warns(UserWarning, match=r"the head stays fresh \(random\): .*ssl.pth has none") as caught:
        model = ResNet18(weights=WeightsFrom(tmp_path / "ssl.pth", fresh_head=True), input_shape=SHAPE, classes=5)
    assert caught[0].filename == __file__
    assert value(model, "logits").std() > 0
    np.testing.assert_array_equal(value(model, "stage5_block2_2_conv"), value(loaded, "stage5_block2_2_conv"))


def test_a_head_of_another_name_and_size_stays_fresh(tmp_path, tensors):
    head = {
        "classifier.1.weight": tensors["fc.weight"][:5].clone(),
        "classifier.1.bias": tensors["fc.bias"][:5].clone(),
    }
    torch.save(without_head(tensors) | head, tmp_path / "five.pth")
    with pytest.warns(UserWarning, match="the model has 7 classes, .*five.pth has 5"):
        ResNet18(weights=tmp_path / "five.pth", input_shape=SHAPE, classes=7)
    model = load(tmp_path / "five.pth", classes=5)
    np.testing.assert_array_equal(value(model, "logits"), tensors["fc.weight"][:5].numpy().T)


def test_a_layer_between_backbone_and_head_is_refused_with_the_head_and_left_aside_without(tmp_path, tensors, small):
    neck = {f"neck.{name}": torch.ones(512) for name in ("weight", "bias", "running_mean", "running_var")}
    head = {"cls.weight": tensors["fc.weight"], "cls.bias": tensors["fc.bias"]}
    torch.save(under("backbone.", without_head(tensors)) | neck | head, tmp_path / "reid.pth")
    message = refusal(small, tmp_path / "reid.pth")
    assert "unknown (2):\n  neck." in message
    assert "these tensors stand beside the network, and could change what its head is given" in message
    load(tmp_path / "reid.pth", include_top=False)


def test_an_mlp_is_no_head(tmp_path, tensors, small):
    first = {"weight": torch.zeros(64, 512), "bias": torch.zeros(64)}
    second = {"weight": torch.zeros(128, 64), "bias": torch.zeros(128)}
    torch.save(without_head(tensors) | under("fc.0.", first) | under("fc.2.", second), tmp_path / "simclr.pth")
    assert "the file has no head" in refusal(small, tmp_path / "simclr.pth")


def test_a_self_supervised_backbone_is_where_training_starts(tmp_path, tensors, loaded):
    content, _ = HEADLESS["MoCo"]
    torch.save(content(tensors), tmp_path / "moco.pth")
    recipe = Recipe(network="resnet18", size=32, weights=str(tmp_path / "moco.pth"))
    model = ClassifierTraining(recipe, SimpleNamespace(classes=["a", "b"])).training_model(fresh=True)
    assert model.output_shape == (None, 2)
    assert value(model, "logits").std() > 0
    np.testing.assert_array_equal(value(model, "stem_bn", 1), value(loaded, "stem_bn", 1))
    other_encoder = replace(recipe, weights_prefix="encoder_k")
    model = ClassifierTraining(other_encoder, SimpleNamespace(classes=["a", "b"])).training_model(fresh=True)
    np.testing.assert_array_equal(value(model, "stem_bn", 1), value(loaded, "stem_bn", 1) + 1)


def test_the_option_takes_a_prefix_with_its_weights(tmp_path, tensors):
    torch.save({"ema": other(tensors), "model": tensors}, tmp_path / "x.pth")
    assert weights_from("x.pth", None, None) == "x.pth"
    with pytest.raises(ArgumentError, match="--weights-prefix is for --weights, which was not given"):
        weights_from(None, "ema", None)
    network, _ = open_network("resnet18", weights_from(str(tmp_path / "x.pth"), "ema", None))
    np.testing.assert_array_equal(value(network, "stem_bn", 1), tensors["bn1.bias"].numpy() + 1)


# --- what is refused ----------------------------------------------------------------------------------------------


def test_without_a_network_the_files_own_names_are_shown(tmp_path, small):
    content = {
        "params": {"blocks.0.attn.qkv.weight": torch.zeros(6, 2), "cls\x1b[31m_token": torch.zeros(2)},
        "epoch": 3,
    }
    torch.save(content, tmp_path / "vit.pth")
    message = refusal(small, tmp_path / "vit.pth")
    for part in (
        "holds no ResNet under names that are known; nothing was loaded",
        "top-level keys: 'params' (2 tensors), 'epoch' (int)",
        "first of 2 tensors: 'params.blocks.0.attn.qkv.weight' [6, 2], 'params.cls\\x1b[31m_token' [2]",
        "known names: torchvision: layer1.0.conv1.weight; transformers: encoder.stages.0",
    ):
        assert part in message
    assert "\x1b" not in message


def test_a_part_of_a_network_is_recognised_by_its_stem(tmp_path, tensors, small):
    stem = {name: tensor for name, tensor in transformers_names(tensors).items() if "embedder" in name}
    torch.save(stem, tmp_path / "part.bin")
    message = refusal(small, tmp_path / "part.bin")
    assert "part.bin, under 'resnet.' (names of transformers), does not fit resnet18" in message
    assert "missing (97)" in message
    assert "likely cause: it has only 5 of the network's 102 tensors: a part of a network" in message


def test_several_networks_are_an_error_that_names_them_and_the_option(tmp_path, tensors, small):
    torch.save({"left": under("net.", tensors), "right": under("net.", other(tensors))}, tmp_path / "two.pth")
    message = refusal(small, tmp_path / "two.pth")
    for part in (
        "holds 2 networks that fit alike",
        "--weights-prefix or WeightsFrom(path, prefix=...): 'left.net.', 'right.net.'",
        "top-level keys: 'left' (122 tensors), 'right' (122 tensors)".replace("122", str(len(tensors))),
        "'left.net.conv1.weight' [64, 3, 7, 7]",
    ):
        assert part in message
    with pytest.raises(WeightsError, match=r"no ResNet has the prefix 'middle'.*'left\.net\.', 'right\.net\.'"):
        load_weights(small, RESNET18, WeightsFrom(tmp_path / "two.pth", "middle"))


def test_problems_are_named_by_the_files_own_names(tmp_path, tensors, small):
    broken = under("model.", tensors)
    del broken["model.layer4.1.bn2.bias"]
    broken["model.layer1.0.se.weight"] = torch.zeros(3)
    broken["model.bn1.running_var"] = -broken["model.bn1.running_var"]
    torch.save({"state_dict": broken}, tmp_path / "x.ckpt")
    message = refusal(small, tmp_path / "x.ckpt")
    for part in (
        "x.ckpt, under 'state_dict.model.' (names of torchvision), does not fit resnet18",
        "missing (1):\n  layer4.1.bn2.bias -> stage5_block2_2_bn/beta",
        "unknown (1):\n  state_dict.model.layer1.0.se.weight",
        "negative variance (1):\n  state_dict.model.bn1.running_var -> stem_bn/moving_variance",
    ):
        assert part in message


@pytest.mark.parametrize("old", [False, True])
def test_a_tensor_that_asks_for_more_than_is_stored_is_refused(old, tmp_path, tensors, small):
    huge = {**tensors, "layer4.1.conv2.weight": torch.zeros(1).expand(512, 512, 3000, 3000)}
    path = tmp_path / "huge.pth"
    torch.save(huge, path, _use_new_zipfile_serialization=not old)
    assert "stores 4 of the 9,437,184,000,000 bytes of layer4.1.conv2.weight" in refusal(small, path)
    shared = torch.zeros(512, 512, 3, 3)
    torch.save({name: shared for name in tensors}, path, _use_new_zipfile_serialization=not old)
    assert re.search(r"has 9,\d{3},\d{3} bytes, and its tensors ask for 962,\d{3},\d{3}", refusal(small, path))


def test_an_archive_that_declares_more_than_it_stores_is_refused(tmp_path, small):
    torch.save({"layer1.0.conv1.weight": torch.zeros(10_000_000)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert "damaged, or compressed, which PyTorch does not do" in refusal(small, tmp_path / "bomb.pth")


def test_endless_and_repeated_dicts_are_refused(tmp_path, small):
    endless = {"a": torch.zeros(1)}
    endless["self"] = endless
    torch.save(endless, tmp_path / "endless.pth")
    bomb = {"a": torch.zeros(1)}
    for _ in range(15):
        bomb = {str(i): bomb for i in range(8)}
    torch.save(bomb, tmp_path / "bomb.pth")
    for name in ("endless.pth", "bomb.pth"):
        assert "too many dicts in each other" in refusal(small, tmp_path / name)


def test_two_ways_to_one_name_are_refused(tmp_path, small):
    torch.save({"a": {"b.c": torch.zeros(1)}, "a.b": {"c": torch.zeros(1)}}, tmp_path / "x.pth")
    assert "has two tensors named a.b.c" in refusal(small, tmp_path / "x.pth")


def test_a_whole_module_and_a_program_are_refused_by_name(tmp_path, small):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "module.pt")
    assert "other than tensors (torch.nn.modules.container.Sequential)" in refusal(small, tmp_path / "module.pt")
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:  # the members by which PyTorch knows one
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"program/{name}", b"")
    assert "is a TorchScript program" in refusal(small, tmp_path / "program.pt")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x1f\x8b\x08\x00rest", "compressed by gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a page of HTML"),
        (bytes(257) + b"ustar" + bytes(300), "a tar archive"),
    ],
)
def test_strangers_are_named(content, what, tmp_path, small):
    (tmp_path / "weights.pth").write_bytes(content)
    assert what in refusal(small, tmp_path / "weights.pth")


# --- files of Keras -----------------------------------------------------------------------------------------------


def test_keras_applications_and_keras_2_are_named(tmp_path, small, trained):
    with h5py.File(tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels.h5", "w") as h5:
        h5.attrs["layer_names"] = [b"conv1_conv", b"conv2_block1_1_conv"]
        h5["conv1_conv/conv1_conv/kernel:0"] = np.zeros((7, 7, 3, 64), "f4")
        h5["conv2_block1_1_conv/conv2_block1_1_conv/kernel:0"] = np.zeros((1, 1, 64, 64), "f4")
    message = refusal(small, tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels.h5")
    assert "layout of Keras 2" in message
    assert "a ResNet of keras.applications, which has the stride in the first 1x1 convolution" in message
    trained.save(tmp_path / "own.h5")
    message = refusal(small, tmp_path / "own.h5")
    assert "its layers have the names of this package's networks: load it into its model with Keras" in message
    image = keras.Input((8, 8, 3))
    layer = keras.layers.Conv2D(2, 1, name="conv2_block1_1_conv")
    keras.Model(image, layer(image)).save(tmp_path / "applications.keras")
    assert "biases before BatchNorm" in refusal(small, tmp_path / "applications.keras")


# --- segmentation -------------------------------------------------------------------------------------------------


def test_a_segmentation_network_in_a_wrapper_and_its_backbone(tmp_path, tensors, said):
    unit = {kind: torch.full((128,), 0.5) for kind in ("weight", "bias", "running_mean", "running_var")}
    head = {
        "classifier.0.weight": torch.full((128, 512, 3, 3), 0.5),
        **under("classifier.1.", unit),
        "classifier.4.weight": torch.ones(5, 128, 1, 1),
        "classifier.4.bias": torch.arange(5.0),
    }
    content = {"model": under("module.", under("backbone.", without_head(tensors)) | head), "epoch": 1}
    torch.save(content, tmp_path / "fcn.pth")
    fcn = FCN("resnet18", 5, weights=tmp_path / "fcn.pth")
    np.testing.assert_array_equal(value(fcn, "stem_bn", 1), tensors["bn1.bias"].numpy())
    np.testing.assert_array_equal(value(fcn, "logits", 1), np.arange(5))
    unet = UNet("resnet18", 5, backbone_weights=tmp_path / "fcn.pth")
    np.testing.assert_array_equal(value(unet, "stem_bn", 1), tensors["bn1.bias"].numpy())
    assert [line.partition(" (")[0] for line in said()] == [
        "fcn.pth: took 107 tensors under 'model.module.'",
        "fcn.pth: took 100 tensors under 'model.module.backbone.'",
    ]
    with pytest.raises(WeightsError, match="these are the weights of a fcn_resnet18, but the model is a resnet18"):
        ResNet18(weights=tmp_path / "fcn.pth", classes=5)


# --- dialects -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
def test_transformers_own_network_gives_its_logits(layer_type, tmp_path):
    transformers = pytest.importorskip("transformers")
    bottleneck = layer_type == "bottleneck"
    config = transformers.ResNetConfig(
        depths=[3, 4, 6, 3] if bottleneck else [2, 2, 2, 2],
        hidden_sizes=[256, 512, 1024, 2048] if bottleneck else [64, 128, 256, 512],
        layer_type=layer_type,
        num_labels=7,
    )
    torch.manual_seed(0)
    network = transformers.ResNetForImageClassification(config).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.4, 1.2),
                (module.running_var, 0.5, 2),
                (module.bias, -0.2, 0.2),
            ):
                torch.nn.init.uniform_(tensor, low, high)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    values = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype("f4")
    model = BUILDERS["resnet50" if bottleneck else "resnet18"](
        weights=tmp_path / "pytorch_model.bin",
        input_shape=(64, 64, 3),
        classes=7,
        classifier_activation=None,
        include_preprocessing=False,
    )
    with torch.no_grad():
        expected = network(torch.from_numpy(values.transpose(0, 3, 1, 2).copy())).logits.numpy()
    logits = np.asarray(model(values, training=False))
    assert np.abs(logits - expected).max() / np.abs(expected).max() <= 5e-6


def test_every_dialect_has_its_example():
    for dialect in DIALECTS:
        assert torchvision_name(dialect, dialect.example) == "layer1.0.conv1.weight"
        assert [found.dialect for found in resnets_in([f"x.{dialect.example}"])] == [dialect]


def test_detectron2s_line_says_what_its_names_do_not_tell(tmp_path, tensors, said):
    torch.save(detectron2_names(tensors), tmp_path / "d2.pth")
    load(tmp_path / "d2.pth", include_top=False)
    assert "take BGR with another mean and deviation" in said()[0]


def test_nothing_of_a_tensor_that_is_not_taken_is_read(tmp_path, tensors):
    """An optimizer's state costs no memory."""
    torch.save({"model": tensors, "optimizer": {"state": {"0": torch.zeros(5)}}}, tmp_path / "x.pth")
    checkpoint = read_weight_file(tmp_path / "x.pth")

    def refuse():
        raise AssertionError("read")

    name = "optimizer.state.0"
    checkpoint.tensors[name] = checkpoint.tensors[name]._replace(read=refuse)
    wanted = [name for name in torchvision_names(RESNET18) if not name.startswith("fc.")]
    assert len(take_network(checkpoint, wanted, Head("fc", 512, 1000), False, "").tensors) == 102
