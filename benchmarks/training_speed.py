"""Images a second that training of ResNet-50 gets: ours, keras.applications' under plain `fit`, PyTorch's.

Each turn is a process of its own; all train with SGD and momentum on the same synthetic images, from pixels in memory
on. PyTorch's network is transformers' ResNet-50 (`pip install transformers`), channels last, under autocast where it
computes in bfloat16; it gets normalised pixels, for its package normalises outside the network.

    python benchmarks/training_speed.py --out benchmarks/results/training_speed.json
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_resnet.measure.memory import peak_memory_mb
from keras_resnet.measure.record import write_record
from keras_resnet.quiet import import_keras

SIZE, CLASSES = 224, 1000
LEARNING_RATE, MOMENTUM = 0.01, 0.9

CONTENDERS = (
    "ours float32",
    "ours mixed_bfloat16",
    "keras.applications float32",
    "keras.applications mixed_bfloat16",
    "pytorch float32",
    "pytorch bfloat16",
)


def main(
    out: Annotated[Path | None, typer.Option(help="Record to write.")] = None,
    batch_size: int = 16,
    steps: Annotated[int, typer.Option(help="Timed steps of each turn, after two that warm up.")] = 4,
    rounds: int = 3,
    only: Annotated[str, typer.Option(help="Names of what is measured, with commas between them.")] = "",
    turn: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measures each by turns; prints medians, extremes and, round by round, the ratio of ours in float32 to each."""
    if turn is not None:
        print(json.dumps(measure(turn, batch_size, steps)))
        return
    names = only.split(",") if only else list(CONTENDERS)
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--turn", name, "--batch-size", str(batch_size), "--steps", str(steps)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode:
                raise SystemExit(f"{name}:\n{run.stderr}")
            turns[name].append(json.loads(run.stdout.splitlines()[-1]))
            print(f"{number}  {name:34} {turns[name][-1]['images_per_second']:6.2f} images/s", flush=True)
    results = {name: summary(turns, name) for name in names}
    for name, result in results.items():
        print(f"{name:34} {result['images_per_second']:6.2f} images/s, ours is {result['ours_against_it']:.2f} of it")
    if out is not None:
        settings = {"network": "ResNet-50", "size": SIZE, "batch_size": batch_size, "steps": steps, "rounds": rounds}
        write_record(out, "training_speed", settings, results)


def summary(turns: dict[str, list[dict[str, float]]], name: str) -> dict[str, Any]:
    """Figures by contender and round, one contender -> its median, extremes, and our float32 rate against its own."""
    rates = [turn["images_per_second"] for turn in turns[name]]
    ours = [turn["images_per_second"] for turn in turns.get("ours float32", turns[name])]
    return {
        "images_per_second": statistics.median(rates),
        "minimum": min(rates),
        "maximum": max(rates),
        "ours_against_it": statistics.median(a / b for a, b in zip(ours, rates, strict=True)),
        "peak_memory_mb": statistics.median(turn["peak_memory_mb"] for turn in turns[name]),
    }


def measure(name: str, batch_size: int, steps: int) -> dict[str, float]:
    """One contender -> images a second of `steps` steps, and the process's peak memory."""
    package, _, precision = name.partition(" ")
    if package != "pytorch":
        import_keras()  # with oneDNN, as on the command line; the rival as well
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (batch_size, SIZE, SIZE, 3), dtype="uint8")
    labels = generator.integers(0, CLASSES, batch_size)
    make = {"ours": ours, "keras.applications": keras_applications, "pytorch": pytorch}[package]
    train = make(precision, pixels, labels)
    train(2)
    start = time.perf_counter()
    train(steps)
    seconds = time.perf_counter() - start
    return {"images_per_second": steps * batch_size / seconds, "peak_memory_mb": peak_memory_mb()}


def ours(precision: str, pixels: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    """The network, optimizer and loss of `keras-resnet train`."""
    import keras

    from keras_resnet import ResNet50
    from keras_resnet.tasks.classify.training import make_loss
    from keras_resnet.training.optimizer import make_optimizer
    from keras_resnet.training.recipe import Recipe

    keras.config.set_dtype_policy(precision)
    model = ResNet50(classes=CLASSES, classifier_activation=None)
    recipe = Recipe(learning_rate=LEARNING_RATE, momentum=MOMENTUM)
    model.compile(make_optimizer(recipe, model, LEARNING_RATE), make_loss(recipe.loss))
    return keras_steps(model, pixels, keras.utils.to_categorical(labels, CLASSES))


def keras_applications(precision: str, pixels: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    import keras

    keras.config.set_dtype_policy(precision)
    model = keras.applications.ResNet50(weights=None, classes=CLASSES, classifier_activation=None)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, nesterov=True), loss)
    inputs = keras.applications.resnet.preprocess_input(pixels.astype("float32"))
    return keras_steps(model, inputs, keras.utils.to_categorical(labels, CLASSES))


def keras_steps(model: Any, inputs: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    import tensorflow as tf

    from keras_resnet.untuned import untuned

    # `fit` would wait for the pipeline's tuning at its end, up to as long as the steps took: docs/train.md.
    batches = untuned(tf.data.Dataset.from_tensors((inputs, labels)).cache().repeat().prefetch(1))

    def train(steps: int) -> None:
        model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)

    return train


def pytorch(precision: str, pixels: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    import torch

    from keras_resnet.benchmark.rivals import pytorch_network

    torch.set_num_threads(os.cpu_count() or 1)
    model = pytorch_network("resnet50").to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM, nesterov=True, weight_decay=1e-4)
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
    wanted = torch.from_numpy(labels)

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                logits = model(values)
            torch.nn.functional.cross_entropy(logits.float(), wanted).backward()
            optimizer.step()

    return train


if __name__ == "__main__":
    typer.run(main)
