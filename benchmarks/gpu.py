"""Images a second, memory and MFU on one NVIDIA GPU: ours with Keras on JAX beside timm's with torch.compile, bfloat16.

Each contender is a process of its own, and they are measured by turns (`keras_resnet.benchmark.compare`). One call
takes `--steps` steps and waits for the device at their end alone; the first call, which compiles, and two calls at the
start of each turn do not count. Figures are medians over the calls of all rounds, with deciles.

- `training`: forward pass, backward pass and SGD with Nesterov momentum, BatchNorm on the statistics of the batch.
- `inference`: logits, BatchNorm on stored statistics.

The images are synthetic and wait on the device: this measures networks, not input pipelines. Ours start from uint8
pixels and normalise them in the network; timm's get float32 images that are normalised and channels last. MFU is 2
FLOPs for each multiply-accumulate of the forward pass, three times as many in training, as a share of the GPU's
published peak, and unknown for a GPU that `PEAK_TFLOPS` lacks. Peak memory is what each framework's allocator counts
from the start of its process, the search for algorithms included; without a GPU it is the process's resident memory.

The contenders of a comparison hold their memory at the same time. The record is written after each comparison; started
again with the same settings, the script takes those that are missing, or in which a contender failed.

It needs JAX, PyTorch, timm, Keras and no TensorFlow, and runs in a checkout, uninstalled. Besides, it needs typer,
safetensors, huggingface-hub and Pillow, and Keras needs absl-py, h5py, ml-dtypes, namex, optree, packaging and rich. To
a machine that can't fetch what it lacks, wheels go in the checkout (here for Python 3.12 on Linux; ml-dtypes comes with
JAX, most of the others with timm and PyTorch's neighbours):

    pip download --no-deps --only-binary :all: --python-version 3.12 --platform manylinux_2_28_x86_64 \\
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest wheels keras==3.15.1 namex optree

and there, in the checkout:

    python -m pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=.:site python benchmarks/gpu.py --out benchmarks/results/gpu.json

To see on a CPU that it runs:

    python benchmarks/gpu.py --networks resnet18 --batch-size 2 --size 64 --steps 2 --rounds 1
"""

import importlib.metadata
import itertools
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from shared import chosen, recorded

from keras_resnet.benchmark.compare import WARMUP, Contender, Result, compare
from keras_resnet.benchmark.rivals import normalised
from keras_resnet.measure.process import Loader, Opened
from keras_resnet.measure.record import write_record
from keras_resnet.quiet import import_keras
from keras_resnet.variants import IMAGENET, VARIANTS

