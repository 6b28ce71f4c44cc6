"""The options about a network and about a split, which several commands share."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from keras_resnet.errors import ArgumentError, reason
from keras_resnet.printable import printable_lines
from keras_resnet.regular_files import read_text
from keras_resnet.tasks import LEARNED
from keras_resnet.tasks.outputs import KINDS, OUTPUT_KINDS
from keras_resnet.variants import VARIANTS
from keras_resnet.weights_from import WeightsFrom

MODEL_HELP = (
    "Model: a .keras file that takes RGB pixels 0..255, a folder that `train` wrote, or a network, which takes "
    f"--weights: {', '.join(VARIANTS)}."
)
ModelOption = Annotated[str, typer.Option(help=MODEL_HELP, show_default="resnet50 with published weights")]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="Weights: imagenet, a published tag (see `keras-resnet list`), a path, or hf://owner/repository. "
        "Leave it out for a .keras file.",
        show_default="imagenet",
    ),
]
WeightsPrefixOption = Annotated[
    str | None,
    typer.Option(
        help="Beginning of the tensors' names of the wanted network, if the file of --weights holds several networks.",
        show_default="the network that fits, not its moving average",
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option(
        help="Revision of the repository on the Hugging Face Hub that --weights names: a commit, a tag or a branch.",
        show_default="main",
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        help=f"Task of a model of your own: {', '.join(KINDS)}.",
        show_default="the task that its file states, or that its last layers and its loss show",
    ),
]
OutputKindOption = Annotated[
    str | None,
    typer.Option(
        help=f"Kind of the numbers that a model of your own yields: {', '.join(OUTPUT_KINDS)}.",
        show_default="as for --task",
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Open an artifact whatever it holds, without its first opening in a process of its own. A SavedModel with "
        "operations that read or write files can then do so.",
    ),
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        help="Runtime of the artifact, if not its format's own: openvino for an ONNX file, or tflite-micro for a "
        "tflite-int8 file, as a microcontroller runs it.",
        show_default="the runtime of its format",
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="Numbers in which OpenVINO computes what a file holds in float32: float32, or bfloat16, which halves the "
        "time on a CPU that has it.",
        show_default="float32",
    ),
]
SplitOption = Annotated[
    Literal["val", "train", "all"],
    typer.Option(
        help="Split to use: val (the validation images, or the tenth that training holds out), train, or all (train "
        "and val). For a folder that holds only test images, take all."
    ),
]
MaxDropOption = Annotated[
    float | None,
    typer.Option(
        help="Largest allowed drop of the score below the model's, in percentage points. Needs --data.",
        show_default=", ".join(f"{t.largest_drop_points} for {t.titles[t.score]}" for t in LEARNED.values()),
    ),
]
ClassNamesOption = Annotated[
    Path | None,
    typer.Option(
        "--class-names",
        "--labels",  # its name in earlier versions
        help="Text file of class names, one for each line.",
        show_default="the names in the .keras file, or ImageNet's",
    ),
]


def names_in(file: Path | None) -> list[str] | None:
    """Value of `--class-names` -> the lines of that file.

    Raises:
        ArgumentError: It is no text in UTF-8.
    """
    if file is None:
        return None
    try:
        return read_text(file).splitlines()
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"--class-names must name a text file in UTF-8. Received: {file}, which can't be decoded ({reason(error)})"
        ) from error


def weights_from(weights: str | None, prefix: str | None, revision: str | None) -> str | WeightsFrom | None:
    """Values of `--weights`, `--weights-prefix` and `--revision` -> weights as a network takes them."""
    for option, value in (("--weights-prefix", prefix), ("--revision", revision)):
        if weights is None and value is not None:
            raise ArgumentError(f"{option} is for --weights, which was not given. Received: {value}")
    if weights is None or (prefix is None and revision is None):
        return weights
    return WeightsFrom(weights, prefix or "", revision=revision or "")


def tell_reading(read_as: str | None) -> None:
    """Prints how a model was read on which nobody stated anything, on stderr."""
    if read_as is not None:
        print(printable_lines(read_as), file=sys.stderr)
