"""Names that other packages give to the tensors of a ResNet -> torchvision's names, as a table of dialects."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

MOST_PARTS = 40  # largest number of parts of a dotted name
MOST_NETWORKS = 50  # largest number of networks in a file; the ones with the most tensors are kept
STRIDE_IN_1X1 = "stride in the first 1x1 convolution of a block: they would give wrong answers here"
# Modules that wrap others, and add a part to every name inside: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(r"(?<=\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PLACES = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z0-9])")  # where a name can begin, behind its prefix
_BLOCK = re.compile(r"layer\d\.\d+\.conv\d\..*")


class NameRule(NamedTuple):
    """Names of one form."""

    theirs: str  # pattern of a whole name, behind its prefix
    ours: Callable[..., str]  # groups of the pattern -> torchvision's name


class Dialect(NamedTuple):
    """How one package names the tensors of a ResNet; the first rule that fits a name counts."""

    name: str
    example: str  # the first convolution of the first block
    rules: tuple[NameRule, ...]
    stem_tells: bool = True  # whether no other network has such names of the stem
    note: str = ""  # what the names do not tell


def _as_it_is(name: str) -> str:
    return name


_PARAMETER = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_STAGE = r"encoder\.stages\.(\d)\.layers\.(\d+)"
DIALECTS = (
    Dialect(
        "torchvision",
        "layer1.0.conv1.weight",
        (
            NameRule(rf"layer0\.(?:0|conv1)\.{_PARAMETER}", lambda x: f"conv1.{x}"),  # the stem as a module
            NameRule(rf"layer0\.(?:1|bn1)\.{_PARAMETER}", lambda x: f"bn1.{x}"),
            NameRule(r"((?:conv1|bn1|layer\d)\..+)", _as_it_is),
        ),
        stem_tells=False,
    ),
    Dialect(  # ResNetForImageClassification
        "transformers",
        "encoder.stages.0.layers.0.layer.0.convolution.weight",
        (
            NameRule(r"embedder\.embedder\.convolution\.(.+)", lambda x: f"conv1.{x}"),
            NameRule(r"embedder\.embedder\.normalization\.(.+)", lambda x: f"bn1.{x}"),
            NameRule(
                _STAGE + r"\.layer\.(\d)\.convolution\.(.+)",
                lambda stage, block, i, x: f"layer{int(stage) + 1}.{block}.conv{int(i) + 1}.{x}",
            ),
            NameRule(
                _STAGE + r"\.layer\.(\d)\.normalization\.(.+)",
                lambda stage, block, i, x: f"layer{int(stage) + 1}.{block}.bn{int(i) + 1}.{x}",
            ),
            NameRule(
                _STAGE + r"\.shortcut\.convolution\.(.+)",
                lambda stage, block, x: f"layer{int(stage) + 1}.{block}.downsample.0.{x}",
            ),
            NameRule(
                _STAGE + r"\.shortcut\.normalization\.(.+)",
                lambda stage, block, x: f"layer{int(stage) + 1}.{block}.downsample.1.{x}",
            ),
            NameRule(r"(encoder\.stages\..+)", _as_it_is),
        ),
    ),
    Dialect(  # tools/convert-torchvision-to-d2.py
        "detectron2",
        "res2.0.conv1.weight",
        (
            NameRule(r"stem\.conv1\.norm\.(.+)", lambda x: f"bn1.{x}"),
            NameRule(r"stem\.conv1\.(.+)", lambda x: f"conv1.{x}"),
            NameRule(
                r"res(\d)\.(\d+)\.conv(\d)\.norm\.(.+)", lambda r, block, i, x: f"layer{int(r) - 1}.{block}.bn{i}.{x}"
            ),
            NameRule(
                r"res(\d)\.(\d+)\.conv(\d)\.(.+)", lambda r, block, i, x: f"layer{int(r) - 1}.{block}.conv{i}.{x}"
            ),
            NameRule(
                r"res(\d)\.(\d+)\.shortcut\.norm\.(.+)",
                lambda r, block, x: f"layer{int(r) - 1}.{block}.downsample.1.{x}",
            ),
            NameRule(
                r"res(\d)\.(\d+)\.shortcut\.(.+)", lambda r, block, x: f"layer{int(r) - 1}.{block}.downsample.0.{x}"
            ),
            NameRule(r"(res\d\..+)", _as_it_is),
        ),
        note="The names do not tell that detectron2's published networks take BGR with another mean and deviation, and "
        f"that most {STRIDE_IN_1X1}",
    ),
    Dialect(  # torch.nn.Sequential(*resnet.children())
        "a torch.nn.Sequential",
        "4.0.conv1.weight",
        (
            NameRule(rf"0\.{_PARAMETER}", lambda x: f"conv1.{x}"),
            NameRule(rf"1\.{_PARAMETER}", lambda x: f"bn1.{x}"),
            NameRule(r"([4-7])\.(\d+\.(?:conv|bn|downsample).+)", lambda child, x: f"layer{int(child) - 3}.{x}"),
        ),
        stem_tells=False,
    ),
)
_PATTERNS = {rule.theirs: re.compile(rule.theirs) for dialect in DIALECTS for rule in dialect.rules}


class NamedResNet(NamedTuple):
    """Tensors of a file that are named as one ResNet's: with one prefix, in one dialect."""

    prefix: str
    dialect: Dialect
    names: dict[str, str]  # torchvision's name -> the file's


def torchvision_name(dialect: Dialect, name: str) -> str | None:
    """Name behind its prefix -> torchvision's, or None where the dialect has no such name."""
    plain = _WRAPPERS.sub("", name)
    for rule in dialect.rules:
        found = _PATTERNS[rule.theirs].fullmatch(plain)
        if found:
            return rule.ours(*found.groups())
    return None


def resnets_in(names: Iterable[str]) -> list[NamedResNet]:
    """Dotted names of tensors -> every set among them that has a convolution in a block of a ResNet, or its stem."""
    found: dict[tuple[str, str], NamedResNet] = {}
    for name in names:
        places = [place.start() for place in _PLACES.finditer(name)][:MOST_PARTS]
        for dialect in DIALECTS:
            for place in places:  # the shortest prefix first: "layer1.0.conv1.weight" is no stem behind "layer1.0."
                ours = torchvision_name(dialect, name[place:])
                if ours is not None:
                    resnet = found.setdefault((name[:place], dialect.name), NamedResNet(name[:place], dialect, {}))
                    resnet.names.setdefault(ours, name)
                    break
    resnets = [
        resnet
        for resnet in found.values()
        if any(_BLOCK.fullmatch(name) for name in resnet.names)
        or (resnet.dialect.stem_tells and "conv1.weight" in resnet.names)
    ]
    if len(resnets) <= MOST_NETWORKS:
        return resnets
    return sorted(resnets, key=lambda resnet: -len(resnet.names))[:MOST_NETWORKS]
