"""Artifact -> a version of a model of OpenVINO Model Server, and what differs there from `predict`."""

from pathlib import Path

from keras_resnet.layouts.given import Given, copy_artifact


def write_version(given: Given, folder: Path) -> None:
    """OpenVINO folder or ONNX file, new folder -> its copy in it."""
    copy_artifact(given, folder if given.kind == "openvino" else folder / "model.onnx")


def notes(given: Given) -> tuple[str, ...]:
    """-> what becomes of image files: the server itself decodes them, in another way than the contract states."""
    if given.artifact.format.colour_order == "BGR":
        return ("the server resizes image files without a crop, so that answers differ a little from `predict`",)
    return (
        "send pixels [N, H, W, 3] in the order red, green, blue. Image files would get wrong answers: the server "
        "decodes them to blue, green, red, and resizes them without a crop. For image files, export with "
        "--colour-order bgr",
    )
