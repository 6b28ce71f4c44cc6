"""Plain and residual networks of the same depths on CIFAR-10, by one recipe (He et al. 2015, section 4.2, figure 6).

A plain network is the residual one without its shortcuts: the same convolutions, parameters and initial weights. The
last BatchNorm scale of a block starts at one in both, as in the paper; at zero a plain network would never start.

Every epoch is recorded and checkpointed: a run that was killed goes on where it was when it is started again, and more
depths or seeds can be added later. The PNG beside the record shows the training error.

    python benchmarks/depth.py --train train.npz --test test.zip --epochs 60 --out benchmarks/results/depth.json
"""

import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as on the command line

import keras
import numpy as np
import typer
from cifar10 import CLASSES, SHIFT, Images, augmented, read_images
from keras import layers
from results_plots import panels
from shared import recorded

from keras_resnet import layer_names
from keras_resnet.blocks import conv_bn, padded_shortcut
from keras_resnet.heads.classification import classification_head
from keras_resnet.inference import predict
from keras_resnet.measure.record import write_record
from keras_resnet.optional import require
from keras_resnet.preprocessing import normalisation_layer
from keras_resnet.untuned import batches_of_arrays
from keras_resnet.whole_files import whole_file

NAME = "depth"
KINDS = ("plain", "residual")
BATCH_SIZE = 128
LEARNING_RATE = 0.1  # after the warm-up, falling to zero along a cosine
WARMUP_EPOCHS = 5
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4

Results = dict[str, dict[str, list[dict[str, Any]]]]  # by network ("plain20"), by seed: one row an epoch


