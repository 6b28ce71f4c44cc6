"""Names and shapes of a network that does not fit -> which other kind of network it is, by the signs of each kind."""

import re
from collections.abc import Iterable, Mapping

from keras_resnet.torch_files import escaped

# Sign in torchvision's names of the tensors: what has it. The first that is found counts.
_SIGNS = {
    r".*weight_mask": "its weights are pruned with masks. Call torch.nn.utils.prune.remove(module, 'weight') for each "
    "pruned module, and save the network again",
    r".*(parametrizations\..*|weight_[guv])": "its weights are parametrised, as weight_norm and spectral_norm do. Call "
    "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight') for each, and save the network again",
    r".*(fake_quant|activation_post_process|_packed_params|zero_point).*": "it is quantized, or prepared for that. "
    "Give the weights from before its quantization",
    r".*lora_.*": "its weights are changed by LoRA. Merge the changes, and save the network again",
    r"layer.*\.(se|eca|attn|cbam|gc|ca|sa|fc)(\..*)?\.weight|layer.*\.(se|eca|attn|cbam|gc)\..*": "its blocks have "
    "attention, as a SE-ResNet or an ECA-ResNet has",
    r"layer.*\.(convs|bns)\.\d.*": "its blocks are split into scales, as a Res2Net's are",
    r"layer.*\.conv2\.(conv|fc1|attn|paths).*": "its blocks have split attention, as a ResNeSt or a SKNet has",
    r"layer.*\.(conv|bn)\d\.(?!weight|bias|running).*": "its blocks have other layers instead of plain convolutions",
    r"conv1\.\d\..*": "its stem is three convolutions of 3x3, as a ResNet-C or a ResNet-D has, such as resnet50d",
    r"layer.*\.shortcut\..*": "it has the names of a network for CIFAR, such as kuangliu/pytorch-cifar has",
}
# Networks whose tensors have the names and shapes of an ordinary ResNet, so that only their names tell.
_SAME_TENSORS = re.compile(r"resnet-?(blur|aa)", re.IGNORECASE)


Shapes = Mapping[str, tuple[int, ...]]  # by torchvision's name


def other_network(wanted: Shapes, found: Shapes) -> str | None:
    """Tensors that the model has, tensors of the file -> what the file is, where a sign tells."""
    known = len(found.keys() & wanted.keys())
    if 0 < known < len(wanted) / 10:
        return f"it has only {known} of the network's {len(wanted)} tensors: a part of a network"
    for sign, what in _SIGNS.items():
        if any(re.fullmatch(sign, name) for name in found.keys() - wanted.keys()):
            return what
    if "layer1.0.conv1.bias" in found and "layer1.0.bn1.weight" not in found:
        return "its BatchNorm is folded into the convolutions. Give the weights from before that"
    if "bn1.weight" in found and not any(name.endswith("running_mean") for name in found):
        return "its normalisation has no running statistics: it is no BatchNorm, but a GroupNorm, for example"
    return _by_depth(wanted, found) or _by_shape(wanted, found)


def has_same_tensors(architecture: str) -> bool:
    """Name of a network -> whether it computes something else from tensors of the same names and shapes."""
    return bool(_SAME_TENSORS.search(architecture))


def blurs(architecture: str) -> str:
    """Name of such a network -> the end of a sentence that says why its file is refused."""
    return (
        f"states that it is a {escaped(architecture)}, which blurs its feature maps where a ResNet here only strides. "
        "Its tensors have the same names and shapes, and would give wrong answers"
    )


def _by_depth(wanted: Iterable[str], found: Iterable[str]) -> str | None:
    ours, theirs = _blocks(wanted), _blocks(found)
    if ours == theirs or not ours or not theirs:
        return None
    return f"its stages have {_counted(theirs)} blocks, and the model's have {_counted(ours)}"


def _blocks(names: Iterable[str]) -> list[int]:
    blocks: dict[int, set[int]] = {}
    for name in names:
        place = re.match(r"layer(\d)\.(\d+)\.", name)
        if place:
            blocks.setdefault(int(place[1]), set()).add(int(place[2]))
    return [len(blocks[stage]) for stage in sorted(blocks)]


def _counted(blocks: Iterable[int]) -> str:
    return ", ".join(map(str, blocks))


def _by_shape(wanted: Shapes, found: Shapes) -> str | None:
    places = ("conv1.weight", "layer1.0.conv2.weight")
    if any(len(shapes.get(place, ())) != 4 for shapes in (wanted, found) for place in places):
        return None
    (stem, theirs), (_, our_channels, our_side, _) = (found[place] for place in places), wanted[places[0]]
    if theirs[1] < theirs[0]:
        return f"its convolutions have {theirs[0] // theirs[1]} groups, as a ResNeXt's have"
    if theirs[0] != wanted[places[1]][0]:
        return f"its first stage is {theirs[0]} channels wide instead of {wanted[places[1]][0]}, as in a Wide ResNet"
    if stem[2] != our_side:
        small = ", as in a network for small images (CIFAR) or in CLIP" if stem[2] == 3 else ""
        return f"its first convolution is {stem[2]}x{stem[3]} instead of {our_side}x{our_side}{small}"
    if stem[1] not in (3, our_channels):
        return f"it takes {stem[1]} input channels: build the network with input_shape=(height, width, {stem[1]})"
    return None