NAME = "gpu"
CLASSES = IMAGENET.classes
PRECISION = "mixed_bfloat16"  # bfloat16 arithmetic on float32 weights, as timm's under autocast
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
NETWORKS = tuple(name for name, variant in VARIANTS.items() if variant.design is IMAGENET)
SOFTWARE = ("keras", "jax", "jaxlib", "torch", "triton", "timm", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13")

# Published peak of dense bfloat16 products, by the name that nvidia-smi gives. NVIDIA's data sheets of H100, H200 and
# L4 state the double, "with sparsity": 1,979, 1,513 and 242; that of A100 states both.
PEAK_TFLOPS: Mapping[str, float] = {
    "NVIDIA H200": 989,
    "NVIDIA H100 80GB HBM3": 989,  # the SXM module
    "NVIDIA H100 PCIe": 756,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA A100-PCIE-40GB": 312,
    "NVIDIA L4": 121,
    "Tesla T4": 65,  # of float16: it has no bfloat16 arithmetic
}


OURS = "ours"
WORKS: Mapping[str, tuple[Contender, ...]] = {
    "training": (
        Contender(
            OURS, "gpu:ours_fit", {}, "Keras' fit on JAX, mixed_bfloat16, optimizer and loss of `keras-resnet train`"
        ),
        Contender(
            "ours, own step", "gpu:ours_step", {}, "the same as a stateless step under jax.jit, its state donated"
        ),
        Contender(
            "timm", "gpu:timm_training", {}, "torch.compile, channels last, autocast to bfloat16, fused SGD", ours=False
        ),
    ),
    "inference": (
        # Not `predict`, which fetches each batch of logits.
        Contender(OURS, "gpu:ours_inference", {}, "stateless_call on JAX under jax.jit, mixed_bfloat16"),
        Contender(
            "timm",
            "gpu:timm_inference",
            {},
            "torch.compile in mode max-autotune, channels last, autocast to bfloat16",
            ours=False,
        ),
    ),
}


def main(
    out: Annotated[
        Path | None, typer.Option(help="JSON record; an existing one with the same settings is gone on with.")
    ] = None,
    networks: Annotated[str, typer.Option(help="With commas between them.")] = "resnet18,resnet50,resnet152",
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    size: Annotated[int, typer.Option(min=32, help="Height and width of the images, a multiple of 32.")] = 224,
    steps: Annotated[int, typer.Option(min=1, help="Steps of one call.")] = 30,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 3,
) -> None:
    """Measures every comparison that the record does not hold yet; prints each contender's figures."""
    if size % IMAGENET.output_stride:
        raise typer.BadParameter(f"--size must be a multiple of {IMAGENET.output_stride}. Received: {size}")
    gpu = find_gpu()
    peak_tflops = PEAK_TFLOPS.get(gpu["name"]) if gpu else None
    settings = {
        "gpu": gpu,
        "peak_tflops": peak_tflops,
        "versions": software(),
        "dtype": PRECISION,
        "batch_size": batch_size,
        "size": size,
        "steps_per_call": steps,
        "warmup_calls": WARMUP,  # of each turn, after the first call of all, which compiles
        "rounds": rounds,
    }
    subjects = list(itertools.product(WORKS, chosen("--networks", networks, NETWORKS)))
    results, failures = recorded(out, NAME, settings), []
    given = {"batch_size": batch_size, "size": size, "steps": steps, "platform": "gpu" if gpu else "cpu"}
    for work, network in subjects:
        subject = f"{work} {network}"
        if subject in results and not results[subject]["failures"]:
            continue
        print(subject, flush=True)
        arguments = {"network": network, **given}
        contenders = [replace(one, arguments=arguments, numbers="bfloat16") for one in WORKS[work]]
        compared = compare(contenders, batch_sizes=(batch_size,), rounds=rounds, tell=partial(print, flush=True))
        tflop, ours = image_tflop(network, work, size), OURS in compared.results
        rows = {
            name: row_of(result, batch_size, steps, tflop, peak_tflops, ours)
            for name, result in compared.results.items()
        }
        results[subject] = {"contenders": rows, "failures": compared.failures}
        failures += [f"{subject}: {why}" for why in compared.failures.values()]
        for name, row in rows.items():
            mfu = "unknown" if row["mfu_percent"] is None else f"{row['mfu_percent']:.1f} %"
            print(f"{subject:20} {name:16} {row['images_per_second']:9.1f} images/s, {mfu} MFU")
        if out is not None:
            write_record(out, NAME, settings, results)
    if failures:
        raise SystemExit("\n".join(failures))


# The machine.


def find_gpu() -> dict[str, Any] | None:
    """-> name, memory and driver of the first GPU that nvidia-smi lists, or None where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    if not listed:
        return None
    name, memory_mib, driver = (word.strip() for word in listed[0].split(","))
    return {"name": name, "memory_mb": round(int(memory_mib) * 1.048576), "driver": driver}


def software() -> dict[str, str]:
    """-> versions of what the contenders compute with, as far as it is installed."""
    installed = {one.name: one.version for one in importlib.metadata.distributions()}
    return {name: installed[name] for name in SOFTWARE if name in installed}


# Figures.


def image_tflop(network: str, work: str, size: int) -> float:
    """-> 10^12 operations that one image takes: 2 for each multiply-accumulate, and twice as many on the way back.

    At another size than the table's, those of all layers but the head follow the area.
    """
    variant = VARIANTS[network]
    head = CLASSES * IMAGENET.filters * 2 ** (len(variant.blocks_per_stage) - 1) * variant.expansion / 1e9
    gmacs = (variant.gmacs - head) * (size / IMAGENET.contract.size) ** 2 + head
    return (3 if work == "training" else 1) * 2 * gmacs / 1e3


def row_of(
    result: Result, batch_size: int, steps: int, tflop: float, peak_tflops: float | None, against_ours: bool
) -> dict[str, Any]:
    """What was measured of a contender, 10^12 operations of an image -> its row of the record."""
    timing = result.timings[batch_size]

    def rate(call_ms: float) -> float:
        return 1e3 * steps * batch_size / call_ms

    images_per_second = rate(timing.latency.median_ms)
    return {
        "images_per_second": images_per_second,
        "images_per_second_p10": rate(timing.latency.p90_ms),
        "images_per_second_p90": rate(timing.latency.p10_ms),
        "calls": timing.latency.repeats,
        "mfu_percent": None if peak_tflops is None else 100 * tflop * images_per_second / peak_tflops,
        "peak_memory_mb": result.peak_memory_mb,
        "first_call_s": result.opening.load_ms / 1e3,  # network built, compiled and run for `steps` steps
        # Rates of ours to those of this one, round by round: times of this one to those of ours, which come first.
        "ours_against_it": asdict(timing.ratio_to_first) if against_ours else None,
        "setting": result.setting,
        "ours": result.ours,
        "numbers": result.numbers,
    }


# Contenders: openers, as `keras_resnet.measure.process` takes them. One call of what they open takes so many steps on
# images of their own, on the device; of those that it is given they make no use.

Call = Callable[[np.ndarray], Any]


def on_jax(prepare: Callable[..., Call]) -> Callable[..., Loader]:
    """(JAX, our network, a batch on the device, steps) -> a call: that as an opener."""

    @wraps(prepare)
    def opener(network: str, batch_size: int, size: int, steps: int, platform: str) -> Loader:
        os.environ["KERAS_BACKEND"] = "jax"
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # it shares the GPU with the others
        import jax

        device = jax.devices(platform)[0]  # an error where there is none of that kind
        import_keras()

        def load() -> Opened:
            call = prepare(jax, our_network(network, size, PRECISION), jax.device_put(batch(batch_size, size)), steps)
            peak_memory_mb = lambda: device.memory_stats()["peak_bytes_in_use"] / 1e6  # noqa: E731
            return Opened(call, (size, size, 3), peak_memory_mb if device.memory_stats() else None)  # a CPU has none

        return load

    return opener


def on_torch(prepare: Callable[..., Call]) -> Callable[..., Loader]:
    """(PyTorch, timm's network, images and classes on the device, steps, device) -> a call: that as an opener."""

    @wraps(prepare)
    def opener(network: str, batch_size: int, size: int, steps: int, platform: str) -> Loader:
        import timm
        import torch

        torch.backends.cudnn.benchmark = True
        device = "cuda" if platform == "gpu" else "cpu"

        def load() -> Opened:
            model = timm.create_model(network).to(device, memory_format=torch.channels_last)
            pixels, labels = batch(batch_size, size)
            images = torch.from_numpy(normalised(pixels)).permute(0, 3, 1, 2).to(device)  # channels stay last in memory
            classes = torch.from_numpy(labels.argmax(axis=1)).to(device)
            run = prepare(torch, model, (images, classes), steps, device)

            def call(given: np.ndarray) -> None:
                run(given)
                if device == "cuda":
                    torch.cuda.synchronize()

            peak_memory_mb = lambda: torch.cuda.max_memory_allocated() / 1e6  # noqa: E731
            return Opened(call, (size, size, 3), peak_memory_mb if device == "cuda" else None)

        return load

    return opener


@on_jax
def ours_fit(jax: Any, model: Any, batch: Any, steps: int) -> Call:
    """Training as a user of the package gets it; what `fit` does once a call besides the steps counts."""
    endless = (batch for _ in itertools.count())

    def train(given: np.ndarray) -> None:
        model.fit(endless, steps_per_epoch=steps, shuffle=False, verbose=0)
        jax.block_until_ready([variable.value for variable in model.variables])

    return train


@on_jax
def ours_step(jax: Any, model: Any, batch: Any, steps: int) -> Call:
    """The same training as one function of its state, with nothing between its steps."""
    model.optimizer.build(model.trainable_variables)

    def loss_of(trained: Any, others: Any, pixels: Any, labels: Any) -> Any:
        logits, others = model.stateless_call(trained, others, pixels, training=True)
        return model.loss(labels, logits), others

    def step(state: Any, pixels: Any, labels: Any) -> Any:
        trained, others, slots = state
        (_, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained, others, pixels, labels)
        trained, slots = model.optimizer.stateless_apply(slots, gradients, trained)
        return trained, others, slots

    compiled = jax.jit(step, donate_argnums=0)
    state = values_of(model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)

    def train(given: np.ndarray) -> None:
        nonlocal state
        for _ in range(steps):
            state = compiled(state, *batch)
        jax.block_until_ready(state)

    return train


@on_jax
def ours_inference(jax: Any, model: Any, batch: Any, steps: int) -> Call:
    weights = values_of(model.trainable_variables, model.non_trainable_variables)
    logits = jax.jit(lambda weights, pixels: model.stateless_call(*weights, pixels, training=False)[0])
    return lambda given: jax.block_until_ready([logits(weights, batch[0]) for _ in range(steps)])


@on_torch
def timm_training(torch: Any, model: Any, batch: Any, steps: int, device: str) -> Call:
    images, classes = batch
    logits = torch.compile(model.train())
    optimizer = torch.optim.SGD(
        model.parameters(), LEARNING_RATE, MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY, fused=True
    )

    def train(given: np.ndarray) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(logits(images), classes)
            loss.backward()
            optimizer.step()

    return train


@on_torch
def timm_inference(torch: Any, model: Any, batch: Any, steps: int, device: str) -> Call:
    logits = torch.compile(model.eval(), mode="max-autotune")

    def predict(given: np.ndarray) -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            for _ in range(steps):
                logits(batch[0])

    return predict


def our_network(network: str, size: int, precision: str) -> Any:
    """-> network of pixels uint8 `[N, H, W, 3]` -> logits, compiled for training as by `keras-resnet train`."""
    import keras

    from keras_resnet.models import BUILDERS
    from keras_resnet.tasks.classify.training import make_loss
    from keras_resnet.training.optimizer import make_optimizer
    from keras_resnet.training.recipe import Recipe

    keras.config.set_dtype_policy(precision)
    model = BUILDERS[network](classes=CLASSES, classifier_activation=None, input_shape=(size, size, 3))
    recipe = Recipe(network=network, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    model.compile(make_optimizer(recipe, model, LEARNING_RATE), make_loss(recipe.loss))
    return model


def values_of(*kinds: Any) -> tuple[list[Any], ...]:
    """Lists of variables -> lists of their values."""
    return tuple([variable.value for variable in kind] for kind in kinds)


def batch(batch_size: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """-> pixels uint8 `[N, H, W, 3]` and one-hot classes float32 `[N, classes]`, random."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (batch_size, size, size, 3), dtype="uint8")
    return pixels, np.eye(CLASSES, dtype="float32")[generator.integers(0, CLASSES, batch_size)]


if __name__ == "__main__":
    typer.run(main)
