"""Seed -> weights under torchvision's names, and pixels: the oracle's inputs, from NumPy alone.

The shapes are written down here a second time, and not taken from `keras_resnet`, so that a fault there can't hide.
"""

import zlib

import numpy as np

ARCHITECTURES = {  # network: (3x3 convolutions in pairs, or bottlenecks; blocks of each stage)
    "resnet18": ("pair", (2, 2, 2, 2)),
    "resnet34": ("pair", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}
CIFAR_BLOCKS_PER_STAGE = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}


def _random(name: str) -> np.random.RandomState:
    """One stream a name; RandomState, since NumPy promises to never change its numbers."""
    return np.random.RandomState(zlib.crc32(name.encode()))


class _State(dict[str, np.ndarray]):
    """State dict with torchvision's names, to be filled."""

    def uniform(self, name: str, low: float, high: float, *shape: int) -> None:
        self[name] = _random(name).uniform(low, high, shape).astype(np.float32)

    def convolution(self, name: str, outputs: int, inputs: int, size: int) -> None:
        bound = np.sqrt(6 / (inputs * size * size))  # keeps the second moment through a ReLU
        self.uniform(f"{name}.weight", -bound, bound, outputs, inputs, size, size)

    def batch_norm(self, name: str, channels: int, last: bool = False) -> None:
        # The last scale of a branch is small, so that 50 blocks on top of each other stay bounded.
        self.uniform(f"{name}.weight", *((0.2, 0.5) if last else (0.7, 1.3)), channels)
        self.uniform(f"{name}.bias", -0.3, 0.3, channels)
        self.uniform(f"{name}.running_mean", -0.3, 0.3, channels)
        self.uniform(f"{name}.running_var", 0.5, 2.0, channels)
        self[f"{name}.num_batches_tracked"] = np.array(1000, dtype=np.int64)


def pixels(batch: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Shape -> uint8 `[batch, height, width, channels]`, with a mean of its own for every image and channel."""
    random = _random("pixels")
    level = random.uniform(60, 200, (batch, 1, 1, channels))
    noise = random.uniform(-55, 55, (batch, height, width, channels))
    return (level + noise).astype(np.uint8)


def state_dict(network: str, classes: int = 1000) -> dict[str, np.ndarray]:
    """Name of a network -> `{torchvision's tensor name: float32 array}`, BatchNorm far from its initial state.

    A network for CIFAR has akamaster's names: another one for the head, and no projections.
    """
    cifar = network in CIFAR_BLOCKS_PER_STAGE
    kind, blocks_per_stage = ("pair", (CIFAR_BLOCKS_PER_STAGE[network],) * 3) if cifar else ARCHITECTURES[network]
    stem, size, head = (16, 3, "linear") if cifar else (64, 7, "fc")
    state = _State()
    state.convolution("conv1", stem, 3, size)
    state.batch_norm("bn1", stem)
    inputs = stem
    for stage, blocks in enumerate(blocks_per_stage, start=1):
        width = stem * 2 ** (stage - 1)
        outputs = width if kind == "pair" else 4 * width
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes = (
                [(width, inputs, 3), (outputs, width, 3)]
                if kind == "pair"
                else [(width, inputs, 1), (width, width, 3), (outputs, width, 1)]
            )
            for i, shape in enumerate(shapes, start=1):
                state.convolution(f"{name}.conv{i}", *shape)
                state.batch_norm(f"{name}.bn{i}", shape[0], last=i == len(shapes))
            if block == 0 and (stage > 1 or inputs != outputs) and not cifar:
                state.convolution(f"{name}.downsample.0", outputs, inputs, 1)
                state.batch_norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    state.uniform(f"{head}.weight", -np.sqrt(3 / inputs), np.sqrt(3 / inputs), classes, inputs)
    state.uniform(f"{head}.bias", -0.5, 0.5, classes)
    return state


def segmentation_state_dict(architecture: str, backbone: str, classes: int = 21) -> dict[str, np.ndarray]:
    """An architecture of torchvision's, its backbone -> its state dict, the auxiliary head included."""
    body = {name: value for name, value in state_dict(backbone, 1).items() if not name.startswith("fc.")}
    state = _State({f"backbone.{name}": value for name, value in body.items()})
    c5 = len(body["layer4.0.downsample.1.weight"])
    units = [("aux_classifier.0", "aux_classifier.1", c5 // 8, c5 // 2, 3)]  # convolution, BatchNorm, out, in, size
    if architecture == "fcn":
        channels = c5 // 4
        units += [("classifier.0", "classifier.1", channels, c5, 3)]
    else:
        channels = 256
        units += [
            ("classifier.0.convs.0.0", "classifier.0.convs.0.1", 256, c5, 1),
            ("classifier.0.convs.1.0", "classifier.0.convs.1.1", 256, c5, 3),
            ("classifier.0.convs.2.0", "classifier.0.convs.2.1", 256, c5, 3),
            ("classifier.0.convs.3.0", "classifier.0.convs.3.1", 256, c5, 3),
            ("classifier.0.convs.4.1", "classifier.0.convs.4.2", 256, c5, 1),
            ("classifier.0.project.0", "classifier.0.project.1", 256, 5 * 256, 1),
            ("classifier.1", "classifier.2", 256, 256, 3),
        ]
    for conv, bn, outputs, inputs, size in units:
        state.convolution(conv, outputs, inputs, size)
        state.batch_norm(bn, outputs)
    for head, inputs in (("classifier.4", channels), ("aux_classifier.4", c5 // 8)):
        state.convolution(head, classes, inputs, 1)
        state.uniform(f"{head}.bias", -0.5, 0.5, classes)
    return state
