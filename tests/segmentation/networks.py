"""What the tests of segmentation networks share: seeded files of weights, and errors relative to the reference."""

from pathlib import Path

import numpy as np
from oracle.seeded import state_dict
from safetensors.numpy import save_file

TOLERANCE = 1e-5  # of max |difference| / max |reference|; measured at most 2.3e-6


def relative_error(result, expected: np.ndarray) -> float:
    result = np.asarray(result)
    assert result.shape == expected.shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    return float(np.abs(result - expected).max() / np.abs(expected).max())


def backbone_file(folder: Path, backbone: str, classes: int = 10) -> Path:
    """torchvision's tensors of the classifier over that backbone as a file."""
    path = folder / f"{backbone}.safetensors"
    save_file(state_dict(backbone, classes), path)
    return path
