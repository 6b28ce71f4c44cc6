"""Precision by device, and training on several devices of one machine."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_run import write_arrays

from keras_resnet.errors import ArgumentError
from keras_resnet.training.devices import open_devices, precision_for
from keras_resnet.training.recipe import Recipe

# Two CPUs that TensorFlow takes for two devices: what they compute is what two GPUs would.
JOB = """
import json, os, sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tiny_run import tiny
from keras_resnet.training.fit import Listener, resume, train

folder = Path(sys.argv[1])


class Stop(Exception):
    pass


def losses(result):
    return [[row[key] for key in ("loss", "val_loss", "val_top1_percent")] for row in result.history]


def stop(standing):
    if standing.step == 4:
        raise Stop


told, found = [], {}
for name, devices in (("one", 1), ("two", 2)):
    keys = {"devices": devices, "freeze_batch_norm": True, "ema_momentum": 0.5, "checkpoint_steps": 2}
    recipe = tiny(folder / "data.npz", **keys)
    found[name] = losses(train(recipe, folder / name, Listener(say=told.append)))
try:
    train(recipe, folder / "stopped", Listener(show=stop))
except Stop:
    found["resumed"] = losses(resume(folder / "stopped"))
print(json.dumps([found, told]))
"""


@pytest.mark.parametrize(
    ("kind", "capability", "precision"),
    [
        ("cpu", (0, 0), "float32"),
        ("gpu", (0, 0), "float32"),  # not told
        ("gpu", (6, 1), "float32"),  # Pascal
        ("gpu", (7, 0), "mixed_float16"),  # Volta
        ("gpu", (7, 5), "mixed_float16"),  # Turing
        ("gpu", (8, 0), "mixed_bfloat16"),  # Ampere
        ("gpu", (9, 0), "mixed_bfloat16"),  # Hopper
        ("gpu", (12, 0), "mixed_bfloat16"),
    ],
)
def test_the_precision_that_suits_a_device(kind: str, capability: tuple[int, int], precision: str) -> None:
    assert precision_for(Recipe(), kind, capability) == precision
    for wanted in ("float32", "mixed_float16", "mixed_bfloat16"):
        assert precision_for(Recipe(precision=wanted), kind, capability) == wanted


def test_one_cpu_is_taken_unless_more_are_asked_for() -> None:
    devices = open_devices(Recipe())
    assert (len(devices.names), devices.kind, devices.process, devices.processes) == (1, "cpu", 0, 1)
    assert devices.is_first
    assert (devices.precision, devices.strategy) == ("float32", None)
    assert str(devices) == "1 CPU, float32, Keras on tensorflow"
    with pytest.raises(ArgumentError, match="devices = 2, but this machine has 1 CPU: /device:CPU:0"):
        open_devices(Recipe(devices=2))


def test_several_devices_on_tensorflow_do_not_take_a_compiled_step(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    there = {"CPU": [SimpleNamespace(name=f"/device:CPU:{index}") for index in range(2)], "GPU": []}
    monkeypatch.setattr(tf.config, "list_logical_devices", there.__getitem__)
    with pytest.raises(ArgumentError, match="xla = on works only with one device on TensorFlow; leave it out, or set"):
        open_devices(Recipe(devices=2, xla="on"))
    assert len(open_devices(Recipe(devices=1, xla="on")).names) == 1


def test_several_machines_on_tensorflow_are_sent_to_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')
    with pytest.raises(ArgumentError, match=r"Set KERAS_BACKEND=jax, remove TF_CONFIG, .* Received: TF_CONFIG=\{"):
        open_devices(Recipe())


@pytest.mark.slow
def test_two_devices_train_as_one_does(tmp_path: Path) -> None:
    write_arrays(tmp_path / "data.npz")
    job = [sys.executable, "-c", JOB, str(tmp_path)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run(job, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    found, told = json.loads(run.stdout.splitlines()[-1])
    assert any(sentence.startswith("training on 2 CPU, float32") for sentence in told)
    # Frozen, since BatchNorm takes the statistics of each device's half of the batch.
    np.testing.assert_allclose(found["two"], found["one"], rtol=1e-5)
    assert found["resumed"] == found["two"]
