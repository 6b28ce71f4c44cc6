"""The exported ResNet-50 with real ImageNet weights, on real photographs, through the benchmark's entry point."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keras_resnet.export.formats import FORMATS

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_artifacts_keep_the_models_answers(name, shared_data, unpacked_weights, tmp_path):
    """Float: relative error at most 5e-5 and top-1 equal on 500 of 500. Integer: within a point on 400."""
    command = [sys.executable, str(ROOT / "benchmarks" / "export_accuracy.py"), name]
    command += ["--weights", str(unpacked_weights / f"{name}_imagenet_pqf.safetensors")]
    command += ["--images", str(shared_data / "imagenet_500" / "images")]
    command += ["--labels", str(shared_data / "imagenet_500" / "labels.csv"), "--out", str(tmp_path / "record.json")]
    subprocess.run(command, check=True, capture_output=True)
    results = json.loads((tmp_path / "record.json").read_text())["results"]
    for row in FORMATS.values():
        result = results[row.name]
        if row.integer:
            assert abs(result["top1_percent"] - results["model"]["top1_percent"]) <= 1
            assert result["top1_agreement_percent"] >= 94
        else:
            assert result["relative_error"] <= 5e-5
            assert result["top1_agreement_percent_all"] == 100
