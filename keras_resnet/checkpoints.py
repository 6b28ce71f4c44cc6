"""Tensors of a checkpoint, under any names -> tensors of the one ResNet in it, under torchvision's names.

A file can hold several networks: a network and its moving average, a student and its teacher, two encoders. The network
whose names fit best is taken. If a network and its average fit equally well, the network is taken, not its average.
`WeightsFrom` names another.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from keras_resnet.dialects import DIALECTS, STRIDE_IN_1X1, NamedResNet, resnets_in
from keras_resnet.errors import WeightsError
from keras_resnet.torch_files import Checkpoint, StoredTensor, escaped

LISTED = 6  # names or keys that an error shows
_COUNTER = ".num_batches_tracked"
# Tensors that no prediction uses: PyTorch's count of training steps; a BatchNorm for augmented images, of timm.
_UNUSED = re.compile(r"\.num_batches_tracked$|\.aux_bn\.\d+\.\w+$")
# Words in the names of modules beside a network that only its self-supervised training uses.
_SELF_SUPERVISED = {"projector", "prototypes"}
# Words in the names of moving averages of a network that is trained beside them.
_AVERAGES = {
    *("ema", "swa", "avg", "average", "averaged", "averages", "shadow", "slow", "momentum"),
    *("teacher", "target", "key", "k"),
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_CAFFE = re.compile("caffe|msra", re.IGNORECASE)  # in the name of a file: converted from there
_ON_BACKBONE = re.compile(r"((?:.*\.)?)(backbone\.(?:body\.)?)(?:_orig_mod\.)?")  # detectors have `backbone.body`


class Head(NamedTuple):
    """The dense layer that a classifier ends in."""

    name: str  # torchvision's: "fc"
    features: int
    classes: int
    may_be_fresh: bool = False  # whether it may stay random where the file's can't be told


class TakenNetwork(NamedTuple):
    """The network in a file."""

    tensors: dict[str, np.ndarray]  # by torchvision's name
    file_names: dict[str, str]  # torchvision's name -> the file's own
    around: set[str]  # the names around a backbone, for errors: of the segmentation network that it belongs to
    heads: list[str]  # the file's dense layers that could be the head, where there are several
    where: str  # prefix and dialect
    line: str  # what was taken, and what was left aside; empty for a plain file


def take_network(
    checkpoint: Checkpoint, wanted: Iterable[str], head: Head | None, on_backbone: bool, prefix: str
) -> TakenNetwork:
    """Content of a file -> the network that is wanted.

    Args:
        wanted: torchvision's names of the network's tensors, without the head's.
        head: The head that the model has; None where it has none, and for segmentation networks.
        on_backbone: Whether it is a network over a backbone, whose names begin with "backbone.".
        prefix: Names one of several; as `WeightsFrom` has it.

    Raises:
        WeightsError: There is no such network, or there are several.
    """
    names = set(wanted)
    resnets = resnets_in(checkpoint.tensors)
    whole = _on_backbones(checkpoint, resnets) if on_backbone else []
    taken = _choose(checkpoint, whole or resnets, names, prefix)
    ours = dict(taken.names)
    heads: list[str] = []
    if head is not None and not whole:
        beside = _beside(checkpoint, resnets, taken)
        scope, heads = _heads(checkpoint, beside, taken, head)
        ours |= _head(beside, taken, head, scope, heads)
    ours = {name: theirs for name, theirs in ours.items() if not _UNUSED.search(name)}
    _check_sizes(checkpoint, ours.values())
    tensors = {name: checkpoint.tensors[theirs].read() for name, theirs in ours.items()}
    line = _line(checkpoint, whole or resnets, taken, ours, head)
    several = heads if len(heads) > 1 else []
    return TakenNetwork(tensors, ours, _around(checkpoint, taken), several, _where(taken), line)


def _on_backbones(checkpoint: Checkpoint, resnets: Iterable[NamedResNet]) -> list[NamedResNet]:
    """-> the networks over a backbone, each with all names that stand beside the backbone."""
    found = []
    for resnet in resnets:
        place = _ON_BACKBONE.fullmatch(resnet.prefix)
        if place and resnet.dialect is DIALECTS[0]:
            beside = {
                name.removeprefix(place[1]): name
                for name in checkpoint.tensors
                if name.startswith(place[1]) and not name.startswith(resnet.prefix)
            }
            backbone = {f"{place[2]}{ours}": theirs for ours, theirs in resnet.names.items()}
            found.append(NamedResNet(place[1], resnet.dialect, backbone | beside))
    return found


def _around(checkpoint: Checkpoint, taken: NamedResNet) -> set[str]:
    place = _ON_BACKBONE.fullmatch(taken.prefix)
    if place is None:
        return set()
    beside = {name.removeprefix(place[1]) for name in checkpoint.tensors if name.startswith(place[1])}
    return {name for name in beside if not _UNUSED.search(name)}


# --- which of several ---------------------------------------------------------------------------------------------


def _choose(checkpoint: Checkpoint, resnets: list[NamedResNet], wanted: set[str], prefix: str) -> NamedResNet:
    if not resnets:
        raise WeightsError(*_nothing(checkpoint, wanted))
    chosen = _with_prefix(resnets, prefix) if prefix else resnets
    if not chosen:
        raise WeightsError(
            f"{checkpoint.path}: no ResNet has the prefix {prefix!r}; nothing was loaded. The file has the prefixes "
            f"{_listed(resnet.prefix for resnet in resnets)}"
        )
    best = max(_fit(resnet, wanted) for resnet in chosen)
    chosen = [resnet for resnet in chosen if _fit(resnet, wanted) == best]
    chosen = [resnet for resnet in chosen if not _is_average(resnet)] or chosen
    chosen = _without_copies(checkpoint, sorted(chosen, key=lambda resnet: DIALECTS.index(resnet.dialect)))
    if len(chosen) > 1:
        raise WeightsError(*_several(checkpoint, chosen))
    return chosen[0]


def _fit(resnet: NamedResNet, wanted: set[str]) -> tuple[int, int]:
    """-> how many names are wanted, and then how few are not: a deeper network has all names of one less deep."""
    unwanted = {name for name in resnet.names if name not in wanted and not _UNUSED.search(name)}
    return len(wanted & resnet.names.keys()), -len(unwanted)


def _with_prefix(resnets: Iterable[NamedResNet], prefix: str) -> list[NamedResNet]:
    parts = prefix.strip(".").split(".")

    def has(resnet: NamedResNet) -> bool:
        theirs = resnet.prefix.strip(".").split(".")
        return any(theirs[i : i + len(parts)] == parts for i in range(len(theirs) - len(parts) + 1))

    exact = [resnet for resnet in resnets if resnet.prefix.strip(".") == prefix.strip(".")]
    return exact or [resnet for resnet in resnets if has(resnet)]


def _is_average(resnet: NamedResNet) -> bool:
    return _names_average(resnet.prefix)


def _names_average(name: str) -> bool:
    return any(word.lower() in _AVERAGES for word in _WORD.findall(name))


def _without_copies(checkpoint: Checkpoint, resnets: list[NamedResNet]) -> list[NamedResNet]:
    """-> networks without equal copies; a module that is registered under two names has a copy."""
    different: list[NamedResNet] = []
    for resnet in resnets:
        if not any(_equal(checkpoint, resnet, other) for other in different):
            different.append(resnet)
    return different


def _equal(checkpoint: Checkpoint, one: NamedResNet, other: NamedResNet) -> bool:
    if one.names.keys() != other.names.keys():
        return False
    _check_sizes(checkpoint, [*one.names.values(), *other.names.values()])
    pairs = ((checkpoint.tensors[one.names[name]], checkpoint.tensors[other.names[name]]) for name in one.names)
    return all(a.shape == b.shape and np.array_equal(a.read(), b.read()) for a, b in pairs)


# --- the head -----------------------------------------------------------------------------------------------------


def _heads(
    checkpoint: Checkpoint, beside: Mapping[str, StoredTensor], taken: NamedResNet, head: Head
) -> tuple[str, list[str]]:
    """-> prefix of the module that has the head, and the dense layers in it that could be it."""
    own = f"{taken.prefix}{head.name}"
    if f"{own}.weight" in beside or f"{own}.bias" in beside:
        return taken.prefix, [own]
    for scope in _scopes(checkpoint, taken):
        layers = _dense_layers(beside, scope, head.features)
        layers = [layer for layer in layers if not _is_for_training(layer.removeprefix(scope))]
        if layers:
            return scope, [layer for layer in layers if not _names_average(layer.removeprefix(scope))] or layers
    return taken.prefix, []


def _head(
    beside: Mapping[str, StoredTensor], taken: NamedResNet, head: Head, scope: str, heads: list[str]
) -> dict[str, str]:
    """-> the head's tensors, and all that could stand between backbone and head, which is then refused as unknown."""
    if len(heads) != 1:
        return {}
    own = {f"{head.name}.{kind}": f"{heads[0]}.{kind}" for kind in ("weight", "bias")}
    found = {ours: theirs for ours, theirs in own.items() if theirs in beside}
    weight = beside.get(own[f"{head.name}.weight"])
    if weight is None or weight.shape[:1] != (head.classes,):
        return found  # it is left fresh, or refused
    between = {
        name
        for name, tensor in beside.items()
        if name not in found.values()
        and name.startswith(scope)
        and (name.startswith(taken.prefix) or _yields(name, tensor, head.features))
        and not _is_for_training(name.removeprefix(scope))
    }
    if between and head.may_be_fresh:
        return {}
    return found | {name: name for name in between}


