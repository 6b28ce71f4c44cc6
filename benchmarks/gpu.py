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
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

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


class Kind(NamedTuple):
    """One kind of contender."""

    name: str
    opener: str  # function of this module
    setting: str


OURS = "ours"
WORKS: Mapping[str, tuple[Kind, ...]] = {
    "training": (
        Kind(OURS, "ours_fit", "Keras' fit on JAX, mixed_bfloat16, optimizer and loss of `keras-resnet train`"),
        Kind("ours, own step", "ours_step", "the same as a stateless step under jax.jit, its state donated"),
        Kind("timm", "timm_training", "torch.compile, channels last, autocast to bfloat16, fused SGD"),
    ),
    "inference": (
        # Not `predict`, which fetches each batch of logits.
        Kind(OURS, "ours_inference", "stateless_call on JAX under jax.jit, mixed_bfloat16"),
        Kind("timm", "timm_inference", "torch.compile in mode max-autotune, channels last, autocast to bfloat16"),
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
    chosen = networks.split(",")
    if not set(chosen) <= set(NETWORKS):
        raise typer.BadParameter(f"--networks must be some of {','.join(NETWORKS)}. Received: {networks}")
    if size % IMAGENET.output_stride:
        raise typer.BadParameter(f"--size must be a multiple of {IMAGENET.output_stride}. Received: {size}")
    # Where the processes of the measurements find this file.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
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
    results = recorded(out, settings)
    failures: list[str] = []
    given = {"batch_size": batch_size, "size": size, "steps": steps, "platform": "gpu" if gpu else "cpu"}
    for work, network in itertools.product(WORKS, chosen):
        subject = f"{work} {network}"
        if subject in results and not results[subject]["failures"]:
            continue
        print(subject, flush=True)
        compared = compare(
            [
                Contender(kind.name, f"gpu:{kind.opener}", {"network": network, **given}, kind.setting)
                for kind in WORKS[work]
            ],
            batch_sizes=(batch_size,),
            rounds=rounds,
            tell=lambda line: print(line, flush=True),
        )
        tflop = image_tflop(network, work, size)
        rows = {
            name: row_of(result, batch_size, steps, tflop, peak_tflops, against_ours=OURS in compared.results)
            for name, result in compared.results.items()
        }
        results[subject] = {"contenders": rows, "failures": compared.failures}
        failures += [f"{subject}: {why}" for why in compared.failures.values()]
        for name, row in rows.items():
            print(
                f"{subject:20} {name:16} {row['images_per_second']:9.1f} images/s, {_percent(row['mfu_percent'])} MFU"
            )
        if out is not None:
            write_record(out, NAME, settings, results)
    if failures:
        raise SystemExit("\n".join(failures))


def recorded(out: Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Record, settings of this run -> the results of earlier runs, which must have had the same settings."""
    if out is None or not out.exists():
        return {}
    record = json.loads(out.read_text())
    if record["name"] != NAME or record["settings"] != settings:
        raise typer.BadParameter(f"--out holds a record of other settings; give another path. Received: {out}")
    results: dict[str, Any] = record["results"]
    return results


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
    }


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} %"


# Contenders: openers, as `keras_resnet.measure.process` takes them. One call of what they open takes so many steps on
# images of their own, on the device; of those that it is given they make no use.


def ours_fit(network: str, batch_size: int, size: int, steps: int, platform: str) -> Loader:
    """Training as a user of the package gets it; what `fit` does once a call besides the steps counts."""
    jax, device = _jax(platform)

    def load() -> Opened:
        model = _our_network(network, size)
        batch = jax.device_put(_batch(batch_size, size))
        endless = (batch for _ in itertools.count())

        def train(given: np.ndarray) -> None:
            model.fit(endless, steps_per_epoch=steps, shuffle=False, verbose=0)
            jax.block_until_ready([variable.value for variable in model.variables])

        return Opened(train, (size, size, 3), _peak_memory_of_jax(device))

    return load


def ours_step(network: str, batch_size: int, size: int, steps: int, platform: str) -> Loader:
    """The same training as one function of its state, with nothing between its steps."""
    jax, device = _jax(platform)

    def load() -> Opened:
        model = _our_network(network, size)
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
        batch = jax.device_put(_batch(batch_size, size))
        kinds = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
        state = tuple([variable.value for variable in kind] for kind in kinds)

        def train(given: np.ndarray) -> None:
            nonlocal state
            for _ in range(steps):
                state = compiled(state, *batch)
            jax.block_until_ready(state)

        return Opened(train, (size, size, 3), _peak_memory_of_jax(device))

    return load


def ours_inference(network: str, batch_size: int, size: int, steps: int, platform: str) -> Loader:
    jax, device = _jax(platform)

    def load() -> Opened:
        model = _our_network(network, size)
        weights = [[v.value for v in kind] for kind in (model.trainable_variables, model.non_trainable_variables)]
        logits = jax.jit(lambda weights, pixels: model.stateless_call(*weights, pixels, training=False)[0])
        pixels, _ = jax.device_put(_batch(batch_size, size))
        return Opened(
            lambda given: jax.block_until_ready([logits(weights, pixels) for _ in range(steps)]),
            (size, size, 3),
            _peak_memory_of_jax(device),
        )

    return load


def timm_training(network: str, batch_size: int, size: int, steps: int, platform: str) -> Loader:
    import timm
    import torch

    device = _torch_device(platform)

    def load() -> Opened:
        model = timm.create_model(network).to(device, memory_format=torch.channels_last).train()
        logits = torch.compile(model)
        optimizer = torch.optim.SGD(
            model.parameters(), LEARNING_RATE, MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY, fused=True
        )
        images, classes = _torch_batch(batch_size, size, device)

        def train(given: np.ndarray) -> None:
            for _ in range(steps):
                optimizer.zero_grad()
                with torch.autocast(device, torch.bfloat16):
                    loss = torch.nn.functional.cross_entropy(logits(images), classes)
                loss.backward()
                optimizer.step()
            _wait_for_torch(device)

        return Opened(train, (size, size, 3), _peak_memory_of_torch(device))

    return load


def timm_inference(network: str, batch_size: int, size: int, steps: int, platform: str) -> Loader:
    import timm
    import torch

    device = _torch_device(platform)

    def load() -> Opened:
        model = timm.create_model(network).to(device, memory_format=torch.channels_last).eval()
        logits = torch.compile(model, mode="max-autotune")
        images, _ = _torch_batch(batch_size, size, device)

        def predict(given: np.ndarray) -> None:
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
                for _ in range(steps):
                    logits(images)
            _wait_for_torch(device)

        return Opened(predict, (size, size, 3), _peak_memory_of_torch(device))

    return load


def _jax(platform: str) -> tuple[Any, Any]:
    """ "gpu" or "cpu" -> JAX, as Keras' backend, and its first device of that kind; an error where it has none."""
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # it shares the GPU with the others
    import jax

    device = jax.devices(platform)[0]
    import_keras()
    return jax, device


def _our_network(network: str, size: int) -> Any:
    """-> network of pixels uint8 `[N, H, W, 3]` -> logits, compiled for training as by `keras-resnet train`."""
    import keras

    from keras_resnet.models import BUILDERS
    from keras_resnet.tasks.classify.training import make_loss
    from keras_resnet.training.optimizer import make_optimizer
    from keras_resnet.training.recipe import Recipe

    keras.config.set_dtype_policy(PRECISION)
    model = BUILDERS[network](classes=CLASSES, classifier_activation=None, input_shape=(size, size, 3))
    recipe = Recipe(network=network, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    model.compile(make_optimizer(recipe, model, LEARNING_RATE), make_loss(recipe.loss))
    return model


def _peak_memory_of_jax(device: Any) -> Callable[[], float] | None:
    if device.memory_stats() is None:  # a CPU
        return None
    return lambda: device.memory_stats()["peak_bytes_in_use"] / 1e6


def _torch_device(platform: str) -> str:
    import torch

    torch.backends.cudnn.benchmark = True
    return "cuda" if platform == "gpu" else "cpu"


def _torch_batch(batch_size: int, size: int, device: str) -> Iterable[Any]:
    """-> normalised images `[N, 3, H, W]`, channels last in memory, and classes `[N]`."""
    import torch

    pixels, labels = _batch(batch_size, size)
    images = torch.from_numpy(normalised(pixels)).permute(0, 3, 1, 2)
    return images.to(device), torch.from_numpy(labels.argmax(axis=1)).to(device)


def _wait_for_torch(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def _peak_memory_of_torch(device: str) -> Callable[[], float] | None:
    import torch

    return (lambda: torch.cuda.max_memory_allocated() / 1e6) if device == "cuda" else None


def _batch(batch_size: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """-> pixels uint8 `[N, H, W, 3]` and one-hot classes float32 `[N, classes]`, random."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (batch_size, size, size, 3), dtype="uint8")
    return pixels, np.eye(CLASSES, dtype="float32")[generator.integers(0, CLASSES, batch_size)]


if __name__ == "__main__":
    typer.run(main)
