"""Images a second of `keras-resnet predict` beside its network alone, and the time to a first prediction.

The network alone takes the same images, decoded beforehand, in batches of the same size, after one that warms it up.
The command is measured twice: by the rate that it states, from the first file on, and by the wall time of the process.
The first prediction is that of a fresh process for one image, from its start to its end. Beside the command stand the
same few lines of Python with this package and with keras.applications, whose weights are random and of the same size.

    python benchmarks/predict_speed.py images/ --weights model.safetensors --artifact model.tflite --artifact model.onnx
"""

import re
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from shared import finish

from keras_resnet.cli.network import WeightsOption
from keras_resnet.loading import open_predictor
from keras_resnet.measure.process import in_a_process, run_python
from keras_resnet.measure.turns import by_turns, ratio, spread
from keras_resnet.preprocessing import list_images, load_images

STATED = re.compile(r"(\d+) images in [\d.]+ s: ([\d.]+) images/s")
NETWORK, RIVAL = "resnet50", "keras.applications"
TIMEOUT_S = 1200  # of one process

SAVE = """
import sys, keras
keras.applications.ResNet50(weights=None).save_weights(sys.argv[1])
"""
KERAS_APPLICATIONS = """
import sys, keras, numpy as np
model = keras.applications.ResNet50(weights=None)
model.load_weights(sys.argv[1])
pixels = np.array(keras.utils.load_img(sys.argv[2], target_size=(224, 224)), "float32")[None]
[probabilities] = model.predict(keras.applications.resnet.preprocess_input(pixels), verbose=0)
print(np.argsort(-probabilities)[:5])
"""
OURS = """
import sys, keras_resnet, numpy as np
model = keras_resnet.ResNet50(weights=sys.argv[1])
[probabilities] = model.predict(keras_resnet.load_image(sys.argv[2])[None], verbose=0)
print(np.argsort(-probabilities)[:5])
"""


def main(
    images: Annotated[Path, typer.Argument(help="Folder of images, more than 16.")],
    weights: WeightsOption = None,
    artifact: Annotated[list[Path] | None, typer.Option(help="Artifact to measure, too; may be repeated.")] = None,
    batch_size: int = 16,
    rounds: int = 5,
    out: Annotated[Path | None, typer.Option(help="Record to write.")] = None,
) -> None:
    """Measures all by turns; prints medians, extremes and, round by round, ratios."""
    paths = list_images([images])
    subjects = {NETWORK: weights, **{str(path): None for path in artifact or []}}
    with tempfile.TemporaryDirectory() as folder:
        theirs, one = f"{folder}/theirs.weights.h5", str(paths[0])
        run_python(["-c", SAVE, theirs])
        first = {
            "command": [*command(NETWORK, weights), one],
            "ours in Python": ["-c", OURS, weights or "imagenet", one],
            RIVAL: ["-c", KERAS_APPLICATIONS, theirs, one],
            **{Path(subject).name: [*command(subject, None), one] for subject in list(subjects)[1:]},
        }
        for arguments in first.values():
            run_python(arguments)  # fills the caches
        rates = {
            Path(name).name: partial(rates_of, name, its_weights, images, len(paths), batch_size)
            for name, its_weights in subjects.items()
        }
        seconds = {f"first prediction, {name}": partial(seconds_of, arguments) for name, arguments in first.items()}
        turns: dict[str, list[Any]] = by_turns({**rates, **seconds}, rounds)
    series = {name: {kind: [turn[kind] for turn in turns[name]] for kind in turns[name][0]} for name in rates}
    started = {name: turns[f"first prediction, {name}"] for name in first}
    results = {
        "images_per_second": {
            name: {
                kind: {**spread(values), "n": rounds, "of_the_network_alone": ratio(values, kinds["alone"])}
                for kind, values in kinds.items()
            }
            for name, kinds in series.items()
        },
        "first_prediction_s": {
            name: {**spread(values), "n": rounds, "of_keras_applications": ratio(values, started[RIVAL])}
            for name, values in started.items()
        },
    }
    settings = {"network": NETWORK, "images": len(paths), "batch_size": batch_size, "rounds": rounds}
    finish(out, "predict_speed", settings, results)


def command(model: str, weights: str | None) -> list[str]:
    return ["-m", "keras_resnet.cli", "predict", "--model", model, *(["--weights", weights] if weights else [])]


def seconds_of(arguments: Sequence[str]) -> float:
    return run_python(arguments, timeout_s=TIMEOUT_S).seconds


def rates_of(subject: str, weights: str | None, images: Path, count: int, batch_size: int) -> dict[str, float]:
    """One subject -> images a second: alone, as the command states them, and of its whole process."""
    given = {"subject": subject, "weights": weights, "images": str(images), "batch_size": batch_size}
    alone = in_a_process("predict_speed:rate_alone", given, timeout_s=TIMEOUT_S)
    arguments = [*command(subject, weights), "--batch-size", str(batch_size), str(images)]
    run = run_python(arguments, timeout_s=TIMEOUT_S)
    stated = STATED.search(run.stderr)
    if stated is None or int(stated[1]) != count:
        raise SystemExit(f"{subject}: the command did not state the rate of {count} images:\n{run.stderr}")
    return {"alone": alone, "stated": float(stated[2]), "process": count / run.seconds}


def rate_alone(subject: str, weights: str | None, images: str, batch_size: int) -> float:
    """Images a second of the network, from pixels in memory on."""
    predictor = open_predictor(subject, weights)
    pixels = load_images(list_images([images]), predictor.contract)
    batches = [pixels[start : start + batch_size] for start in range(0, len(pixels), batch_size)]
    predictor.run(batches[0])
    start = time.perf_counter()
    for batch in batches:
        predictor.run(batch)
    return len(pixels) / (time.perf_counter() - start)


if __name__ == "__main__":
    typer.run(main)
