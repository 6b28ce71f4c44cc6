"""ResNet-18 and ResNet-20 on TensorFlow, JAX and PyTorch: a process for each other backend, since a process has one."""

import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from backend_job import CLASSES, DETECTOR, RELOADED, SEGMENTATION_SIZE, SIZES, main
from detectors import check_detections
from oracle.seeded import pixels, segmentation_state_dict, state_dict

JOB = Path(__file__).with_name("backend_job.py")
BACKENDS = ("tensorflow", "jax", "torch")
TOLERANCE = 5e-6  # of max |difference| / max |reference|; measured at most 7.5e-7, before and after a training step
TRAINED = {"resnet18": 62 + 40, "resnet20": 59 + 38}  # trainable variables, and the statistics of BatchNorm


@functools.cache
def run(backend: str, part: str = "networks") -> dict[str, dict[str, np.ndarray]]:
    """Backend, "networks" or "detector" -> by network, what `backend_job.py` measured under it; runs once."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the package {backend} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        if backend == keras.backend.backend():
            main(Path(folder), part)
        else:
            environment = {**os.environ, "KERAS_BACKEND": backend}
            command = [sys.executable, str(JOB), folder, part]
            job = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
            assert job.returncode == 0, f"the job under {backend} failed:\n{job.stderr[-4000:]}"
        return {file.stem: dict(np.load(file)) for file in Path(folder).glob("*.npz")}


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    assert result.shape == expected.shape
    assert np.isfinite(result).all()
    return float(np.abs(result - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("network", SIZES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_predicts(backend: str, network: str) -> None:
    results = run(backend)[network]
    assert results["backend"] == backend
    assert results["logits"].shape == (3, CLASSES)
    assert results["logits"].dtype == np.float32
    assert relative_error(results["logits_of_one"], results["logits"][1:2]) <= TOLERANCE


@pytest.mark.parametrize("network", SIZES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_trains_a_step(backend: str, network: str) -> None:
    results = run(backend)[network]
    assert np.isfinite(results["loss"])
    assert results["loss"] > 0
    assert results["change"].size == TRAINED[network]
    assert np.isfinite(results["change"]).all()
    still = results["change_names"][results["change"] == 0]
    assert still.size == 0, f"neither trained nor updated: {still}"
    assert relative_error(results["trained_logits"], results["logits"]) > 0.01


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", ["reloaded_keras", "reloaded_weights_h5", "built_from_keras", "built_from_weights_h5"])
def test_saves_and_reloads(backend: str, way: str) -> None:
    results = run(backend)[RELOADED]
    assert relative_error(results[way], results["called_logits"]) <= 1e-6  # measured 0
    assert relative_error(results["called_logits"], results["trained_logits"][1:2]) <= TOLERANCE


@pytest.mark.parametrize("network", SIZES)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_equals_tensorflow(backend: str, network: str) -> None:
    results, expected = run(backend)[network], run("tensorflow")[network]
    assert relative_error(results["logits"], expected["logits"]) <= TOLERANCE
    assert relative_error(results["loss"], expected["loss"]) <= TOLERANCE
    assert relative_error(results["trained_logits"], expected["trained_logits"]) <= TOLERANCE
    assert relative_error(results["change"], expected["change"]) <= TOLERANCE


@pytest.mark.parametrize("network", SIZES)
def test_equals_the_oracle(network: str) -> None:
    pytest.importorskip("torch", reason="the oracle needs torch")
    from oracle.pytorch_forward import forward

    size = SIZES[network]
    expected = forward(state_dict(network, CLASSES), pixels(3, size, size))["logits"]
    assert relative_error(run("tensorflow")[network]["logits"], expected) <= TOLERANCE


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_segmentation_equals_tensorflow(backend: str) -> None:
    results, expected = run(backend)["deeplabv3"], run("tensorflow")["deeplabv3"]
    for key in ("logits", "loss"):
        assert relative_error(results[key], expected[key]) <= TOLERANCE, key
    # The BatchNorm of the pooled branch normalises two values by their variance; measured 1.6e-5.
    assert relative_error(results["trained_logits"], expected["trained_logits"]) <= 1e-4
    assert relative_error(results["trained_logits"], results["logits"]) > 0.01


def test_segmentation_equals_the_oracle() -> None:
    pytest.importorskip("torch", reason="the oracle needs torch")
    from oracle.segmentation_forward import torchvision_forward

    state = segmentation_state_dict("deeplabv3", "resnet18", CLASSES)
    expected = torchvision_forward(state, pixels(2, *SEGMENTATION_SIZE))["logits"]
    assert relative_error(run("tensorflow")["deeplabv3"]["logits"], expected) <= TOLERANCE


# On TensorFlow: detection/test_detectors.py.
@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_detection_equals_torchvision(backend: str) -> None:
    check_detections(run(backend, "detector")["detector"], DETECTOR)
