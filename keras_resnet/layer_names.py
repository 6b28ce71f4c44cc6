"""The names of layers, for code that builds layers and code that looks for them.

The names are stable API, since saved files hold them; docs/architecture.md has the whole scheme. A name consists of the
name of an owner (the stem, a block of a stage, a head's unit of convolution and BatchNorm) and the layer's role.
"""

import re

from keras_resnet.answers import IMAGE as IMAGE

PREPROCESSING = "preprocessing"
STEM = "stem"
POOL, LOGITS, PROBABILITIES = CLASSIFIER_HEAD = ("pool", "logits", "probabilities")
UPSAMPLE = "upsample"  # resize in a segmentation head
DECODER = "decoder"
ASPP = "aspp"  # the pyramid of DeepLab
ASPP_PROJECT = f"{ASPP}_project"  # last unit of the pyramid, after the numbered units
AUXILIARY = "auxiliary"  # the auxiliary head and its output
IMAGE_SIZE = "image_size"  # the second input of a detector for images of any size
FRAME = "frame"  # the image, resized, in the frame that a detector computes in
FPN, RPN, BOX, MASK = DETECTOR_PARTS = ("fpn", "rpn", "box", "mask")
RPN_LOGITS, RPN_DELTAS, RPN_PROPOSALS = (f"{RPN}_{name}" for name in (LOGITS, "deltas", "proposals"))
BOX_LOGITS, BOX_DELTAS, BOX_DETECTIONS = (f"{BOX}_{name}" for name in (LOGITS, "deltas", "detections"))
BOX_FLATTEN = f"{BOX}_flatten"
MASK_LOGITS, MASK_UPSAMPLE = f"{MASK}_{LOGITS}", f"{MASK}_{UPSAMPLE}"
BOXES, MASKS = "boxes", "masks"  # the last layers of a detector, and its outputs


# --- owners -------------------------------------------------------------------------------------------------------


def stage(number: int) -> str:
    """2 -> "stage2", which yields the level C2."""
    return f"stage{number}"


def backbone_part(level: str) -> str:
    """Level -> owner of its layers: "stem", or "stage2" for C2 and so on."""
    return STEM if level == STEM else stage(int(level.removeprefix("C")))


def block(stage_number: int, index: int) -> str:
    """2, 1 -> "stage2_block1"."""
    return f"{stage(stage_number)}_block{index}"


def numbered(owner: str, index: int) -> str:
    """Block or part of a head, number of a unit (from 1) -> name of the unit: "stage2_block1_1"."""
    return f"{owner}_{index}"


def shortcut(block_name: str) -> str:
    """Block -> name of its shortcut."""
    return f"{block_name}_shortcut"


def is_of(layer: str, owner: str) -> bool:
    """Name of a layer, owner -> whether the layer belongs to the owner or to a part of it."""
    return layer.startswith(f"{owner}_")


def stage_of(layer: str) -> str | None:
    """Name of a layer -> "stage2" to "stage5", or None for a layer of no stage."""
    found = re.match(r"(stage\d+)_", layer)
    return found[1] if found else None


# --- layers of an owner -------------------------------------------------------------------------------------------


def pad(owner: str) -> str:
    return f"{owner}_pad"


def conv(unit: str) -> str:
    return f"{unit}_conv"


def bn(unit: str) -> str:
    return f"{unit}_bn"


def relu(unit: str) -> str:
    return f"{unit}_relu"


def pool(owner: str) -> str:
    return f"{owner}_{POOL}"


def add(block_name: str) -> str:
    return f"{block_name}_add"


def out(block_name: str) -> str:
    return f"{block_name}_out"


def is_out(layer: str) -> bool:
    """Name of a layer -> whether it is the last layer of its block."""
    return layer.endswith(out(""))


def upsample(owner: str) -> str:
    return f"{owner}_{UPSAMPLE}"


def concat(owner: str) -> str:
    return f"{owner}_concat"


def dense(unit: str) -> str:
    return f"{unit}_dense"


def align(owner: str) -> str:
    return f"{owner}_align"


def lateral(level: int) -> str:
    """5 -> unit that reads C5 into the pyramid."""
    return f"{FPN}_lateral{level}"


def output(level: int) -> str:
    """5 -> unit that yields P5."""
    return f"{FPN}_output{level}"


def dropout(owner: str) -> str:
    return f"{owner}_dropout"


def of_head(layer: str, head: str = "") -> str:
    """`LOGITS`, `UPSAMPLE` or `PROBABILITIES`, name of a head (empty: the main head) -> name of its layer."""
    return f"{head}_{layer}" if head else layer


def fake_quant(layer: str) -> str:
    """Layer -> name of the layer that rounds its output in a quantization-aware or simulated model."""
    return f"{layer}_fake_quant"


STEM_CONV = conv(STEM)
EXAMPLES = (STEM_CONV, conv(numbered(block(2, 1), 1)))  # examples for error messages: layers of a model of this package
