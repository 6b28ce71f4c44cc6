"""Ranges of int8 activations by each method, for several networks and numbers of calibration images.

The integers are simulated in float, with answers that are not rounded, as in `onnx-int8`. Half of the images calibrate,
the others are measured:

- `unexplained_variance` of the logits; for a detector, of what its proposals are computed from.
- `agreement_percent`: for how many images (segmentation: pixels) the highest logit is the same; for a detector, how
  many of the model's detections with a score of at least 0.5 have a box of the same class with an IoU of at least 0.5.
- `standard_error_points` of the agreement, over images.

    python benchmarks/ranges.py resnet18:resnet18.safetensors=photographs/ streets.keras=streets/ \
        --image-size 176x176 --out benchmarks/results/ranges.json
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import typer
from shared import finish, recorded

from keras_resnet.export.formats import CHOICES
from keras_resnet.loading import open_network
from keras_resnet.tasks.shared_options import sides_of
from keras_resnet.variants import WholeImage

SURE_SCORE, SAME_BOX = 0.5, 0.5


def main(
    networks: Annotated[list[str], typer.Argument(help="MODEL=IMAGES or NAME:WEIGHTS=IMAGES, a folder of images.")],
    out: Annotated[Path | None, typer.Option(help="Record to write. Networks that it holds are not measured.")] = None,
    counts: Annotated[str, typer.Option(help="Numbers of calibration images.")] = "8,32,100,250",
    measured: Annotated[int, typer.Option(help="Largest number of images that are measured.")] = 250,
    image_size: Annotated[str, typer.Option(help="Height and width for networks that leave them free.")] = "224x224",
) -> None:
    """Measures one network after the other."""
    settings = {"counts": counts, "measured": measured}
    results = recorded(out, "ranges", settings)
    for network in networks:
        model, folder = network.rsplit("=", 1)
        path = Path(model.partition(":")[0])
        name = path.parent.name if path.stem == "model" else path.stem  # as `train` calls it
        if name not in results:
            sides = sides_of(image_size, "--image-size")
            results[name] = study(model, folder, [*map(int, counts.split(","))], measured, WholeImage(*sides))
            finish(out, "ranges", settings, results)


def study(model: str, folder: str, counts: list[int], measured: int, whole: WholeImage) -> dict[str, Any]:
    """Model, folder of images, numbers of calibration images, size of free sides -> results by number and method."""
    folded, pixels = opened(model, folder, max(counts) + measured, whole)
    from keras_resnet.export.quantize import quantize
    from keras_resnet.export.ranges import activation_ranges

    middle = min(len(pixels) // 2, max(counts))
    calibrates, others = pixels[:middle], pixels[middle:][:measured]
    expected = answers_of(folded, None, others)
    results: dict[str, Any] = {"images": len(others)}
    for count in (count for count in counts if count <= middle):
        quantized = quantize(folded, calibrates[:count], ranges="minmax")
        for method in CHOICES["ranges"]:
            ranges, _ = activation_ranges(quantized.model, [*quantized.ranges], calibrates[:count], method)
            simulated = replace(quantized, ranges=ranges).simulate()
            found = compared(answers_of(simulated, [*ranges][-1], others), expected)
            results[f"{method}, {count} images"] = found
            print(model, method, count, found, flush=True)
    return results


def opened(model: str, folder: str, count: int, whole: WholeImage | None = None) -> tuple[Any, np.ndarray]:
    """NAME:WEIGHTS or MODEL, folder of images, largest number of them, size of free sides -> folded model, images in
    random order.
    """
    name, _, weights = model.partition(":")
    network, contract = open_network(name, weights or None)
    contract = whole if whole and None in network.inputs[0].shape[1:] else contract
    from keras_resnet.export.fold import fold
    from keras_resnet.export.images import CalibrationImages, calibration_images
    from keras_resnet.export.prepare import prepare
    from keras_resnet.graph import unshared

    prepared = prepare(network, contract)
    wanted = CalibrationImages(folder, count=count, force=True)
    pixels = calibration_images(wanted, contract, prepared.inputs[0].shape[1:]).images
    return fold(unshared(prepared)), pixels[np.random.default_rng(0).permutation(len(pixels))]


def answers_of(model: Any, logits: str | None, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Folded model, or its simulation and the point whose values are its logits -> what is compared, `[N, ...]`."""
    import keras

    from keras_resnet import layer_names
    from keras_resnet.compress.rewrite import quantization_points
    from keras_resnet.export.rounding import batches_for

    if isinstance(model.output, dict) and len(model.outputs) > 1:
        read = model.get_layer(layer_names.RPN_PROPOSALS).input
        heads = {f"head {index}": tensor for index, tensor in enumerate(keras.tree.flatten(read))}
        view = keras.Model(model.input, {**heads, **model.output})
    elif logits is None:
        view = keras.Model(model.input, {"logits": model.get_layer(quantization_points(model)[-1]).output})
    else:
        view = keras.Model(model.input, {"logits": model.get_layer(layer_names.fake_quant(logits)).input})
    found = [view(batch, training=False) for batch in batches_for(model, pixels)]
    answers = {name: np.concatenate([np.asarray(each[name]) for each in found]) for name in found[0]}
    if "logits" in answers:  # `quantize` shifts all of them by one number
        answers["logits"] -= answers["logits"].mean(axis=-1, keepdims=True)
    return answers


def compared(answers: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """What the integers and what the model answered, `[N, ...]` -> the figures of the record."""
    heads = [name for name in expected if name == "logits" or name.startswith("head")]
    shares = [
        np.square(answers[name] - expected[name]).sum() / np.square(expected[name] - expected[name].mean(axis=0)).sum()
        for name in heads
    ]
    if heads == ["logits"]:
        same = answers["logits"].argmax(axis=-1) == expected["logits"].argmax(axis=-1)
        agreement = same.reshape(len(same), -1).mean(axis=1)
    else:
        agreement = np.array([found_again(answers, expected, image) for image in range(len(expected["boxes"]))])
        agreement = agreement[np.isfinite(agreement)]
    return {
        "unexplained_variance": float(np.mean(shares)),
        "agreement_percent": float(100 * agreement.mean()),
        "standard_error_points": float(100 * agreement.std() / np.sqrt(len(agreement))),
    }


def found_again(answers: dict[str, np.ndarray], expected: dict[str, np.ndarray], image: int) -> float:
    """-> share of the model's sure detections in an image that the integers detect too; NaN if there are none."""
    from keras_resnet.evaluation.detection import ious

    sure = expected["scores"][image] >= SURE_SCORE
    overlaps = ious(expected["boxes"][image][sure], answers["boxes"][image])
    same = expected["labels"][image][sure][:, None] == answers["labels"][image][None]
    return float(((overlaps >= SAME_BOX) & same).any(axis=1).mean()) if sure.any() else np.nan


if __name__ == "__main__":
    typer.run(main)
