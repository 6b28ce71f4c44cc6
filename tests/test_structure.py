"""Layers, their types and their weights' shapes, in order, against text files.

Layer names are stable API: checkpoints, heads and the name map of published weights depend on them. After a change on
purpose, regenerate with

    python tests/test_structure.py --write
"""

import sys
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from keras_resnet import detection, segmentation
from keras_resnet.models import BUILDERS

NETWORKS: dict[str, Callable[[], keras.Model]] = {
    **BUILDERS,
    "segmentation/fcn": lambda: segmentation.FCN("resnet18", auxiliary_head=True),
    "segmentation/deeplabv3": lambda: segmentation.DeepLabV3("resnet18", auxiliary_head=True),
    "segmentation/deeplabv3plus": lambda: segmentation.DeepLabV3Plus("resnet18"),
    "segmentation/unet": lambda: segmentation.UNet("resnet18"),
    "detection/fasterrcnn_v1": lambda: detection.FasterRCNN("resnet18"),
    "detection/fasterrcnn_v2": lambda: detection.FasterRCNN("resnet18", version="v2"),
    "detection/maskrcnn_v1": lambda: detection.MaskRCNN("resnet18"),
    "detection/maskrcnn_v2": lambda: detection.MaskRCNN("resnet18", version="v2"),
}
GOLDENS = Path(__file__).parent / "goldens"
COMMAND = "python tests/test_structure.py --write"


def describe(model: keras.Model) -> str:
    """Model -> a line `layer Type` for each layer, each followed by a line `layer/variable shape` for each weight."""
    lines = []
    for layer in model.layers:
        lines.append(f"{layer.name} {type(layer).__name__}")
        for variable in layer.weights:
            shape = "x".join(map(str, variable.shape))
            lines.append(f"  {layer.name}/{variable.name} {shape}{'' if variable.trainable else ' not trained'}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.usefixtures("shapes_alone")
def test_structure_equals_the_golden(network: str) -> None:
    path = GOLDENS / f"{network}.txt"
    lines = describe(NETWORKS[network]()).splitlines()
    golden = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    pairs = [*zip(lines, golden, strict=False), (f"{len(lines)} lines", f"{len(golden)} lines")]
    first = next(((ours, theirs) for ours, theirs in pairs if ours != theirs), None)
    assert first is None, (
        f"{network} has {first[0]!r} where {path.name} has {first[1]!r}. If that is meant, regenerate with: {COMMAND}"
    )


def write() -> None:
    for network, builder in NETWORKS.items():
        path = GOLDENS / f"{network}.txt"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(describe(builder()), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {COMMAND}")
    write()
