"""State dicts of torchvision's ResNet-18, written out by hand, and what the tests of weights ask of a model."""

import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_resnet.errors import WeightsError
from keras_resnet.models import ResNet18
from keras_resnet.variants import VARIANTS
from keras_resnet.weights import load_weights

RESNET18 = VARIANTS["resnet18"]
SHAPE = (32, 32, 3)


def resnet18_shapes(channels: int = 3, classes: int = 1000) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, channels, 7, 7), "bn1": (64,)}
    inputs = 64
    for layer, width in ((1, 64), (2, 128), (3, 256), (4, 512)):
        for block in (0, 1):
            shapes[f"layer{layer}.{block}.conv1.weight"] = (width, inputs, 3, 3)
            shapes[f"layer{layer}.{block}.bn1"] = (width,)
            shapes[f"layer{layer}.{block}.conv2.weight"] = (width, width, 3, 3)
            shapes[f"layer{layer}.{block}.bn2"] = (width,)
            if block == 0 and layer > 1:
                shapes[f"layer{layer}.0.downsample.0.weight"] = (width, inputs, 1, 1)
                shapes[f"layer{layer}.0.downsample.1"] = (width,)
            inputs = width
    return shapes | {"fc.weight": (classes, 512), "fc.bias": (classes,)}


def resnet18_state(seed: int = 0, channels: int = 3, classes: int = 1000) -> dict[str, np.ndarray]:
    """Seeded state dict, every tensor random; the residual branches speak."""
    generator = np.random.default_rng(seed)
    state: dict[str, np.ndarray] = {}
    for name, shape in resnet18_shapes(channels, classes).items():
        if "bn" in name or "downsample.1" in name:
            state[f"{name}.weight"] = generator.uniform(0.4, 1.2, shape)
            state[f"{name}.bias"] = generator.normal(0, 0.2, shape)
            state[f"{name}.running_mean"] = generator.normal(0, 0.2, shape)
            state[f"{name}.running_var"] = generator.uniform(0.5, 2, shape)
        else:
            state[name] = generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    state = {name: value.astype(np.float32) for name, value in state.items()}
    return state | {"bn1.num_batches_tracked": np.array(7)}


def value(model: keras.Model, layer: str, index: int = 0) -> np.ndarray:
    return model.get_layer(layer).get_weights()[index]


def save(tmp_path: Path, state: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "file.safetensors"
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in state.items()}, path)
    return path


def refusal(model: keras.Model, path: Path | str) -> str:
    """Message with which the file is refused; the model is seen to stay untouched."""
    before = [weight.copy() for weight in model.get_weights()]
    with pytest.raises(WeightsError) as refused:
        load_weights(model, VARIANTS[model.name], path)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    return str(refused.value)


def assert_same_weights(model: keras.Model, expected: keras.Model, rtol: float = 0) -> None:
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol)


def load(path: Path | str, **arguments) -> keras.Model:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ResNet18(weights=path, input_shape=SHAPE, **arguments)