def main(
    train: Annotated[Path, typer.Option(help="NumPy archive with x, uint8 [N, 32, 32, 3], and y; or as --test.")],
    test: Annotated[Path, typer.Option(help="NumPy archive, or zip archive of images in folders of their class.")],
    out: Annotated[Path, typer.Option(help="JSON record; an existing one with the same settings is gone on with.")],
    depths: Annotated[str, typer.Option(help="Layers, 6n + 2, with commas between them.")] = "20,32,56,110",
    epochs: Annotated[int, typer.Option(min=2)] = 60,
    seeds: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Trains every network that the record does not hold yet, and draws what it holds."""
    require("matplotlib", "plots")
    layer_counts = _depths(depths)
    images, held_out = read_images(train), read_images(test)
    settings = {
        "train": train.name,
        "train_images": len(images[0]),
        "test": test.name,
        "test_images": len(held_out[0]),
        "epochs": epochs,
        "warmup_epochs": _warmup_epochs(epochs),
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "momentum": MOMENTUM,
        "weight_decay": WEIGHT_DECAY,
        "shift_pixels": SHIFT,
    }
    results: Results = recorded(out, NAME, settings)
    checkpoints = out.with_name(f".{out.stem}.checkpoints")
    for seed, depth, kind in itertools.product(range(seeds), layer_counts, KINDS):
        name = f"{kind}{depth}"
        checkpoint = checkpoints / f"{name}-{seed}.keras"
        rows = results.setdefault(name, {}).setdefault(str(seed), [])
        for row in run(depth, kind == "residual", images, held_out, epochs, seed, checkpoint, rows):
            print(name, "seed", seed, json.dumps(row), flush=True)
            write_record(out, NAME, settings, results)
            draw(results, out.with_suffix(".png"))
    shutil.rmtree(checkpoints, ignore_errors=True)


def _depths(text: str) -> list[int]:
    try:
        depths = [int(word) for word in text.split(",")]
    except ValueError:
        depths = []
    if not depths or any(depth < 8 or depth % 6 != 2 for depth in depths):
        raise typer.BadParameter(f"--depths must be numbers of layers 6n + 2, as 20,32. Received: {text}")
    return depths


# The networks.


def network(depth: int, residual: bool) -> keras.Model:
    """Layers, with or without shortcuts -> network for CIFAR: pixels `[N, 32, 32, 3]` -> logits `[N, 10]`."""
    image = keras.Input((32, 32, 3), name=layer_names.IMAGE)
    x = conv_bn(normalisation_layer(3)(image), 16, 3, name=layer_names.STEM)
    for stage, filters in ((2, 16), (3, 32), (4, 64)):
        for index in range(1, (depth - 2) // 6 + 1):
            name, stride = layer_names.block(stage, index), 2 if stage > 2 and index == 1 else 1
            y = conv_bn(x, filters, 3, stride=stride, name=layer_names.numbered(name, 1))
            y = conv_bn(y, filters, 3, relu=False, name=layer_names.numbered(name, 2))
            if residual:
                y = layers.Add(name=layer_names.add(name))([y, padded_shortcut(x, filters, stride, name)])
            x = layers.ReLU(name=layer_names.out(name))(y)
    name = f"{'residual' if residual else 'plain'}{depth}"
    return keras.Model(image, classification_head(x, len(CLASSES), None), name=name)


# Training.


def run(
    depth: int, residual: bool, train: Images, test: Images, epochs: int, seed: int, checkpoint: Path, rows: list[Any]
) -> Iterator[dict[str, Any]]:
    """Trains a network from its checkpoint or from the start; each epoch's row is appended to `rows`, and yielded.

    An epoch that was recorded and not checkpointed is done again.
    """
    if len(rows) == epochs:
        return
    steps = math.ceil(len(train[0]) / BATCH_SIZE)
    if checkpoint.exists():
        model = keras.saving.load_model(checkpoint)  # the optimizer's state included
    else:
        keras.utils.set_random_seed(seed)
        model = network(depth, residual)
        compile_model(model, epochs, steps)
    first = int(model.optimizer.iterations) // steps
    del rows[first:]
    for epoch in range(first, epochs):
        start = time.perf_counter()
        pixels, classes = augmented(train, seed, epoch)
        history = model.fit(batches_of_arrays(pixels, classes, BATCH_SIZE), shuffle=False, verbose=0).history
        seconds = time.perf_counter() - start
        right = predict(model, test[0], BATCH_SIZE).argmax(axis=1) == test[1]
        loss = history["loss"][0]
        rows.append(
            {
                "epoch": epoch + 1,
                "train_loss": loss if math.isfinite(loss) else None,
                # Over the epoch, in training mode, augmented.
                "train_top1_percent": round(100 * history["accuracy"][0], 3),
                "test_top1_percent": round(100 * float(right.mean()), 3),
                "train_seconds": round(seconds, 1),
            }
        )
        yield rows[-1]
        if epoch + 1 < epochs:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(checkpoint, suffix=".keras") as partial:
                model.save(partial)
    checkpoint.unlink(missing_ok=True)


def compile_model(model: keras.Model, epochs: int, steps: int) -> None:
    """Network, epochs, steps in each -> the recipe: SGD with momentum, linear warm-up, then half a cosine."""
    warmup = steps * _warmup_epochs(epochs)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, epochs * steps - warmup, warmup_target=LEARNING_RATE, warmup_steps=warmup
    )
    # Keras' decay bypasses the momentum, by which that of the paper acts 1 / (1 - momentum) times as strongly.
    optimizer = keras.optimizers.SGD(schedule, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY / (1 - MOMENTUM))
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])


def _warmup_epochs(epochs: int) -> int:
    return min(WARMUP_EPOCHS, epochs // 2)


# The picture.


def draw(results: Results, path: Path) -> None:
    """Results -> PNG: training error by epoch, plain networks on the left, residual ones on the right.

    A line is the mean over the seeds, and the band about it reaches from the lowest to the highest.
    """
    figure, axes = panels(2, sharey=True)
    depths = sorted({int(name.removeprefix(kind)) for kind in KINDS for name in results if name.startswith(kind)})
    for panel, kind in zip(axes, KINDS, strict=True):
        for index, depth in enumerate(depths):
            runs = [rows for rows in results.get(f"{kind}{depth}", {}).values() if rows]
            length = min(map(len, runs), default=0)
            errors = np.array([[100 - row["train_top1_percent"] for row in rows[:length]] for rows in runs])
            if length:
                epochs, colour = np.arange(1, length + 1), f"C{index}"
                panel.plot(epochs, errors.mean(axis=0), color=colour, label=f"{depth} layers")
                panel.fill_between(epochs, errors.min(axis=0), errors.max(axis=0), color=colour, alpha=0.2, linewidth=0)
                panel.legend()
        panel.set(title=kind, xlabel="epoch", ylim=(0, None))
        panel.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("training error, %")
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


if __name__ == "__main__":
    typer.run(main)
