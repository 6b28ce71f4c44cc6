"""Devices and processes of a run, and the precision that suits them."""

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import keras

from keras_resnet.errors import ArgumentError
from keras_resnet.training.recipe import Recipe

AMPERE = (8, 0)  # compute capability of the first NVIDIA GPUs with bfloat16 arithmetic
VOLTA = (7, 0)  # compute capability of the first NVIDIA GPUs with fast float16 arithmetic


@dataclass(frozen=True)
class Devices:
    """The devices of a process, and the group to which it belongs."""

    names: tuple[str, ...]  # all devices of the run
    kind: str  # "cpu" or "gpu"
    process: int  # number of this process, from 0
    processes: int
    precision: str  # name of the dtype policy
    strategy: Any  # tf.distribute.Strategy, keras.distribution.DataParallel or None

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run directory."""
        return self.process == 0

    def __str__(self) -> str:
        processes = f" in {self.processes} processes" if self.processes > 1 else ""
        return f"{len(self.names)} {self.kind.upper()}{processes}, {self.precision}, Keras on {keras.backend.backend()}"

    @contextlib.contextmanager
    def scope(self) -> Any:
        """The scope in which the trained model is built, compiled and fitted."""
        former = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.precision)
        try:
            with contextlib.nullcontext() if self.strategy is None else self.strategy.scope():
                yield
        finally:
            keras.config.set_dtype_policy(former)


def open_devices(recipe: Recipe) -> Devices:
    """Recipe -> devices of this process and of the processes with which it shares the work.

    Raises:
        ArgumentError: There are fewer devices than the recipe asks for, the backend can't train on several machines or
            compile the step for several devices, or the batch can't be divided.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        devices = _tensorflow(recipe)
    elif backend == "jax":
        devices = _jax(recipe)
    else:
        raise ArgumentError(f"training runs on the TensorFlow and JAX backends. Received: KERAS_BACKEND={backend}")
    if recipe.batch_size % len(devices.names):
        raise ArgumentError(
            f"batch_size must be a multiple of the {len(devices.names)} devices. Received: {recipe.batch_size}"
        )
    return devices


def _tensorflow(recipe: Recipe) -> Devices:
    import tensorflow as tf

    if "TF_CONFIG" in os.environ:
        raise ArgumentError(
            "Keras 3 can't train on several machines with TensorFlow (fit fails under MultiWorkerMirroredStrategy, "
            "keras-team/keras issue 20585). Set KERAS_BACKEND=jax, remove TF_CONFIG, and start one process per machine "
            "as docs/many-devices.md shows; one machine with several GPUs works on TensorFlow. "
            f"Received: TF_CONFIG={os.environ['TF_CONFIG'][:100]}"
        )
    gpus, cpus = tf.config.list_logical_devices("GPU"), tf.config.list_logical_devices("CPU")
    kind, there = ("gpu", gpus) if gpus else ("cpu", cpus)
    names = _chosen([device.name for device in there], kind, recipe.devices)
    if recipe.xla == "on" and len(names) > 1:
        raise ArgumentError("xla = on works only with one device on TensorFlow; leave it out, or set devices = 1")
    strategy = tf.distribute.MirroredStrategy(list(names)) if len(names) > 1 else None
    capability = (0, 0)
    if gpus:
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        capability = details.get("compute_capability", capability)
    return Devices(names, kind, 0, 1, precision_for(recipe, kind, capability), strategy)


def _jax(recipe: Recipe) -> Devices:
    import jax

    from keras_resnet.training.processes import join_processes

    join_processes()
    there = jax.devices()
    kind = "cpu" if there[0].platform == "cpu" else "gpu"
    process, processes = jax.process_index(), jax.process_count()
    names = [f"{device.platform}:{device.id}" for device in there]
    if processes == 1:
        names = list(_chosen(names, kind, recipe.devices))
    capability = tuple(int(part) for part in str(getattr(there[0], "compute_capability", "0.0")).split("."))
    strategy = None
    if len(names) > 1:
        # Each process reads its own share of the images, so that Keras must not divide them.
        strategy = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    return Devices(tuple(names), kind, process, processes, precision_for(recipe, kind, capability), strategy)


def _chosen(names: list[str], kind: str, wanted: int) -> tuple[str, ...]:
    """Available devices, number that the recipe asks for -> devices to use."""
    if wanted > len(names):
        raise ArgumentError(f"devices = {wanted}, but this machine has {len(names)} {kind.upper()}: {', '.join(names)}")
    return tuple(names[: wanted or (1 if kind == "cpu" else len(names))])


def precision_for(recipe: Recipe, kind: str, capability: tuple[int, ...]) -> str:
    """Recipe, kind of device, NVIDIA compute capability -> dtype policy; `auto` takes the fastest for the device."""
    if recipe.precision != "auto":
        return recipe.precision
    if kind == "cpu" or capability < VOLTA:
        return "float32"
    return "mixed_bfloat16" if capability >= AMPERE else "mixed_float16"