def _is_for_training(name: str) -> bool:
    """Name in the module of network and head -> whether it is a projector, or a flat copy, as "ema_conv1_weight"."""
    words = [word.lower() for word in _WORD.findall(name)]
    return not _SELF_SUPERVISED.isdisjoint(words) or ("." not in name and words[:1] == ["ema"])


def _beside(checkpoint: Checkpoint, resnets: Iterable[NamedResNet], taken: NamedResNet) -> dict[str, StoredTensor]:
    """-> tensors in the same dict of the file that are of no ResNet, nor within another one."""
    resnets = list(resnets)
    in_networks = {name for resnet in resnets for name in resnet.names.values()}
    prefixes = _prefixes_beside(resnets, taken)
    folder = checkpoint.folder[next(iter(taken.names.values()))]
    return {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if name not in in_networks
        and checkpoint.folder[name].startswith(folder)
        and (checkpoint.folder[name] == folder or (name.startswith(taken.prefix) and taken.prefix != folder))
        and not name.startswith(prefixes)
        and not _UNUSED.search(name)
    }


def _prefixes_beside(resnets: Iterable[NamedResNet], taken: NamedResNet) -> tuple[str, ...]:
    """-> the prefixes of other networks; what else has them, as their heads, is theirs."""
    return tuple(resnet.prefix for resnet in resnets if not taken.prefix.startswith(resnet.prefix))


