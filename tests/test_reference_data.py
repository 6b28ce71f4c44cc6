"""Real ResNet-18 and ResNet-50, from uint8 pixels on, against what PyTorch float32 gave on real photographs.

The data is not part of the project; where it is absent, these tests skip.
"""

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.models import BUILDERS


@pytest.fixture(scope="module", params=["resnet18", "resnet50"])
def network(request, unpacked_weights: Path):
    """Name, and the network with its real weights, pixels -> logits."""
    path = unpacked_weights / f"{request.param}_imagenet_pqf.safetensors"
    return request.param, BUILDERS[request.param](weights=path, classifier_activation=None)


def relative_error(actual: np.ndarray, reference: np.ndarray) -> float:
    assert actual.shape == reference.shape
    return float(np.abs(actual - reference).max() / np.abs(reference).max())


def test_logits_and_feature_maps_are_those_of_pytorch(network, shared_data):
    name, model = network
    pixels = np.load(shared_data / "reference" / "imagenet_crops48.npz")["x"]
    reference = np.load(shared_data / "reference" / f"{name}_48.npz")
    assert pixels.dtype == np.uint8

    maps = keras_resnet.feature_maps(model)
    both = keras.Model(maps.input, {**maps.output, "logits": model.output})
    outputs = both.predict(pixels, batch_size=16, verbose=0)
    errors = {"logits": relative_error(outputs["logits"], reference["logits"])}
    for layer in (1, 2, 3, 4):
        values = outputs[f"C{layer + 1}"]
        errors[f"layer{layer}_mean"] = relative_error(values.mean(axis=(1, 2)), reference[f"layer{layer}_mean"])
        # The first four channels of the first photograph.
        first = values[0, :, :, :4].transpose(2, 0, 1)
        errors[f"layer{layer}_first"] = relative_error(first, reference[f"layer{layer}_first"])
    assert max(errors.values()) <= 1e-5, errors


@pytest.mark.slow
def test_top5_of_500_photographs(network, shared_data):
    name, model = network
    folder = shared_data / "imagenet_500"
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    expected = json.loads((shared_data / "reference" / "imagenet_top5.json").read_text())[name]["top5_indices"]
    pixels = keras_resnet.load_images([folder / "images" / row["file"] for row in rows])

    logits = model.predict(pixels, batch_size=25, verbose=0)
    top5 = np.argsort(-logits, axis=1)[:, :5]
    wrong = [row["file"] for row, found in zip(rows, top5, strict=True) if list(found) != expected[int(row["index"])]]
    assert wrong == []
