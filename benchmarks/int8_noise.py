"""What each part of the rounding to 8 bits adds to the error of a classifier's logits.

One part is rounded at a time, and everything else stays float: the kernels, all activations, or the activations of one
kind. The ranges are those of an export. `unexplained_variance` and `agreement_percent` are as in `ranges.py`, on images
that do not calibrate.

    python benchmarks/int8_noise.py resnet50:resnet50.safetensors=photographs/ --out benchmarks/results/int8_noise.json
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import typer
from ranges import answers_of, compared, opened
from shared import finish, recorded

CALIBRATION = 100  # images


def main(
    networks: Annotated[list[str], typer.Argument(help="NAME:WEIGHTS=IMAGES, a folder of images.")],
    out: Annotated[Path | None, typer.Option(help="Record to write. Networks that it holds are not measured.")] = None,
    measured: Annotated[int, typer.Option(help="Images that are measured.")] = 400,
) -> None:
    """Measures one network after the other."""
    settings = {"calibration": CALIBRATION, "measured": measured}
    results = recorded(out, "int8_noise", settings)
    for network in networks:
        model, folder = network.rsplit("=", 1)
        name = model.partition(":")[0]
        if name not in results:
            results[name] = study(model, folder, measured)
            finish(out, "int8_noise", settings, results)


def study(network: str, folder: str, measured: int) -> dict[str, Any]:
    """NAME:WEIGHTS, folder of images, number of images -> results by part."""
    folded, pixels = opened(network, folder, CALIBRATION + measured)
    from keras_resnet.export.quantize import quantize
    from keras_resnet.export.ranges import usual_ranges

    calibrates, others = np.split(pixels, [CALIBRATION])
    quantized = quantize(folded, calibrates, ranges=usual_ranges(CALIBRATION))
    *points, logits = quantized.ranges
    kinds = {point: kind_of(point) for point in points}
    # The logits themselves stay float, as in `onnx-int8`.
    models = {
        "all": quantized.simulate(),
        "kernels": quantized.model,
        "activations": rounded(folded, {point: quantized.ranges[point] for point in points}),
    }
    for kind in dict.fromkeys(kinds.values()):
        chosen = {point: quantized.ranges[point] for point in points if kinds[point] == kind}
        models[f"{kind} ({len(chosen)})"] = rounded(folded, chosen)
    expected = answers_of(folded, None, others)
    results: dict[str, Any] = {"images": len(others)}
    for part, model in models.items():
        results[part] = compared(answers_of(model, logits if part == "all" else None, others), expected)
        print(network, part, results[part], flush=True)
    return results


def kind_of(point: str) -> str:
    """Name of an activation of a ResNet -> where it stands."""
    if point.endswith("_conv"):
        return "before additions"
    if point.endswith("_out"):
        return "outputs of blocks"
    return point if point in ("stem_relu", "pool") else "inside blocks"


def rounded(folded: Any, ranges: Mapping[str, tuple[float, float]]) -> Any:
    """Folded model, ranges of some activations -> the model, in which these are rounded."""
    from keras_resnet import layer_names
    from keras_resnet.compress.fake_quant import FakeQuantize
    from keras_resnet.graph import rebuild

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        x = layer(*args, **kwargs)
        if layer.name not in ranges:
            return x
        return FakeQuantize(*ranges[layer.name], name=layer_names.fake_quant(layer.name))(x)

    return rebuild(folded, call=call)


if __name__ == "__main__":
    typer.run(main)
