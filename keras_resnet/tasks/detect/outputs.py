"""The outputs that files of detectors can have: detections, or with `--raw-heads` the values before the proposals."""

from collections.abc import Mapping

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, MASKS, NUM_DETECTIONS, Output

MAPS = ("P2", "P3", "P4", "P5")  # maps of the pyramid that the heads read
ANCHOR_MAPS = (*MAPS, "P6")  # maps that have anchors; P6 is every second pixel of P5

DETECTIONS = (
    Output(BOXES, "boxes as left, top, right and bottom, in pixels of the input", content="boxes"),
    Output(BOX_SCORES, "score of each box"),
    Output(LABELS, "class of each box, counted from 0; -1 behind the last box", dtype="int32", content="classes"),
    Output(NUM_DETECTIONS, "number of boxes", dtype="int32"),
    Output(MASKS, "probability of the object at each place of its box"),
)


def logits_on(level: str) -> str:
    """Name of a map -> name of the output with the logits of its anchors."""
    return f"rpn_logits_{level}"


def deltas_on(level: str) -> str:
    """Name of a map -> name of the output with the deltas of its anchors."""
    return f"rpn_deltas_{level}"


RAW_HEADS = (
    *(Output(level, f"map {level} of the feature pyramid") for level in MAPS),
    *(
        Output(logits_on(level), f"logit of each anchor on {level}: whether it shows an object; by aspect ratio")
        for level in ANCHOR_MAPS
    ),
    *(
        Output(
            deltas_on(level),
            f"shifts of the centre across and down, logarithms of the scales across and down, of each anchor on "
            f"{level}; by aspect ratio",
        )
        for level in ANCHOR_MAPS
    ),
)
OUTPUTS: Mapping[str, Output] = {output.name: output for output in (*DETECTIONS, *RAW_HEADS)}
