"""Images a second that training of ResNet-50 gets: ours, keras.applications' under plain `fit`, PyTorch's.

Each turn is a process of its own; all train with SGD and momentum on the same synthetic images, from pixels in memory
on. PyTorch's network is transformers' ResNet-50 (`pip install transformers`), channels last, under autocast where it
computes in bfloat16; it gets normalised pixels, for its package normalises outside the network.

    python benchmarks/training_speed.py --out benchmarks/results/training_speed.json
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from gpu import CLASSES, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, batch, our_network
from shared import chosen, finish

from keras_resnet.measure.memory import peak_memory_mb
from keras_resnet.measure.process import in_a_process
from keras_resnet.measure.turns import by_turns, ratio, spread
from keras_resnet.quiet import import_keras

SIZE = 224
OURS = "ours float32"
# By name: the function that makes it, and the precision as that names it.
CONTENDERS = {
    OURS: ("ours", "float32"),
    "ours mixed_bfloat16": ("ours", "mixed_bfloat16"),
    "keras.applications float32": ("keras_applications", "float32"),
    "keras.applications mixed_bfloat16": ("keras_applications", "mixed_bfloat16"),
    "pytorch float32": ("pytorch", "float32"),
    "pytorch bfloat16": ("pytorch", "bfloat16"),
}

Train = Callable[[int], None]  # takes so many steps


def main(
    out: Annotated[Path | None, typer.Option(help="Record to write.")] = None,
    batch_size: int = 16,
    steps: Annotated[int, typer.Option(help="Timed steps of each turn, after two that warm up.")] = 4,
    rounds: int = 3,
    only: Annotated[str, typer.Option(help="Names of what is measured, with commas between them.")] = "",
) -> None:
    """Measures each by turns; prints medians, extremes and, round by round, the ratio of ours in float32 to each."""
    sizes = {"batch_size": batch_size, "steps": steps}
    subjects = {
        name: partial(in_a_process, "training_speed:measure", {"name": name, **sizes})
        for name in chosen("--only", only, CONTENDERS)
    }
    turns = by_turns(subjects, rounds)
    rates = {name: [turn["images_per_second"] for turn in each] for name, each in turns.items()}
    results = {}
    for name, each in turns.items():
        figures = spread(rates[name])
        results[name] = {
            "images_per_second": figures.pop("median"),
            **figures,
            "ours_against_it": ratio(rates.get(OURS, rates[name]), rates[name])["median"],
            "peak_memory_mb": statistics.median(turn["peak_memory_mb"] for turn in each),
            "ours": CONTENDERS[name][0] == "ours",
            "numbers": CONTENDERS[name][1].removeprefix("mixed_"),
        }
    finish(out, "training_speed", {"network": "ResNet-50", "size": SIZE, **sizes, "rounds": rounds}, results)


def measure(name: str, batch_size: int, steps: int) -> dict[str, float]:
    """One contender -> images a second of `steps` steps, and the process's peak memory."""
    make, precision = CONTENDERS[name]
    if make != "pytorch":
        import_keras()  # with oneDNN, as on the command line; the rival as well
    train = globals()[make](precision, *batch(batch_size, SIZE))
    train(2)
    start = time.perf_counter()
    train(steps)
    seconds = time.perf_counter() - start
    return {"images_per_second": steps * batch_size / seconds, "peak_memory_mb": peak_memory_mb()}


def ours(precision: str, pixels: np.ndarray, labels: np.ndarray) -> Train:
    return keras_steps(our_network("resnet50", SIZE, precision), pixels, labels)


def keras_applications(precision: str, pixels: np.ndarray, labels: np.ndarray) -> Train:
    import keras

    keras.config.set_dtype_policy(precision)
    model = keras.applications.ResNet50(weights=None, classes=CLASSES, classifier_activation=None)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, nesterov=True), loss)
    return keras_steps(model, keras.applications.resnet.preprocess_input(pixels.astype("float32")), labels)


def keras_steps(model: Any, inputs: np.ndarray, labels: np.ndarray) -> Train:
    import tensorflow as tf

    from keras_resnet.untuned import untuned

    # `fit` would wait for the pipeline's tuning at its end, up to as long as the steps took: docs/train.md.
    batches = untuned(tf.data.Dataset.from_tensors((inputs, labels)).cache().repeat().prefetch(1))
    return lambda steps: model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)


def pytorch(precision: str, pixels: np.ndarray, labels: np.ndarray) -> Train:
    import torch

    from keras_resnet.benchmark.rivals import pytorch_network

    torch.set_num_threads(os.cpu_count() or 1)
    model = pytorch_network("resnet50").to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY)
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
    wanted = torch.from_numpy(labels.argmax(axis=1))

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
