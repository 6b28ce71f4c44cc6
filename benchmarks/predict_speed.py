"""Images a second of `keras-resnet predict` beside its network alone, and the time to a first prediction.

The network alone takes the same images, decoded beforehand, in batches of the same size, after one that warms it up.
The command is measured twice: by the rate that it states, from the first file on, and by the wall time of the process.
The first prediction is that of a fresh process for one image, from its start to its end. Beside the command stand the
same few lines of Python with this package and with keras.applications, whose weights are random and of the same size.

    python benchmarks/predict_speed.py images/ --weights model.safetensors --artifact model.tflite --artifact model.onnx
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_resnet.cli.network import WeightsOption
from keras_resnet.loading import open_predictor
from keras_resnet.measure.record import write_record
from keras_resnet.preprocessing import list_images, load_images

STATED = re.compile(r"(\d+) images in [\d.]+ s: ([\d.]+) images/s")
NETWORK = "resnet50"
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
    alone: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measures all by turns; prints medians, extremes and, round by round, ratios."""
    if alone is not None:
        print(json.dumps(rate_alone(alone, weights if alone == NETWORK else None, images, batch_size)))
        return
    paths = list_images([images])
    subjects = [NETWORK, *map(str, artifact or [])]
    rates: dict[str, list[dict[str, float]]] = {subject: [] for subject in subjects}
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        their_weights = f"{folder}/theirs.weights.h5"
        run(["-c", SAVE, their_weights])
        our_weights = weights or "imagenet"
        first = {
            "command": [*command(NETWORK, weights), str(paths[0])],
            "ours in Python": ["-c", OURS, our_weights, str(paths[0])],
            "keras.applications": ["-c", KERAS_APPLICATIONS, their_weights, str(paths[0])],
            **{subject: [*command(subject), str(paths[0])] for subject in subjects[1:]},
        }
        for arguments in first.values():
            run(arguments)  # fills the caches
        for number in range(rounds):
            for subject in subjects:
                options = ["--weights", weights] if weights and subject == NETWORK else []
                rates[subject].append(turn(subject, images, len(paths), batch_size, options))
                print(number, subject, rates[subject][-1], flush=True)
            for name, arguments in first.items():
                seconds.setdefault(name, []).append(run(arguments)[0])
                print(f"{number} first prediction, {name}: {seconds[name][-1]:.2f} s", flush=True)
    results = {
        "images_per_second": {Path(subject).name: summary_of_rates(turns) for subject, turns in rates.items()},
        "first_prediction_s": {
            Path(name).name: {
                **spread(values),
                "of_keras_applications": ratio(values, seconds["keras.applications"]),
            }
            for name, values in seconds.items()
        },
    }
    print(json.dumps(results, indent=1))
    if out is not None:
        settings = {"network": NETWORK, "images": len(paths), "batch_size": batch_size, "rounds": rounds}
        write_record(out, "predict_speed", settings, results)


def command(model: str, weights: str | None = None) -> list[str]:
    return ["-m", "keras_resnet.cli", "predict", "--model", model, *(["--weights", weights] if weights else [])]


def run(arguments: Sequence[str]) -> tuple[float, str, str]:
    """Arguments of Python -> seconds of the process, what it printed on stdout, and on stderr."""
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}:\n{process.stderr}")
    return seconds, process.stdout, process.stderr


def turn(subject: str, images: Path, count: int, batch_size: int, options: list[str]) -> dict[str, float]:
    """One subject -> images a second: alone, as the command states them, and of its whole process."""
    size = ["--batch-size", str(batch_size)]
    _, answer, _ = run([__file__, str(images), "--alone", subject, *size, *options])
    seconds, _, said = run([*command(subject), *options, *size, str(images)])
    stated = STATED.search(said)
    if stated is None or int(stated[1]) != count:
        raise SystemExit(f"{subject}: the command did not state the rate of {count} images:\n{said}")
    return {"alone": json.loads(answer.splitlines()[-1]), "stated": float(stated[2]), "process": count / seconds}


def rate_alone(subject: str, weights: str | None, images: Path, batch_size: int) -> float:
    """Images a second of the network, from pixels in memory on."""
    predictor = open_predictor(subject, weights)
    pixels = load_images(list_images([images]), predictor.contract)
    batches = [pixels[start : start + batch_size] for start in range(0, len(pixels), batch_size)]
    predictor.run(batches[0])
    start = time.perf_counter()
    for batch in batches:
        predictor.run(batch)
    return len(pixels) / (time.perf_counter() - start)


def summary_of_rates(turns: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Figures of one subject by round -> of each kind its median and extremes, and its ratio to the network alone."""
    values: Callable[[str], list[float]] = lambda kind: [figures[kind] for figures in turns]  # noqa: E731
    return {
        kind: {**spread(values(kind)), "of_the_network_alone": ratio(values(kind), values("alone"))}
        for kind in ("alone", "stated", "process")
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "minimum": min(values), "maximum": max(values), "n": len(values)}


def ratio(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Two series by round -> median and extremes of the first to the second, pair by pair."""
    ratios = [a / b for a, b in zip(values, others, strict=True)]
    return {"median": statistics.median(ratios), "minimum": min(ratios), "maximum": max(ratios)}


if __name__ == "__main__":
    typer.run(main)
