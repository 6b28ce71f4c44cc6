"""Wrong detectors that are planted in the writers of files: does `export` refuse each file?

A small Mask R-CNN of random weights is exported. What is written is the network with a fault, under the description of
the right one: wrong answers, wrong settings, wrong arithmetic. `export` must refuse the file of each fault, and must
accept the file of the right network.

    python checks/planted_detector_faults.py --out benchmarks/results/planted_detector_faults.json
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import keras
import numpy as np
import typer
from keras import ops

import keras_resnet
from keras_resnet import layer_names
from keras_resnet.detection_layers import detections, frame, proposals, roi_align
from keras_resnet.errors import VerificationError
from keras_resnet.export import export, pipeline
from keras_resnet.export.fold import fold
from keras_resnet.export.prepare import prepare
from keras_resnet.graph import rebuild
from keras_resnet.measure.record import write_record

RECORD = Path(__file__).parents[1] / "benchmarks" / "results" / "planted_detector_faults.json"
NONE = "no fault"
NAMES = ["ant", "bee", "cow"]
SETTINGS: Mapping[str, Any] = {  # images of 80 x 72 pixels are resized inside
    "input_shape": (80, 72, 3), "min_size": 96, "max_size": 160, "channels": 16, "units": 32, "proposals": 40,
    "max_detections": 20, "score_threshold": 0.0, "anchor_sizes": (8, 16, 24, 32, 64),
}  # fmt: skip

Answers = dict[str, Any]
Made = Callable[[keras.Model], keras.Model]  # the right network -> the wrong one, folded


def main(
    out: Annotated[Path, typer.Option(help="JSON record.")] = RECORD,
    formats: Annotated[str, typer.Option(help="Formats, comma-separated.")] = "saved_model,tflite,onnx",
    fault: Annotated[list[str] | None, typer.Option(help="Only this fault; several times: these.")] = None,
) -> None:
    """Plants each fault in each format, and prints which check refuses its file."""
    network, results, start = right_network(), {}, time.perf_counter()
    remember_the_answers()
    chosen = {title: each for title, each in FAULTS.items() if fault is None or title in fault}
    for name in formats.split(","):
        for title, (made, patches) in {NONE: (folded, {}), **chosen}.items():
            why = results[f"{name}: {title}"] = refusal(network, name, made, patches)
            print(f"{name}: {title:60} {why or 'accepted'}", flush=True)
    good = [title for title in results if title.endswith(f": {NONE}")]
    wrong = [title for title, why in results.items() if (why is None) != (title in good)]
    planted = len(results) - len(good)
    seconds = round(time.perf_counter() - start)
    settings = {"formats": formats, "faults": sorted(fault or [])}
    write_record(
        out,
        "planted_detector_faults",
        settings,
        {"planted": planted, "wrong": wrong, "refused_by": results, "seconds": seconds},
    )
    print(f"{planted} faults, {planted - len(set(wrong) - {*good})} refused; wrong: {wrong}")
    sys.exit(bool(wrong))


def remember_the_answers() -> None:
    """Asks the right network once for all faults in float formats; nothing of a file is kept."""
    ask = pipeline.ask
    known: list[Any] = []

    def once(*arguments: Any) -> Any:
        if not known:
            known.append(ask(*arguments))
        return known[0]

    setattr(pipeline, "ask", once)  # noqa: B010  mypy knows the name as a function


def right_network() -> keras.Model:
    keras.utils.set_random_seed(3)
    model = built({})
    draw = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shapes = [weight.shape for weight in layer.get_weights()]
            lows, highs = (0.7, -0.3, -0.3, 0.5), (1.3, 0.3, 0.3, 2.0)
            layer.set_weights([draw.uniform(*each) for each in zip(lows, highs, shapes, strict=True)])
    for name, deviation in (("box_logits", 1.0), ("box_deltas", 0.3)):
        layer = model.get_layer(name)
        layer.set_weights([draw.normal(0, deviation, weight.shape) for weight in layer.get_weights()])
    return model


def built(changed: Mapping[str, Any]) -> keras.Model:
    return keras_resnet.detection.MaskRCNN("resnet18", len(NAMES), **{**SETTINGS, **changed})


def refusal(network: keras.Model, name: str, made: Made, patches: Mapping[tuple[Any, str], Any]) -> str | None:
    """Right network, format, how to make the wrong one -> why `export` refuses its file; None: it is accepted."""
    write = pipeline._write

    def write_wrong(job: Any, path: Path) -> None:
        with ExitStack() as stack:
            for (module, attribute), value in patches.items():
                stack.enter_context(patch.object(module, attribute, value))
            write(dataclasses.replace(job, model=made(network)), path)

    with tempfile.TemporaryDirectory() as folder, patch.object(pipeline, "_write", write_wrong):
        try:
            export(network, Path(folder), [name], class_names=NAMES)
        except VerificationError as error:
            return "; ".join(line.strip() for line in str(error).splitlines()[1:])[:200]
    return None


# --- the faults -----------------------------------------------------------------------------------------------------


def folded(network: keras.Model) -> keras.Model:
    return fold(prepare(network))


def with_settings(**changed: Any) -> Made:
    def made(network: keras.Model) -> keras.Model:
        wrong = built(changed)
        wrong.set_weights(network.get_weights())
        return folded(wrong)

    return made


def with_answers(**changes: Callable[[Answers], Any]) -> Made:
    def made(network: keras.Model) -> keras.Model:
        model = folded(network)
        answers = dict(model.output)
        return keras.Model(model.input, {**answers, **{name: change(answers) for name, change in changes.items()}})

    return made


def with_input(change: Callable[[Any], Any]) -> Made:
    def call(layer: Any, x: Any, *others: Any, **options: Any) -> Any:
        return layer(change(x) if layer.name == layer_names.FRAME else x, *others, **options)

    return lambda network: rebuild(folded(network), call=call)


def with_weights(layer: str, change: Callable[[np.ndarray], np.ndarray]) -> Made:
    def made(network: keras.Model) -> keras.Model:
        wrong = built({})
        wrong.set_weights(network.get_weights())
        wrong.get_layer(layer).set_weights([change(values) for values in wrong.get_layer(layer).get_weights()])
        return folded(wrong)

    return made


def _centres(boxes: Any) -> Any:
    return ops.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=-1)


def _where_found(answers: Answers, labels: Any) -> Any:
    return ops.where(answers["labels"] >= 0, labels, -1)


def _nearest(x: Any, sides: Any, resized: Any, count: int) -> Any:
    """As `frame._interpolated`, without interpolation; for images of one size."""
    scale = (sides / resized)[:1, None]
    place = ops.floor(scale * (ops.arange(count, dtype="float32")[None, :] + 0.5))
    return ops.take(x, ops.cast(ops.minimum(place, x.shape[1] - 1.0), "int32")[0], axis=1)


ANSWERS: Mapping[str, Made] = {
    "boxes scaled by 1.001": with_answers(boxes=lambda a: a["boxes"] * 1.001),
    "boxes shifted by half a pixel": with_answers(boxes=lambda a: a["boxes"] + 0.5),
    "x and y swapped": with_answers(boxes=lambda a: ops.take(a["boxes"], np.array([1, 0, 3, 2]), axis=-1)),
    "boxes as centre and size": with_answers(boxes=lambda a: _centres(a["boxes"])),
    "boxes from 0 to 1": with_answers(boxes=lambda a: a["boxes"] / np.array([72, 80, 72, 80], "float32")),
    "boxes in the frame": with_answers(boxes=lambda a: a["boxes"] * np.float32(96 / 72)),
    "labels shifted by one": with_answers(labels=lambda a: _where_found(a, a["labels"] + 1)),
    "labels in another order": with_answers(labels=lambda a: _where_found(a, 2 - a["labels"])),
    "scores scaled by 0.999": with_answers(scores=lambda a: a["scores"] * 0.999),
    "scores of the next row": with_answers(scores=lambda a: ops.roll(a["scores"], 1, axis=1)),
    "masks transposed": with_answers(masks=lambda a: ops.transpose(a["masks"], (0, 1, 3, 2))),
    "masks mirrored": with_answers(masks=lambda a: ops.flip(a["masks"], axis=3)),
    "masks of the next row": with_answers(masks=lambda a: ops.roll(a["masks"], 1, axis=1)),
    "masks of 0 and 1": with_answers(masks=lambda a: ops.cast(a["masks"] > 0.5, "float32")),
    "number too high": with_answers(num_detections=lambda a: a["num_detections"] + 1),
    "BGR in place of RGB": with_input(lambda pixels: ops.flip(pixels, axis=-1)),
    "images mirrored": with_input(lambda pixels: ops.flip(pixels, axis=2)),
}
OTHER_SETTINGS: Mapping[str, Made] = {
    "score threshold of 0.9": with_settings(score_threshold=0.9),
    "no suppression": with_settings(iou_threshold=1.0),
    "suppression at 0.3": with_settings(iou_threshold=0.3),
    "one anchor of 10 in place of 8 pixels": with_settings(anchor_sizes=(10, 16, 24, 32, 64)),
    "30 proposals in place of 40": with_settings(proposals=30),
    "another size inside": with_settings(min_size=90),
}
WEIGHTS: Mapping[str, Made] = {
    "one channel of the pyramid is zero": with_weights("fpn_output3_conv", lambda w: w * (np.arange(16) != 5)),
    "mask head scaled by 1.05": with_weights("mask_2_conv", lambda w: w * 1.05),
    "background and first class swapped": with_weights("box_logits", lambda w: w[..., [1, 0, 2, 3]]),
}
ARITHMETIC: Mapping[str, Mapping[tuple[Any, str], Any]] = {
    "resize to the nearest pixel": {(frame, "_interpolated"): _nearest},
    "weights of the box coder 1 in place of 10 and 5": {(detections, "CODER_WEIGHTS"): (1.0, 1.0, 1.0, 1.0)},
    "suppression of proposals at 0.9": {(proposals, "IOU_THRESHOLD"): 0.9},
    "one sample a bin of RoIAlign": {(roi_align, "SAMPLES"): 1},
    "levels of RoIAlign by 112 pixels": {(roi_align, "CANONICAL_SIDE"): 112},
}
FAULTS: Mapping[str, tuple[Made, Mapping[tuple[Any, str], Any]]] = {
    **{title: (made, {}) for title, made in {**ANSWERS, **OTHER_SETTINGS, **WEIGHTS}.items()},
    **{title: (folded, patches) for title, patches in ARITHMETIC.items()},
}


if __name__ == "__main__":
    typer.run(main)