def _scopes(checkpoint: Checkpoint, taken: NamedResNet) -> list[str]:
    """-> the network's prefix, and the prefixes of the modules around it, up to its dict in the file."""
    floor = checkpoint.folder[next(iter(taken.names.values()))]
    scopes = [taken.prefix]
    while len(scopes[-1]) > len(floor):
        scopes.append(scopes[-1].rstrip(".").rpartition(".")[0])
        scopes[-1] += "." if scopes[-1] else ""
    return [scope for scope in scopes if scope.startswith(floor)]


def _dense_layers(tensors: Mapping[str, StoredTensor], scope: str, features: int) -> list[str]:
    """-> the dense layers of so many inputs that end a module: no other tensor is beside them in it."""
    owners: dict[str, set[str]] = {}
    for name in tensors:
        if name.startswith(scope):
            layer = name.rpartition(".")[0]
            owners.setdefault(layer.rpartition(".")[0], set()).add(layer)
    found = []
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        bias = tensors.get(f"{layer}.bias")
        if not name.startswith(scope) or kind != "weight" or len(tensor.shape) != 2 or bias is None:
            continue
        owner = layer.rpartition(".")[0]
        alone = owner == scope.rstrip(".") or owners[owner] == {layer}
        if alone and tensor.shape[1] == features and bias.shape == tensor.shape[:1]:
            found.append(layer)
    return found


def _yields(name: str, tensor: StoredTensor, features: int) -> bool:
    """Whether it is of a layer that yields what a head takes."""
    return name.endswith((".weight", ".running_mean")) and tensor.shape[:1] == (features,)


