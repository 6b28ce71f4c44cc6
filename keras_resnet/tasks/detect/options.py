"""The options that commands have for detection."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.tasks.shared_options import OUT, THRESHOLD, WINDOW

DETECT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "data check": {
        "pictures": Annotated[
            Path | None,
            typer.Option(
                help="PNG file for a picture of 16 training images with their boxes and masks. Only for detection."
            ),
        ],
    },
    "export": {
        "score_threshold": Annotated[
            float | None,
            typer.Option(
                min=0,
                max=1,
                help="Score above which the exported files keep a detection. Only for detectors.",
                show_default="as the network has it, often 0.05",
            ),
        ],
        "iou_threshold": Annotated[
            float | None,
            typer.Option(
                min=0,
                max=1,
                help="Largest IoU of two detections of a class in the exported files. Only for detectors.",
                show_default="as the network has it, often 0.5",
            ),
        ],
        "max_detections": Annotated[
            int | None,
            typer.Option(
                min=1,
                help="Largest number of detections in an image in the exported files. Only for detectors.",
                show_default="as the network has it, often 100",
            ),
        ],
        "raw_heads": Annotated[
            bool | None,
            typer.Option(
                "--raw-heads",
                help="Write a detector without its post-processing, up to the feature pyramid and the answers about "
                "its anchors.",
            ),
        ],
    },
    "explain": {
        "top": Annotated[
            int | None,
            typer.Option(
                min=1,
                help="Largest number of detections to explain, the best first. Only for detectors.",
                show_default="3; with --class, 1",
            ),
        ],
        "masks": Annotated[
            int | None,
            typer.Option(
                min=2,
                help="Number of masked images that the detector answers on: more take longer, and the heatmap has less "
                "noise. Only for detectors.",
                show_default="1000",
            ),
        ],
    },
    "predict": {"out": OUT, "window": WINDOW, "threshold": THRESHOLD},
    "evaluate": {
        "max_detections": Annotated[
            int | None,
            typer.Option(
                min=1,
                help="Number of the best detections of a class in an image that count (COCO's maxDets). Only for "
                "detectors.",
                show_default="all, which is COCO's figure for a network of 100 detections",
            ),
        ],
    },
}
