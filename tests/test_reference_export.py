"""The exported ResNets with real ImageNet weights, on real photographs."""

import csv

import numpy as np
import pytest

from keras_resnet.export import export
from keras_resnet.export.formats import all_formats, format_named
from keras_resnet.loading import open_network
from keras_resnet.preprocessing import load_images


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_artifacts_keep_the_models_answers(name, shared_data, unpacked_weights, tmp_path):
    """100 photographs calibrate. On the 400 others, float: relative error at most 5e-5, in float16 2e-2 (measured:
    1.3e-2), and top-1 equal on all. Integer: top-1 within a point."""
    network, contract = open_network(name, str(unpacked_weights / f"{name}_imagenet_pqf.safetensors"))
    folder = shared_data / "imagenet_500"
    with (folder / "labels.csv").open() as file:
        entries = list(csv.DictReader(file))
    pixels = load_images([folder / "images" / entry["file"] for entry in entries], contract)
    classes = np.array([int(entry["index"]) for entry in entries])
    calibrates = np.isin(np.arange(500), np.linspace(0, 499, 100).astype(int))
    report = export(
        network,
        tmp_path,
        all_formats(),
        calibration=pixels[calibrates],
        data=(pixels[~calibrates], classes[~calibrates]),
        max_drop=100.0,
        contract=contract,
    )
    expected = report.evaluations["model"].probabilities
    for row in map(format_named, all_formats()):
        accuracy, answers = report.accuracy[row.name], report.evaluations[row.name].probabilities
        assert accuracy.images == 400
        if row.integer:
            assert abs(accuracy.drop_points) <= 1
            assert accuracy.agreement_percent >= 94
        else:
            relative_error = np.abs(answers - expected).max() / np.abs(expected).max()
            assert relative_error <= (2e-2 if row.numbers == "float16" else 5e-5)
            assert accuracy.agreement_percent == 100