def _check_sizes(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """Raises for tensors that ask for more than is stored, as a repeated value does: they could fill the memory."""
    total_bytes, size_bytes = 0, checkpoint.path.stat().st_size
    for name in names:
        tensor = checkpoint.tensors[name]
        total_bytes += tensor.size_bytes
        stored_bytes = min(tensor.stored_bytes, size_bytes)
        if tensor.size_bytes > stored_bytes:
            raise WeightsError(
                f"{checkpoint.path} stores {stored_bytes:,} of the {tensor.size_bytes:,} bytes of {escaped(name)}; "
                "nothing was loaded. Save it whole: tensor.contiguous()"
            )
    if total_bytes > size_bytes:
        raise WeightsError(
            f"{checkpoint.path} has {size_bytes:,} bytes, and its tensors ask for {total_bytes:,}; nothing was loaded"
        )


# --- what is said -------------------------------------------------------------------------------------------------


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(f"'{escaped(name)}'" for name in names[:LISTED])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > LISTED else shown


def _content(checkpoint: Checkpoint) -> list[str]:
    keys = [f"'{escaped(key)}' ({what})" for key, what in checkpoint.entries.items()]
    more = f", ... ({len(keys)} in all)" if len(keys) > LISTED else ""
    names = [f"'{escaped(name)}' {list(tensor.shape)}" for name, tensor in checkpoint.tensors.items()]
    of_tensors = f"first of {len(names)} tensors: {', '.join(names[:LISTED]) or 'there are none'}"
    if checkpoint.entries.keys() == checkpoint.tensors.keys():
        return [of_tensors]
    return [f"top-level keys: {', '.join(keys[:LISTED])}{more}", of_tensors]


def _nothing(checkpoint: Checkpoint, wanted: set[str]) -> list[str]:
    before = "backbone." if "backbone.conv1.weight" in wanted else ""
    known = "; ".join(f"{dialect.name}: {dialect.example}" for dialect in DIALECTS)
    return [
        f"{checkpoint.path} holds no ResNet under names that are known; nothing was loaded",
        "likely cause: another architecture; no tensor has a name of torchvision's ResNet "
        f"({before}conv1.weight, {before}layer1.0.conv1.weight, ...) or of another package, behind any prefix",
        *_content(checkpoint),
        f"known names: {known}",
    ]


def _several(checkpoint: Checkpoint, resnets: list[NamedResNet]) -> list[str]:
    return [
        f"{checkpoint.path} holds {len(resnets)} networks that fit alike; nothing was loaded. Name one by its prefix, "
        f"--weights-prefix or WeightsFrom(path, prefix=...): {_listed(resnet.prefix for resnet in resnets)}",
        *_content(checkpoint),
    ]


def _where(taken: NamedResNet) -> str:
    place = f"under '{escaped(taken.prefix)}'" if taken.prefix else "without a prefix"
    return f"{place} (names of {taken.dialect.name})"


def _line(
    checkpoint: Checkpoint,
    resnets: Iterable[NamedResNet],
    taken: NamedResNet,
    ours: Mapping[str, str],
    head: Head | None,
) -> str:
    """-> what was taken and what was not; empty for a plain file, of which at most the head is left aside."""
    others = [resnet for resnet in resnets if (resnet.prefix, resnet.dialect) != (taken.prefix, taken.dialect)]
    elsewhere = {*ours.values(), *(name for resnet in others for name in resnet.names.values())}
    within_others = _prefixes_beside(others, taken)
    rest = [
        name
        for name in checkpoint.tensors
        if name not in elsewhere and not name.startswith(within_others) and not name.endswith(_COUNTER)
    ]
    objects = [key for key, what in checkpoint.entries.items() if not what.endswith(("tensor", "tensors"))]
    renamed = any(theirs != name for name, theirs in ours.items())
    note = taken.dialect.note
    if _CAFFE.search(checkpoint.path.name):
        note = (
            "The file's name is of networks of Caffe, which take BGR with another mean and deviation, and "
            f"{STRIDE_IN_1X1}"
        )
    if not (note or others or objects or renamed or any(not name.startswith(("fc.", "linear.")) for name in rest)):
        return ""
    aside = [
        f"the {'average' if _is_average(resnet) else 'network'} under '{escaped(resnet.prefix)}'"
        for resnet in others[:LISTED]
    ]
    aside += [f"more networks ({len(others)} in all)"] if len(others) > LISTED else []
    aside = [f"{', '.join(aside)} (--weights-prefix takes another)"] if aside else []
    aside += [_counted(rest, "other tensor", "other tensors")] if rest else []
    aside += [_counted(objects, "entry without tensors", "entries without tensors")] if objects else []
    count, and_head = len(ours), ""
    weight = ours.get(f"{head.name}.weight") if head else None
    if head and weight:
        name, classes = escaped(weight.removesuffix(".weight")), checkpoint.tensors[weight].shape[0]
        if classes != head.classes:
            count -= sum(name.startswith(f"{head.name}.") for name in ours)
            aside.insert(0, f"the head '{name}' of {classes} classes")
        elif weight != f"{taken.prefix}{head.name}.weight":
            and_head = f", and the head '{name}'"
    line = f"{checkpoint.path.name}: took {count} tensors {_where(taken)}{and_head}"
    line += f"; left aside: {', '.join(aside) or 'nothing'}"
    return f"{line}. {note}" if note else line


def _counted(names: list[str], one: str, several: str) -> str:
    if len(names) == 1:
        return f"1 {one} ('{escaped(names[0])}')"
    return f"{len(names)} {several} ('{escaped(names[0])}', ...)"
